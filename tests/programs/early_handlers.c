/* A library whose constructor runs before the allocator has served a single block: its fork handlers are registered before
 * the allocator's own, and so are the last to run before a fork and the first after it. They allocate all the same. */
#include "check.h"
#include <pthread.h>

static char *kept;
unsigned long early_runs;

static void allocate_and_free(void) {
    char *blocks[40];
    size_t sizes[40];
    for (size_t i = 0; i < 40; i++) {
        sizes[i] = i == 39 ? 3 << 20 : i == 38 ? 300000 : (i * i * 13) % 9000;
        CHECK((blocks[i] = malloc(sizes[i])), "malloc(%zu) in an early fork handler", sizes[i]);
        fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < 40; i++) {
        CHECK(differs(blocks[i], sizes[i], sizes[i], i) < 0, "a block of an early fork handler changed");
        free(blocks[i]);
    }
    free(kept); /* of the handler before: what one side takes, both give back */
    CHECK((kept = calloc(1, 700)), "calloc in an early fork handler");
    early_runs++;
}

__attribute__((constructor)) static void start(void) {
    CHECK(pthread_atfork(allocate_and_free, allocate_and_free, allocate_and_free) == 0, "pthread_atfork");
}
