/* `counted walk N`: N loads and N stores of four bytes. */
#include <stdlib.h>

__attribute__((noinline)) static void walk(volatile int *at, long n) {
    for (long i = 0; i < n; i++) {
        at[i % 64] = at[(i + 7) % 64];
    }
}

int main(int argc, char **argv) {
    volatile int *block = calloc(64, sizeof *block);
    if (argc < 3 || block == NULL) {
        return 2;
    }
    walk(block, atol(argv[2]));
    return 0;
}
