/* One function that allocates, called from two others, and these from a third: what a recorder can tell apart by its frames.
 *
 * stacks N: N blocks of 100 bytes by way of `first`, 2 N by way of `second`. */
#include "check.h"

/* Not inlined, and none of the calls the last thing that its function does. */
#define FUNCTION __attribute__((noinline, noclone))

static volatile int calls;

FUNCTION static void *get(void) {
    void *block = malloc(100);
    CHECK(block, "memory");
    calls++;
    return block;
}

FUNCTION static void *first(void) {
    void *block = get();
    calls++;
    return block;
}

FUNCTION static void *second(void) {
    void *block = get();
    calls++;
    return block;
}

FUNCTION static void both(unsigned long count) {
    for (unsigned long n = 0; n < count; n++) {
        free(first());
        free(second());
        free(second());
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: stacks N");
    both(strtoul(argv[1], NULL, 0));
    calls++;
    return 0;
}
