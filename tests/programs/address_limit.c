/* Under a limit on address space or data: null and ENOMEM where memory ends, and life goes on afterwards.
 * With an argument, sets RLIMIT_AS that many MiB above what is mapped now; else a limit is set outside. An allocator that
 * reserved its address space before the limit was lowered may go on giving memory; it must not crash. */
#include "check.h"
#include <sys/resource.h>

enum { BLOCK = 1 << 20, MOST = 1024 };
static char *blocks[MOST];

static size_t mapped_bytes(void) {
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    return strtoul(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv) {
    unsigned long above = argument(argc, argv, 1, 0), least = argument(argc, argv, 2, 32);
    free(malloc(10));
    if (above) {
        struct rlimit limit = {mapped_bytes() + (above << 20), RLIM_INFINITY};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
    }
    for (int round = 0; round < 3; round++) {
        unsigned long n = 0;
        errno = 0;
        while (n < MOST && (blocks[n] = malloc(BLOCK))) {
            fill(blocks[n], BLOCK, n);
            n++;
        }
        CHECK(above || n < MOST, "there was no end to memory");
        CHECK(n == MOST || errno == ENOMEM, "null without ENOMEM");
        CHECK(n >= least, "only %lu MiB in round %d, wanted %lu", n, round, least);
        if (!above) {
            errno = 0;
            CHECK(realloc(blocks[0], (size_t)1 << 33) == NULL && errno == ENOMEM, "realloc beyond the limit");
            CHECK(calloc(1, (size_t)1 << 33) == NULL, "calloc beyond the limit");
        }
        size_t small = 0; /* small blocks may go on for a while; they too must end in null */
        void **chain = NULL;
        for (; small < (above ? 1000000 : 100000000); small++) {
            void **next = malloc(48);
            if (!next) break;
            *next = chain;
            chain = next;
        }
        CHECK(above || small < 100000000, "small blocks never end");
        while (chain) {
            void **next = *chain;
            free(chain);
            chain = next;
        }
        for (unsigned long i = 0; i < n; i++) {
            CHECK(differs(blocks[i], BLOCK, BLOCK, i) < 0, "block %lu changed", i);
            free(blocks[i]);
        }
    }
    puts("ok");
    return 0;
}
