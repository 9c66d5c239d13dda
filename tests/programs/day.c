/* A day of a server in a minute. A server that allocates 1,000 blocks a second makes 86.4 million in 24 hours; here each
 * "hour" makes its twenty-fourth of them as fast as it can, with what makes memory grow in long-lived processes:
 *   - the mix of sizes shifts from hour to hour, up and down;
 *   - a session table of constant size whose entries live for seconds to hours;
 *   - requests are handled by workers that free each other's blocks; workers end and others start;
 *   - now and then a large block grows by realloc and goes;
 *   - every hour ends with an idle gap, longer than the decay time, in which the purger does what it does at night.
 * After each gap it prints "hour N resident KiB mappings M". The set held then is the same each hour, so what is printed
 * must not rise. Arguments: thousands of allocations an hour, milliseconds of the gap, forgotten frees in 100,000
 * (the negative control: a leak), hours. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { WORKERS = 3, SESSIONS = 20000, GENERATIONS = 6, IN_FLIGHT = 512 };

static _Atomic(char *) sessions[SESSIONS]; /* entries of constant size: the base that a day does not change */
static _Atomic(char *) in_flight[IN_FLIGHT];
static unsigned long per_worker, forgotten, hour;

static void release(char *block, uint64_t *random) {
    if (forgotten && next_random(random) % 100000 < forgotten) return;
    free(block);
}

static size_t size_of_hour(uint64_t *random) {
    static const size_t MEANS[12] = {40, 60, 90, 140, 220, 350, 600, 1000, 500, 240, 120, 60};
    uint64_t kind = next_random(random) % 1000;
    if (kind == 0) return 20000 + next_random(random) % 200000;
    if (kind < 20) return 2000 + next_random(random) % 14000;
    size_t mean = MEANS[hour % 12];
    return mean / 2 + next_random(random) % mean;
}

static void *work(void *number) {
    uint64_t random = 1 + hour * 1000003 + (uintptr_t)number * 7919;
    for (unsigned long n = 0; n < per_worker; n++) {
        size_t size = size_of_hour(&random);
        char *block = malloc(size);
        CHECK(block, "malloc(%zu)", size);
        block[0] = block[size - 1] = 1;
        if (n % 5000 == 0) {
            char *grown = NULL;
            for (size_t bytes = 1000; bytes < 800000; bytes *= 2) {
                CHECK((grown = realloc(grown, bytes)), "realloc(%zu)", bytes);
                grown[bytes - 1] = 1;
            }
            free(grown);
        }
        if (n % 40 == 0) { /* a session ends and another begins */
            char *session = malloc(300);
            CHECK(session, "malloc");
            memset(session, 2, 300);
            release(atomic_exchange(&sessions[next_random(&random) % SESSIONS], session), &random);
        }
        release(atomic_exchange(&in_flight[next_random(&random) % IN_FLIGHT], block), &random);
    }
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long thousands = argument(argc, argv, 1, 3600), gap_ms = argument(argc, argv, 2, 1200);
    forgotten = argument(argc, argv, 3, 0);
    unsigned long hours = argument(argc, argv, 4, 24);
    per_worker = thousands * 1000 / WORKERS / GENERATIONS;
    for (size_t i = 0; i < SESSIONS; i++) {
        char *session = malloc(300);
        CHECK(session, "malloc");
        memset(session, 2, 300);
        atomic_store(&sessions[i], session);
    }
    for (hour = 0; hour < hours; hour++) {
        for (int generation = 0; generation < GENERATIONS; generation++) {
            pthread_t workers[WORKERS];
            for (uintptr_t t = 0; t < WORKERS; t++) CHECK(pthread_create(&workers[t], NULL, work, (void *)(t + 10 * (uintptr_t)generation)) == 0, "pthread_create");
            for (int t = 0; t < WORKERS; t++) pthread_join(workers[t], NULL);
        }
        for (size_t i = 0; i < IN_FLIGHT; i++) free(atomic_exchange(&in_flight[i], NULL));
        usleep((useconds_t)gap_ms * 1000);
        printf("hour %lu resident %zu mappings %zu\n", hour, resident_bytes() >> 10, mappings());
        fflush(stdout);
    }
    return 0;
}
