/* Allocates known amounts from three functions and holds half of them; then, for each line of input, the same again after
 * freeing all. For the heap profile's tests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 48, MIDDLING = 5000, LARGE = 3 << 20 };
enum { SMALLS = 400000, MIDDLINGS = 8000, LARGE_COUNT = 20 };

static void *held[SMALLS + MIDDLINGS + LARGE_COUNT];

__attribute__((noinline)) static void *block(size_t size) {
    void *at = malloc(size);
    if (at == NULL) {
        perror("malloc");
        exit(1);
    }
    memset(at, 1, size < 64 ? size : 64);
    return at;
}

/* The volatile keeps calls from becoming jumps, which would leave no frame. */
static volatile int sink;

__attribute__((noinline)) static void small_ones(void **into) {
    for (int i = 0; i < SMALLS; i++) into[i] = block(SMALL);
    sink = 1;
}

__attribute__((noinline)) static void middling_ones(void **into) {
    for (int i = 0; i < MIDDLINGS; i++) into[i] = block(MIDDLING);
    sink = 2;
}

__attribute__((noinline)) static void large_ones(void **into) {
    for (int i = 0; i < LARGE_COUNT; i++) into[i] = block(LARGE);
    sink = 3;
}

static void release(int first) {
    for (int i = first; i < SMALLS + MIDDLINGS + LARGE_COUNT; i += 2) {
        free(held[i]);
        held[i] = NULL;
    }
}

int main(void) {
    do {
        small_ones(held);
        middling_ones(held + SMALLS);
        large_ones(held + SMALLS + MIDDLINGS);
        release(1);
        puts("ready");
        fflush(stdout);
        int c;
        do {
            c = getchar();
            if (c == EOF) return 0;
        } while (c != '\n');
        release(0);
    } while (1);
}
