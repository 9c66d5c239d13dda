/* Under a limit on memory that ends in null (RLIMIT_AS, RLIMIT_DATA or the allocator's own, set outside): where memory
 * ends the answer is null and ENOMEM, for every size and call; what is held stays whole; threads can still start and
 * end; and after freeing the program allocates again, as much as before. Arguments: least MiB that must be had, rounds. */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

enum { MOST = 16 << 20 };
static char **blocks; /* a table of its own, so that it is no part of what is measured */
static const size_t SIZES[] = {100, 3000, 40000, 200000, 1 << 20, 5 << 20};

static size_t take_all(size_t size, size_t *bytes) {
    size_t n = 0;
    errno = 0;
    while (n < MOST && (blocks[n] = malloc(size))) {
        fill(blocks[n], size, n);
        n++;
        errno = 0;
    }
    CHECK(n < MOST, "there was no end to blocks of %zu bytes", size);
    CHECK(errno == ENOMEM, "null without ENOMEM for %zu bytes", size);
    *bytes = n * size;
    return n;
}

static void refuse_all(size_t size) {
    void *at = &at;
    errno = 0;
    CHECK(calloc(1, (size_t)1 << 40) == NULL && errno == ENOMEM, "calloc at the limit");
    errno = 0;
    CHECK(blocks[0] && realloc(blocks[0], (size_t)1 << 40) == NULL && errno == ENOMEM, "realloc at the limit");
    CHECK(differs(blocks[0], size, size, 0) < 0, "a refused realloc changed its block");
    errno = 0;
    CHECK(aligned_alloc(4096, (size_t)1 << 40) == NULL && errno == ENOMEM, "aligned_alloc at the limit");
    CHECK(posix_memalign(&at, 64, (size_t)1 << 40) == ENOMEM && at == (void *)&at, "posix_memalign at the limit");
}

/* Every other block is freed and had again, by a thread that starts at the limit. */
static void *exchange(void *number) {
    size_t n = (size_t)(uintptr_t)number;
    uint64_t random = n;
    for (int i = 0; i < 1000; i++) {
        char *block = malloc(next_random(&random) % 20000);
        if (block) block[0] = 1;
        free(block);
    }
    return number;
}

int main(int argc, char **argv) {
    unsigned long least = argument(argc, argv, 1, 32), rounds = argument(argc, argv, 2, 2);
    static char *table[MOST];
    blocks = table;
    for (unsigned long round = 0; round < rounds; round++) {
        for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
            size_t size = SIZES[s], bytes, again = 0;
            size_t n = take_all(size, &bytes);
            CHECK(bytes >> 20 >= least, "only %zu MiB in blocks of %zu in round %lu, wanted %lu", bytes >> 20, size, round, least);
            refuse_all(size);
            pthread_t thread; /* it may not start here, but must not bring the program down */
            if (pthread_create(&thread, NULL, exchange, (void *)n) == 0) pthread_join(thread, NULL);
            for (size_t i = 0; i < n; i++) {
                CHECK(differs(blocks[i], size, size, i) < 0, "block %zu changed at the limit", i);
                if (i % 2) free(blocks[i]), blocks[i] = NULL;
            }
            for (size_t i = 1; i < n; i += 2) {
                if (!(blocks[i] = malloc(size))) break; /* the odd one may be missing: a thread has started meanwhile */
                again = i;
                fill(blocks[i], size, i);
            }
            CHECK(n < 4 || again + 8 >= n * 3 / 4, "only %zu of %zu blocks came back", again, n);
            CHECK(pthread_create(&thread, NULL, exchange, NULL) != 0 || pthread_join(thread, NULL) == 0, "pthread_join");
            for (size_t i = 0; i < n; i++) {
                CHECK(!blocks[i] || differs(blocks[i], size, size, i) < 0, "block %zu changed", i);
                free(blocks[i]);
                blocks[i] = NULL;
            }
            malloc_trim(0);
        }
    }
    puts("ok");
    return 0;
}
