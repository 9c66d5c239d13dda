/* Fills spans of one size, gives them all back, has them used for another size, half of which is freed, and asks for
 * the first size again: every block must be as large as was asked for. */
#include "check.h"
#include <malloc.h>

enum { FIRST = 20000, OTHERS = 400000, AGAIN = 5000 };
static void *first[FIRST], *others[OTHERS], *again[AGAIN];

int main(void) {
    for (size_t size = 16; size <= 1024; size += 16) {
        size_t other = size == 16 ? 32 : 16;
        for (int i = 0; i < FIRST; i++) CHECK(first[i] = malloc(size), "malloc");
        for (int i = 0; i < FIRST; i++) free(first[i]);
        for (int i = 0; i < OTHERS; i++) CHECK(others[i] = malloc(other), "malloc");
        for (int i = 0; i < OTHERS; i += 2) free(others[i]);
        for (int i = 0; i < AGAIN; i++) {
            CHECK(again[i] = malloc(size), "malloc");
            CHECK(malloc_usable_size(again[i]) >= size, "%zu bytes asked for, %zu got", size, malloc_usable_size(again[i]));
        }
        for (int i = 0; i < AGAIN; i++) free(again[i]);
        for (int i = 1; i < OTHERS; i += 2) free(others[i]);
    }
    return 0;
}
