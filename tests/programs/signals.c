/* Signals interrupt malloc at any instruction. The handlers do only what POSIX allows in them; what must hold is that
 * the interrupted thread goes on as if nothing had happened. Argument: milliseconds. */
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

enum { THREADS = 3, SLOTS = 512 };
static atomic_int stop;
static atomic_ulong alarms, directed;
static sem_t posted;
static int null_file;
static char *inspected; /* a heap block that handlers read and write */

static void handler(int signal) {
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    volatile char stack[3000];
    for (size_t i = 0; i < sizeof stack; i += 100) stack[i] = (char)i;
    atomic_fetch_add(signal == SIGALRM ? &alarms : &directed, 1);
    inspected[(size_t)now.tv_nsec % 100000] = (char)signal;
    if (write(null_file, "x", 1) != 1) _exit(97);
    if (signal == SIGUSR1) sem_post(&posted);
    errno = saved;
}

static void *work(void *number) {
    uint64_t random = 999 + (uintptr_t)number;
    char *blocks[SLOTS] = {0};
    size_t sizes[SLOTS] = {0};
    while (!atomic_load(&stop)) {
        size_t at = next_random(&random) % SLOTS;
        if (blocks[at]) {
            CHECK(differs(blocks[at], sizes[at], sizes[at], at) < 0, "a block changed under signals");
            if (next_random(&random) % 4) {
                free(blocks[at]);
                blocks[at] = NULL;
            } else {
                size_t size = random_size(&random) / 8 + 1;
                size_t kept = size < sizes[at] ? size : sizes[at];
                blocks[at] = realloc(blocks[at], size);
                CHECK(blocks[at] && differs(blocks[at], sizes[at], kept, at) < 0, "realloc under signals");
                sizes[at] = size;
                fill(blocks[at], size, at);
            }
        } else {
            sizes[at] = random_size(&random) / 8;
            CHECK((blocks[at] = malloc(sizes[at])), "malloc(%zu)", sizes[at]);
            fill(blocks[at], sizes[at], at);
        }
    }
    for (size_t i = 0; i < SLOTS; i++) free(blocks[i]);
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long milliseconds = argument(argc, argv, 1, 2000);
    null_file = open("/dev/null", O_WRONLY);
    inspected = calloc(1, 100000);
    CHECK(null_file >= 0 && inspected && sem_init(&posted, 0, 0) == 0, "set-up");
    stack_t stack = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10}; /* the main thread's handlers run on the heap */
    CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], NULL, work, (void *)t) == 0, "pthread_create");
    struct itimerval every = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0, "setitimer");
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t random = 1;
    do {
        pthread_kill(threads[next_random(&random) % THREADS], SIGUSR1);
        for (int i = 0; i < 20; i++) free(malloc(random_size(&random)));
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((unsigned long)((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000) < milliseconds);
    struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &none, NULL);
    atomic_store(&stop, 1);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    CHECK(atomic_load(&alarms) > 20 && atomic_load(&directed) > 20, "only %lu alarms and %lu signals arrived", atomic_load(&alarms), atomic_load(&directed));
    printf("ok %lu alarms, %lu signals\n", atomic_load(&alarms), atomic_load(&directed));
    return 0;
}
