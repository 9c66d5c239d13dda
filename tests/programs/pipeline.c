/* Producers allocate, consumers free: every block is freed by another thread than its own, and memory must come back to
 * where it is needed. Arguments: millions of blocks (in thousands), producers. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { RING = 4096, MAX = 8 };

struct ring {
    char *slots[RING];
    _Alignas(64) atomic_ulong head;
    _Alignas(64) atomic_ulong tail;
};
static struct ring rings[MAX];
static unsigned long per_producer;

static size_t size_of(unsigned long n) { return n % 1000 == 0 ? 100000 : 8 + n * 37 % 1500; }

static void *produce(void *number) {
    struct ring *ring = &rings[(uintptr_t)number];
    for (unsigned long n = 0; n < per_producer; n++) {
        size_t size = size_of(n);
        char *block = malloc(size);
        CHECK(block, "malloc(%zu)", size);
        fill(block, size, n);
        while (n - atomic_load(&ring->tail) >= RING) usleep(50);
        ring->slots[n % RING] = block;
        atomic_store(&ring->head, n + 1);
    }
    return NULL;
}

static void *consume(void *number) {
    struct ring *ring = &rings[(uintptr_t)number];
    for (unsigned long n = 0; n < per_producer; n++) {
        while (atomic_load(&ring->head) <= n) usleep(50);
        char *block = ring->slots[n % RING];
        CHECK(differs(block, size_of(n), size_of(n), n) < 0, "block %lu changed on its way", n);
        if (n % 5 == 0) CHECK((block = realloc(block, size_of(n) * 2)) && differs(block, size_of(n), size_of(n), n) < 0, "realloc of a foreign block");
        free(block);
        atomic_store(&ring->tail, n + 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long thousands = argument(argc, argv, 1, 1000), producers = argument(argc, argv, 2, 2);
    CHECK(producers <= MAX, "at most %d", MAX);
    per_producer = thousands * 1000 / producers;
    size_t most = 0;
    pthread_t ids[2 * MAX];
    for (uintptr_t p = 0; p < producers; p++) {
        CHECK(pthread_create(&ids[2 * p], NULL, produce, (void *)p) == 0, "pthread_create");
        CHECK(pthread_create(&ids[2 * p + 1], NULL, consume, (void *)p) == 0, "pthread_create");
    }
    while (atomic_load(&rings[0].tail) < per_producer) {
        usleep(20000);
        size_t now = resident_bytes();
        if (now > most) most = now;
    }
    for (uintptr_t t = 0; t < 2 * producers; t++) pthread_join(ids[t], NULL);
    /* At most RING blocks a producer are alive: 850 bytes each, and one in a thousand of 100 KiB. */
    size_t bound = producers * ((size_t)RING * 1500 + RING / 1000 * 200000) * 4 + (64 << 20);
    CHECK(most < bound, "%zu KiB resident, expected less than %zu: freed blocks do not come back", most >> 10, bound >> 10);
    printf("ok %zu KiB at most\n", most >> 10);
    return 0;
}
