/* Programs that end while their threads allocate. Run with a way of ending it does that; run with "all" and a number it
 * runs itself that many times for each way, and checks what the shell would see of it.
 * Ways: return, exit, _exit, quick_exit, abort, thread_exit, thread_abort, main_leaves, fault, handlers. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { THREADS = 4, SECONDS = 60 };
static atomic_int busy, stop;

static void *allocate(void *number) {
    uint64_t random = (uintptr_t)number * 77 + 3;
    char *held[64] = {0};
    for (unsigned long n = 0; !atomic_load(&stop); n++) {
        size_t at = next_random(&random) % 64, size = random_size(&random) / 4 + 1;
        free(held[at]);
        CHECK((held[at] = malloc(size)), "malloc(%zu)", size);
        held[at][size - 1] = 1;
        if (n == 20) atomic_fetch_add(&busy, 1);
    }
    for (size_t i = 0; i < 64; i++) free(held[i]);
    return NULL;
}

static char *kept[100];
static void at_end(void) {
    for (size_t i = 0; i < 100; i++) {
        CHECK(differs(kept[i], i * 50, i * 50, i) < 0, "a block changed before the end");
        free(kept[i]);
        free(calloc(i, 3000));
    }
}

static void *end_from_thread(void *way) {
    if (!strcmp(way, "thread_exit")) exit(7);
    abort();
}

static void *end_last(void *unused) {
    usleep(2000);
    atomic_store(&stop, 1); /* the last thread that ends ends the program, with status 0 */
    return unused;
}

static int end(const char *way) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(SECONDS);
    for (size_t i = 0; i < 100; i++) fill(kept[i] = malloc(i * 50), i * 50, i);
    pthread_t thread;
    for (uintptr_t t = 0; t < THREADS; t++) {
        CHECK(pthread_create(&thread, NULL, allocate, (void *)t) == 0, "pthread_create");
        pthread_detach(thread);
    }
    while (atomic_load(&busy) < 2) usleep(100);
    if (!strcmp(way, "return")) return 7;
    if (!strcmp(way, "exit")) exit(7);
    if (!strcmp(way, "_exit")) _exit(7);
    CHECK(at_quick_exit(at_end) == 0, "at_quick_exit");
    if (!strcmp(way, "quick_exit")) quick_exit(7);
    if (!strcmp(way, "handlers")) {
        CHECK(atexit(at_end) == 0, "atexit");
        exit(7);
    }
    if (!strcmp(way, "abort")) abort();
    if (!strcmp(way, "fault")) raise(SIGSEGV);
    if (!strcmp(way, "main_leaves")) {
        CHECK(atexit(at_end) == 0, "atexit");
        CHECK(pthread_create(&thread, NULL, end_last, NULL) == 0, "pthread_create");
        pthread_detach(thread);
        pthread_exit(NULL);
    }
    CHECK(pthread_create(&thread, NULL, end_from_thread, (void *)(uintptr_t)way) == 0, "pthread_create");
    allocate((void *)9);
    return 1;
}

int main(int argc, char **argv) {
    static const struct { const char *way; int code, signal; } WAYS[] = {
        {"return", 7, 0}, {"exit", 7, 0}, {"_exit", 7, 0}, {"quick_exit", 7, 0}, {"handlers", 7, 0}, {"thread_exit", 7, 0},
        {"main_leaves", 0, 0}, {"abort", 0, SIGABRT}, {"thread_abort", 0, SIGABRT}, {"fault", 0, SIGSEGV}};
    CHECK(argc > 1, "how?");
    if (strcmp(argv[1], "all")) return end(argv[1]);
    unsigned long times = argument(argc, argv, 2, 10), ended = 0;
    for (size_t w = 0; w < sizeof WAYS / sizeof *WAYS; w++) {
        for (unsigned long n = 0; n < times; n++, ended++) {
            pid_t pid = fork();
            CHECK(pid >= 0, "fork");
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                execl(argv[0], argv[0], WAYS[w].way, (char *)NULL);
                _exit(98);
            }
            int status;
            CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
            int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1, signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
            CHECK(signal != SIGALRM, "%s hung in run %lu", WAYS[w].way, n);
            CHECK(signal == WAYS[w].signal && (signal || code == WAYS[w].code), "%s in run %lu: code %d, signal %d", WAYS[w].way, n, code, signal);
        }
    }
    printf("ok %lu\n", ended);
    return 0;
}
