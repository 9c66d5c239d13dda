/* Random allocations by several threads that pass blocks to each other; every block carries a pattern that only its
 * owner knows, so overlaps, lost contents and early reuse show. Arguments: threads, steps for each. */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

enum { SLOTS = 2048, SHELF = 512 };

struct slot {
    char *block;
    size_t size;
    uint64_t seed;
};

/* Blocks on their way from one thread to another. */
static struct slot shelf[SHELF];
static pthread_mutex_t shelf_locks[SHELF];
static unsigned long steps;

static void verify(const struct slot *slot, size_t kept, const char *when) {
    long bad = differs(slot->block, slot->size, kept, slot->seed);
    CHECK(bad < 0, "block %p of %zu differs at %ld %s", (void *)slot->block, slot->size, bad, when);
}

static void create(struct slot *slot, uint64_t *random) {
    uint64_t how = next_random(random) % 16;
    size_t size = random_size(random), alignment = 16;
    slot->size = size;
    slot->seed = next_random(random);
    if (how == 0) {
        alignment = (size_t)16 << next_random(random) % 12;
        slot->block = aligned_alloc(alignment, size);
    } else if (how < 4) {
        slot->block = calloc(1, size);
        if (size < 16) alignment = 1;
        for (size_t i = 0; slot->block && i < size; i += i < 64 ? 1 : 61)
            CHECK(slot->block[i] == 0, "calloc(%zu) is not zero at %zu", size, i);
    } else {
        slot->block = malloc(size);
        if (size < 16) alignment = 1;
    }
    CHECK(slot->block, "no memory for %zu", size);
    CHECK(((uintptr_t)slot->block & (alignment - 1)) == 0, "%p of %zu is not aligned to %zu", (void *)slot->block, size, alignment);
    CHECK(malloc_usable_size(slot->block) >= size, "usable size of %zu", size);
    fill(slot->block, size, slot->seed);
}

static void *work(void *number) {
    uint64_t random = 0x9E3779B97F4A7C15ULL * ((uintptr_t)number + 1);
    static _Thread_local struct slot own[SLOTS];
    for (unsigned long step = 0; step < steps; step++) {
        struct slot *slot = &own[next_random(&random) % SLOTS];
        uint64_t action = next_random(&random) % 8;
        if (!slot->block) {
            create(slot, &random);
        } else if (action == 0) {
            size_t size = random_size(&random) + 1;
            verify(slot, slot->size, "before realloc");
            char *block = realloc(slot->block, size);
            CHECK(block, "no memory for realloc to %zu", size);
            slot->block = block;
            verify(slot, slot->size < size ? slot->size : size, "after realloc");
            slot->size = size;
            fill(block, size, slot->seed);
        } else if (action < 4) {
            size_t place = next_random(&random) % SHELF; /* swap with what another thread left */
            pthread_mutex_lock(&shelf_locks[place]);
            struct slot other = shelf[place];
            shelf[place] = *slot;
            pthread_mutex_unlock(&shelf_locks[place]);
            *slot = other;
        } else {
            verify(slot, slot->size, "before free");
            free(slot->block);
            slot->block = NULL;
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (!own[i].block) continue;
        verify(&own[i], own[i].size, "at the end");
        free(own[i].block);
        own[i].block = NULL;
    }
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long threads = argument(argc, argv, 1, 4);
    steps = argument(argc, argv, 2, 100000);
    for (size_t i = 0; i < SHELF; i++) pthread_mutex_init(&shelf_locks[i], NULL);
    pthread_t ids[64];
    CHECK(threads <= 64, "too many threads");
    for (int generation = 0; generation < 2; generation++) { /* the second one inherits the heaps of dead threads */
        for (unsigned long t = 0; t < threads; t++) CHECK(pthread_create(&ids[t], NULL, work, (void *)(uintptr_t)(t + 64 * (unsigned long)generation)) == 0, "pthread_create");
        for (unsigned long t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    }
    for (size_t i = 0; i < SHELF; i++)
        if (shelf[i].block) verify(&shelf[i], shelf[i].size, "on the shelf"), free(shelf[i].block);
    puts("ok");
    return 0;
}
