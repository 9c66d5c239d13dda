/* A library that is loaded late: it allocates in its constructor, from several threads and in thread-local memory. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 4, BLOCKS = 500 };
static char *blocks[THREADS * BLOCKS];
static _Thread_local char *remembered;
static _Thread_local char large[20000];

static void *work(void *number) {
    remembered = malloc(3000);
    fill(remembered, 3000, (uintptr_t)number);
    memset(large, 3, sizeof large);
    for (uintptr_t i = 0; i < BLOCKS; i++) {
        size_t at = (uintptr_t)number * BLOCKS + i;
        CHECK((blocks[at] = malloc(i * 20)), "malloc in a late library");
        fill(blocks[at], i * 20, at);
    }
    CHECK(differs(remembered, 3000, 3000, (uintptr_t)number) < 0, "a thread-local block changed");
    free(remembered);
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], NULL, work, (void *)t) == 0, "pthread_create in a constructor");
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
}

/* Gives one block away, for the program to free. */
char *late_block(size_t number) {
    char *block = blocks[number];
    CHECK(differs(block, number % BLOCKS * 20, number % BLOCKS * 20, number) < 0, "a block of the constructor changed");
    blocks[number] = NULL;
    return block;
}

void late_take(void *block) { free(block); }

__attribute__((destructor)) static void end(void) {
    for (size_t i = 0; i < THREADS * BLOCKS; i++) free(blocks[i]);
}
