/* Forks under handlers that allocate: those that the program registers, after the allocator's, and those of a library
 * that registered before it (early_handlers.c, preloaded). Other threads hold the allocator's locks all the while: they
 * take and free large blocks and have memory given back. Arguments: forks, whether the early library must be there. */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 4, CHILD_SECONDS = 60, HELD = 24 };

static atomic_int stop;
static unsigned long prepared, in_parent, in_child;
static char *handed;

static void use_heap(size_t most) {
    char *blocks[HELD];
    for (size_t i = 0; i < HELD; i++) {
        size_t size = (i * i * 7919) % most + 16;
        CHECK((blocks[i] = malloc(size)), "malloc(%zu)", size);
        fill(blocks[i], 16, i);
    }
    for (size_t i = 0; i < HELD; i++) {
        CHECK((blocks[i] = realloc(blocks[i], (i * 104729) % most + 16)), "realloc");
        CHECK(differs(blocks[i], 16, 16, i) < 0, "a block changed");
        free(blocks[i]);
    }
}

/* What is allocated before the fork is freed on both sides after it. */
static void prepare(void) {
    use_heap(6000);
    CHECK((handed = malloc(400000)), "malloc before a fork");
    fill(handed, 400000, 5);
    prepared++;
}

static void after(unsigned long *count) {
    CHECK(differs(handed, 400000, 400000, 5) < 0, "the block of the handler before changed");
    free(handed);
    use_heap(90000);
    ++*count;
}

static void parent(void) { after(&in_parent); }
static void child(void) { after(&in_child); }

static void *hold_locks(void *number) {
    uint64_t random = 5 + (uintptr_t)number;
    char *held[HELD] = {0};
    while (!atomic_load(&stop)) {
        size_t at = next_random(&random) % HELD;
        free(held[at]);
        size_t size = next_random(&random) % 8 ? 140000 + next_random(&random) % 900000 : next_random(&random) % 30000;
        CHECK((held[at] = malloc(size + 1)), "malloc(%zu)", size);
        held[at][0] = held[at][size] = 1;
        if (next_random(&random) % 64 == 0) malloc_trim(0);
    }
    for (size_t i = 0; i < HELD; i++) free(held[i]);
    return NULL;
}

static void *in_thread(void *unused) {
    use_heap(300000);
    return unused;
}

static void be_child(unsigned long number) {
    alarm(CHILD_SECONDS);
    use_heap(300000);
    if (number % 3 == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0, "pthread_create in a child");
        CHECK(pthread_join(thread, NULL) == 0, "pthread_join in a child");
    }
    if (number % 17 == 0) {
        pid_t pid = fork(); /* with all handlers again */
        CHECK(pid >= 0, "fork in a child");
        if (pid == 0) use_heap(300000), _exit(0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a grandchild ended with %d", status);
    }
    CHECK(in_child == 1, "the child's handler ran %lu times", in_child);
    _exit(0);
}

int main(int argc, char **argv) {
    unsigned long forks = argument(argc, argv, 1, 1000);
    CHECK(pthread_atfork(prepare, parent, child) == 0, "pthread_atfork");
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], NULL, hold_locks, (void *)t) == 0, "pthread_create");
    for (unsigned long n = 0; n < forks; n++) {
        pid_t pid = fork();
        CHECK(pid >= 0, "fork %lu", n);
        if (pid == 0) be_child(n);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        CHECK(WIFEXITED(status), "a child was killed by signal %d", WTERMSIG(status));
        CHECK(WEXITSTATUS(status) == 0, "a child failed with %d", WEXITSTATUS(status));
    }
    atomic_store(&stop, 1);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    CHECK(prepared == forks && in_parent == forks, "%lu and %lu handlers ran for %lu forks", prepared, in_parent, forks);
    unsigned long *early = dlsym(RTLD_DEFAULT, "early_runs");
    CHECK(!argument(argc, argv, 2, 0) || (early && *early == 2 * forks), "the early handlers did not run");
    printf("ok %lu\n", forks);
    return 0;
}
