/* Forks while other threads allocate. Every child allocates, frees what it inherited, starts a thread and exits.
 * Argument: number of forks. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 3, HELD = 256, INHERITED = 64, CHILD_SECONDS = 60 };

static atomic_int stop;
static _Atomic(char *) exchange[64];

static void *churn(void *number) {
    uint64_t random = 77 + (uintptr_t)number;
    char *held[HELD] = {0};
    while (!atomic_load(&stop)) {
        size_t at = next_random(&random) % HELD;
        size_t size = next_random(&random) % 64 ? next_random(&random) % 2000 : next_random(&random) % 300000;
        free(held[at]);
        held[at] = malloc(size + 1);
        CHECK(held[at], "malloc(%zu)", size);
        held[at][size] = 1;
        if (at % 4 == 0) held[at] = atomic_exchange(&exchange[at / 4], held[at]); /* frees of other threads' blocks */
    }
    for (size_t i = 0; i < HELD; i++) free(held[i]);
    return NULL;
}

static void *in_child_thread(void *block) {
    CHECK(differs(block, 500, 500, 8) < 0, "the thread sees another block");
    free(block);
    for (size_t size = 1; size < 100000; size *= 3) {
        char *own = calloc(1, size);
        CHECK(own && own[size - 1] == 0, "calloc(%zu) in a child's thread", size);
        free(own);
    }
    return malloc(300);
}

static void child(unsigned long number, char **inherited) {
    alarm(CHILD_SECONDS); /* a child that hangs dies of SIGALRM, which the parent reports */
    uint64_t random = number + 1;
    char *blocks[40];
    size_t sizes[40];
    for (size_t i = 0; i < 40; i++) {
        sizes[i] = i == 39 ? 3 << 20 : next_random(&random) % 5000;
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i], "malloc(%zu) in a child", sizes[i]);
        fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < INHERITED; i++) {
        CHECK(differs(inherited[i], 100 + i * 50, 100 + i * 50, i) < 0, "an inherited block changed");
        if (i % 2) {
            free(inherited[i]);
        } else {
            CHECK((inherited[i] = realloc(inherited[i], 9000)), "realloc of an inherited block");
        }
    }
    char *passed = malloc(500);
    fill(passed, 500, 8);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, in_child_thread, passed);
    CHECK(error == 0, "pthread_create in a child: %d", error);
    void *result;
    CHECK(pthread_join(thread, &result) == 0, "pthread_join in a child");
    free(result);
    for (size_t i = 0; i < 40; i++) {
        CHECK(differs(blocks[i], sizes[i], sizes[i], i) < 0, "a child's block changed");
        free(blocks[i]);
    }
    if (number % 2) _exit(0);
    exit(0); /* with all exit handlers */
}

static void reap(void) {
    int status;
    CHECK(wait(&status) > 0, "wait");
    CHECK(WIFEXITED(status), "a child was killed by signal %d", WTERMSIG(status));
    CHECK(WEXITSTATUS(status) == 0, "a child failed with %d", WEXITSTATUS(status));
}

int main(int argc, char **argv) {
    unsigned long forks = argument(argc, argv, 1, 1000);
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], NULL, churn, (void *)t) == 0, "pthread_create");
    char *inherited[INHERITED];
    for (size_t i = 0; i < INHERITED; i++) fill(inherited[i] = malloc(100 + i * 50), 100 + i * 50, i);
    unsigned long running = 0;
    for (unsigned long n = 0; n < forks; n++) {
        pid_t pid = fork();
        CHECK(pid >= 0, "fork %lu", n);
        if (pid == 0) child(n, inherited);
        if (++running == 3) reap(), running--;
    }
    while (running--) reap();
    for (size_t i = 0; i < INHERITED; i++) CHECK(differs(inherited[i], 100 + i * 50, 100 + i * 50, i) < 0, "a child changed its parent's block");
    atomic_store(&stop, 1);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    printf("ok %lu\n", forks);
    return 0;
}
