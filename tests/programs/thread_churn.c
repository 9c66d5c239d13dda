/* Many short threads: each allocates, frees a block of a thread that is gone, leaves one behind, and exits. What the
 * process holds must not grow with their number. Arguments: threads, most that run at once. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { LEFT = 1024, MEASURES = 10 };
static _Atomic(char *) left_behind[LEFT];

static void *brief(void *number) {
    uint64_t random = (uintptr_t)number * 2654435761u + 1;
    char *own[12];
    size_t sizes[12];
    for (size_t i = 0; i < 12; i++) {
        sizes[i] = next_random(&random) % (i == 0 ? 40000 : 800) + 1;
        CHECK((own[i] = malloc(sizes[i])), "malloc(%zu)", sizes[i]);
        fill(own[i], sizes[i], i);
    }
    char *mine = malloc(200);
    fill(mine, 200, 77);
    char *other = atomic_exchange(&left_behind[next_random(&random) % LEFT], mine);
    if (other) {
        CHECK(differs(other, 200, 200, 77) < 0, "a dead thread's block changed");
        free(other);
    }
    for (size_t i = 0; i < 12; i++) {
        CHECK(differs(own[i], sizes[i], sizes[i], i) < 0, "a block changed");
        free(own[i]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long threads = argument(argc, argv, 1, 20000), at_once = argument(argc, argv, 2, 16);
    pthread_t ids[64];
    CHECK(at_once <= 64, "at most 64 at once");
    size_t resident_early = 0, mappings_early = 0, resident = 0, most = 0;
    for (unsigned long done = 0, step = 0; done < threads; step++) {
        for (unsigned long t = 0; t < at_once; t++) {
            int error = pthread_create(&ids[t], NULL, brief, (void *)(uintptr_t)(done + t));
            CHECK(error == 0, "pthread_create %lu: %d", done + t, error);
        }
        for (unsigned long t = 0; t < at_once; t++) pthread_join(ids[t], NULL);
        done += at_once;
        if (step % 64 == 63) {
            resident = resident_bytes();
            if (resident > most) most = resident;
            if (!resident_early && done >= threads / 10) resident_early = resident, mappings_early = mappings();
        }
    }
    size_t mappings_now = mappings();
    CHECK(most < resident_early + (48 << 20), "resident memory grew from %zu to %zu KiB", resident_early >> 10, most >> 10);
    CHECK(mappings_now < mappings_early + 500, "mappings grew from %zu to %zu", mappings_early, mappings_now);
    printf("ok %lu threads, resident %zu KiB after a tenth, %zu at most, %zu mappings\n", threads, resident_early >> 10, most >> 10, mappings_now);
    return 0;
}
