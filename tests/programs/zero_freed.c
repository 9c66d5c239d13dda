/* Whether what is freed is zeroed at once, as TIERMEM_ZERO_FREED=1 promises, whoever frees it and whatever its size. The
 * first two words of a free block are the allocator's. Argument: 1 if it should be, 0 if not (the negative control). */
#include "check.h"
#include <pthread.h>

enum { OWN_WORDS = 16 };

static void *free_here(void *block) {
    free(block);
    return NULL;
}

int main(int argc, char **argv) {
    int expected = (int)argument(argc, argv, 1, 1), zeroed = 0, blocks = 0;
    static const size_t SIZES[] = {64, 100, 1000, 5000, 40000, 100000};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        for (int other = 0; other < 2; other++) {
            char *volatile block = malloc(SIZES[i]), *after = malloc(SIZES[i]);
            CHECK(block && after, "no memory");
            memset(block, 0x77, SIZES[i]);
            if (other) {
                pthread_t thread;
                CHECK(pthread_create(&thread, NULL, free_here, block) == 0, "no thread");
                pthread_join(thread, NULL);
            } else {
                free(block);
            }
            /* Reading a freed block: what a thief of memory would do. */
            int clean = 1;
            for (size_t at = OWN_WORDS; at < SIZES[i]; at++) clean &= block[at] != 0x77;
            zeroed += clean, blocks++;
            free(after);
        }
    }
    CHECK(zeroed == (expected ? blocks : 0), "%d of %d blocks were zeroed", zeroed, blocks);
    return 0;
}
