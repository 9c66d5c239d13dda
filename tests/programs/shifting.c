/* Sizes that shift under a set that stays: adversarial for an allocator that never moves a block. A set of constant bytes
 * is replaced in random order by blocks of other sizes, phase by phase; one block in so many is kept for good and pins what
 * it lies in. After each phase and an idle gap it prints "phase N live KiB resident KiB".
 * Arguments: MiB of the set, one kept block in how many (0: none), milliseconds of the gap. */
#include "check.h"

static const size_t MEANS[] = {40, 200, 72, 600, 1500, 120, 330, 50, 2600, 90};
enum { PHASES = sizeof MEANS / sizeof *MEANS };

struct block { struct block *next; size_t size; };

int main(int argc, char **argv) {
    size_t live_wanted = argument(argc, argv, 1, 64) << 20;
    unsigned long one_in = argument(argc, argv, 2, 0), gap_ms = argument(argc, argv, 3, 2000);
    size_t most = live_wanted / 20, n = 0, live = 0, table = most * sizeof(struct block *);
    struct block **blocks = malloc(table), *kept = NULL;
    CHECK(blocks, "malloc");
    memset(blocks, 0, table);
    uint64_t random = 42;
    size_t before = resident_bytes();
    for (size_t phase = 0; phase < 2 * PHASES; phase++) {
        size_t mean = MEANS[phase % PHASES], old = n;
        /* Random order: each step frees a random old block and allocates until the set is whole again. */
        while (old > 0 || live < live_wanted) {
            if (old > 0) {
                size_t at = next_random(&random) % old;
                struct block *block = blocks[at];
                blocks[at] = blocks[--old];
                blocks[old] = blocks[--n];
                if (one_in && next_random(&random) % one_in == 0) {
                    block->next = kept, kept = block; /* stays, and counts as live */
                } else {
                    live -= block->size;
                    free(block);
                }
            }
            while (live < live_wanted) {
                size_t size = mean / 2 + next_random(&random) % mean;
                if (size < sizeof(struct block)) size = sizeof(struct block);
                struct block *block = malloc(size);
                CHECK(block && n < most, "malloc(%zu)", size);
                memset(block, 1, size);
                block->size = size;
                blocks[n++] = block;
                live += size;
            }
        }
        usleep((useconds_t)gap_ms * 1000);
        printf("phase %zu live %zu resident %zu\n", phase, live >> 10, (resident_bytes() - before) >> 10);
        fflush(stdout);
    }
    return 0;
}
