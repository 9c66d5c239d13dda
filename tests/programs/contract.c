/* What malloc and its family promise, one part per name on the command line ("all" for every part). */
#include "check.h"
#include <limits.h>
#include <malloc.h>
#include <stddef.h>
#include <wchar.h>
#include <dirent.h>
#include <regex.h>

static const size_t SIZES[] = {0,    1,    2,    7,     8,     9,     15,    16,     17,     24,      31,      32,
                               33,   48,   63,   64,    65,    100,   127,   128,    129,    255,     256,     257,
                               500,  1000, 1024, 2000,  4095,  4096,  4097,  8192,   10000,  16384,   32768,   65535,
                               65536, 65537, 100000, 262144, 1 << 20, (1 << 20) + 1, (2 << 20) - 1, 2 << 20, (2 << 20) + 1,
                               5000000, 33 << 20};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Impossible sizes, unknown to the compiler so that it does not warn. */
static volatile const size_t IMPOSSIBLE[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15,
                                             SIZE_MAX - 4095, SIZE_MAX - (2 << 20), PTRDIFF_MAX - 4096, SIZE_MAX / 2 - 7};

static int aligned(const void *block, size_t alignment) { return ((uintptr_t)block & (alignment - 1)) == 0; }

static void every_size_is_aligned(void) {
    static void *blocks[66000];
    for (size_t size = 1; size < COUNT(blocks); size += size < 20000 ? 1 : 97) {
        size_t needed = size >= 16 ? 16 : size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        blocks[size] = malloc(size);
        CHECK(blocks[size] && aligned(blocks[size], needed), "malloc(%zu) = %p", size, blocks[size]);
        fill(blocks[size], size, size);
    }
    for (size_t size = 1; size < COUNT(blocks); size++) {
        if (!blocks[size]) continue;
        long bad = differs(blocks[size], size, size, size);
        CHECK(bad < 0, "block of %zu differs at %ld: blocks overlap", size, bad);
        free(blocks[size]);
    }
}

static void usable_size(void) {
    CHECK(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) = %zu", malloc_usable_size(NULL));
    void *blocks[COUNT(SIZES)];
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        blocks[i] = malloc(SIZES[i]);
        CHECK(blocks[i], "malloc(%zu)", SIZES[i]);
        size_t usable = malloc_usable_size(blocks[i]);
        CHECK(usable >= SIZES[i] && usable < SIZES[i] * 2 + (4 << 20), "malloc(%zu) has %zu usable", SIZES[i], usable);
        memset(blocks[i], (int)i + 1, usable); /* all of it may be written */
    }
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        size_t usable = malloc_usable_size(blocks[i]);
        const unsigned char *bytes = blocks[i];
        for (size_t at = 0; at < usable; at++)
            CHECK(bytes[at] == (unsigned char)(i + 1), "usable bytes of %zu and of another block overlap at %zu", SIZES[i], at);
        free(blocks[i]);
    }
}

static void all_alignments(void) {
    for (int shift = 0; shift <= 30; shift++) {
        size_t alignment = (size_t)1 << shift;
        size_t sizes[] = {1, 24, 100, 4096, alignment <= (8 << 20) ? alignment : 12345, alignment <= (8 << 20) ? alignment + 1 : 2 << 20};
        void *blocks[COUNT(sizes) * 3];
        size_t lengths[COUNT(blocks)], n = 0;
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *block = NULL;
            if (alignment >= sizeof(void *)) {
                int error = posix_memalign(&block, alignment, sizes[i]);
                CHECK(error == 0 && block, "posix_memalign(2^%d, %zu) = %d", shift, sizes[i], error);
                CHECK(aligned(block, alignment), "posix_memalign(2^%d, %zu) = %p", shift, sizes[i], block);
                blocks[n] = block, lengths[n++] = sizes[i];
            }
            block = aligned_alloc(alignment, sizes[i]);
            CHECK(block && aligned(block, alignment), "aligned_alloc(2^%d, %zu) = %p", shift, sizes[i], block);
            blocks[n] = block, lengths[n++] = sizes[i];
            block = memalign(alignment, sizes[i]);
            CHECK(block && aligned(block, alignment), "memalign(2^%d, %zu) = %p", shift, sizes[i], block);
            blocks[n] = block, lengths[n++] = sizes[i];
        }
        for (size_t i = 0; i < n; i++) {
            CHECK(malloc_usable_size(blocks[i]) >= lengths[i], "usable size of an aligned block");
            fill(blocks[i], lengths[i], i);
        }
        for (size_t i = 0; i < n; i++) {
            long bad = differs(blocks[i], lengths[i], lengths[i], i);
            CHECK(bad < 0, "aligned blocks (2^%d) overlap at %ld of %zu", shift, bad, lengths[i]);
            if (i % 3 == 0) { /* an aligned block may be resized; its contents stay, its alignment need not */
                blocks[i] = realloc(blocks[i], lengths[i] + 5000);
                CHECK(blocks[i] && differs(blocks[i], lengths[i], lengths[i], i) < 0, "realloc of an aligned block");
            }
            free(blocks[i]);
        }
    }
    long os_page = sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = valloc(SIZES[i]), *rounded = pvalloc(SIZES[i]);
        CHECK(block && aligned(block, (size_t)os_page), "valloc(%zu) = %p", SIZES[i], block);
        CHECK(rounded && aligned(rounded, (size_t)os_page), "pvalloc(%zu) = %p", SIZES[i], rounded);
        size_t whole = (SIZES[i] + (size_t)os_page - 1) / (size_t)os_page * (size_t)os_page;
        CHECK(malloc_usable_size(rounded) >= whole, "pvalloc(%zu) has %zu usable", SIZES[i], malloc_usable_size(rounded));
        memset(block, 1, SIZES[i]);
        memset(rounded, 1, whole);
        free(block);
        free(rounded);
    }
}

static void bad_alignments(void) {
    static volatile const size_t BAD[] = {0, 1, 2, 3, 4, 12, 24, 48, 100, 4095, SIZE_MAX, (size_t)PTRDIFF_MAX};
    for (size_t i = 0; i < COUNT(BAD); i++) {
        void *block = &block;
        errno = 4711;
        int error = posix_memalign(&block, BAD[i], 64);
        CHECK(error == EINVAL, "posix_memalign(alignment %zu) = %d", (size_t)BAD[i], error);
        CHECK(block == &block, "a failed posix_memalign changed the pointer");
        CHECK(errno == 4711, "posix_memalign reports through its result, not errno");
    }
    volatile size_t odd = 48;
    errno = 0;
    void *block = aligned_alloc(odd, 96); /* the standard leaves open whether this fails or rounds up */
    CHECK(block ? aligned(block, 16) : errno == EINVAL, "aligned_alloc(48) = %p", block);
    free(block);
}

static void zero_sizes(void) {
    void *first = malloc(0), *second = malloc(0), *zeroed = calloc(0, 8), *other = calloc(8, 0), *aligned_block = NULL;
    CHECK(first && second && zeroed && other, "programs take a null pointer from malloc(0) for lack of memory");
    CHECK(first != second && zeroed != other && first != zeroed, "blocks of no bytes must be distinct");
    CHECK(posix_memalign(&aligned_block, 64, 0) == 0, "posix_memalign of nothing");
    void *grown = realloc(first, 100);
    CHECK(grown, "realloc of an empty block");
    memset(grown, 1, 100);
    free(grown), free(second), free(zeroed), free(other), free(aligned_block), free(valloc(0)), free(memalign(4096, 0));
    size_t before = resident_bytes();
    for (int i = 0; i < 1000000; i++) {
        void *gone = realloc(malloc(100), 0); /* frees it; glibc returns null then, others an empty block */
        free(gone);
    }
    CHECK(resident_bytes() < before + (32 << 20), "realloc(block, 0) leaks: %zu KiB more", (resident_bytes() - before) >> 10);
}

static void impossible_sizes(void) {
    char *kept = malloc(1000);
    fill(kept, 1000, 3);
    for (size_t i = 0; i < COUNT(IMPOSSIBLE); i++) {
        size_t size = IMPOSSIBLE[i];
        void *block = NULL;
#define REFUSED(call)                                                                                                  \
    errno = 0;                                                                                                         \
    CHECK((call) == NULL && errno == ENOMEM, "size %zu", size)
        REFUSED(malloc(size));
        REFUSED(calloc(1, size));
        REFUSED(calloc(size, 1));
        REFUSED(realloc(NULL, size));
        REFUSED(realloc(kept, size));
        REFUSED(reallocarray(kept, size, 1));
        REFUSED(memalign(64, size));
        REFUSED(memalign((size_t)1 << 30, size));
        REFUSED(aligned_alloc(4096, size));
        REFUSED(valloc(size));
        REFUSED(pvalloc(size));
        CHECK(posix_memalign(&block, 4096, size) == ENOMEM && !block, "posix_memalign(4096, %zu)", size);
        CHECK(differs(kept, 1000, 1000, 3) < 0, "a failed realloc changed the block");
    }
    free(kept);
    volatile size_t huge_alignment = (size_t)1 << 62;
    void *block = memalign(huge_alignment, 100);
    CHECK(block == NULL || aligned(block, huge_alignment), "memalign(2^62)");
}

static void overflow(void) {
    static volatile const size_t PAIRS[][2] = {{SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 2 + 1, 2}, {SIZE_MAX / 4 + 1, 4}, {SIZE_MAX / 16 + 2, 16},
                                               {(size_t)1 << 32, (size_t)1 << 32}, {(size_t)1 << 33, (size_t)1 << 31}, {3, SIZE_MAX / 2}};
    char *kept = malloc(64);
    fill(kept, 64, 9);
    for (size_t i = 0; i < COUNT(PAIRS); i++) {
        for (int swap = 0; swap < 2; swap++) {
            size_t a = PAIRS[i][swap], b = PAIRS[i][!swap];
            errno = 0;
            CHECK(calloc(a, b) == NULL && errno == ENOMEM, "calloc(%zu, %zu)", a, b);
            errno = 0;
            CHECK(reallocarray(kept, a, b) == NULL && errno == ENOMEM, "reallocarray(%zu, %zu)", a, b);
            errno = 0;
            CHECK(reallocarray(NULL, a, b) == NULL && errno == ENOMEM, "reallocarray(NULL, %zu, %zu)", a, b);
        }
    }
    CHECK(differs(kept, 64, 64, 9) < 0, "a failed reallocarray changed the block");
    kept = reallocarray(kept, 100, 100);
    CHECK(kept && differs(kept, 64, 64, 9) < 0, "reallocarray lost the contents");
    free(kept);
}

static void realloc_keeps_contents(void) {
    for (size_t from = 0; from < COUNT(SIZES); from++) {
        for (size_t to = 0; to < COUNT(SIZES); to++) {
            if (SIZES[to] == 0) continue;
            size_t kept = SIZES[from] < SIZES[to] ? SIZES[from] : SIZES[to];
            void *block = malloc(SIZES[from]);
            fill(block, SIZES[from], from);
            block = realloc(block, SIZES[to]);
            CHECK(block, "realloc(%zu -> %zu)", SIZES[from], SIZES[to]);
            long bad = differs(block, SIZES[from], kept, from);
            CHECK(bad < 0, "realloc(%zu -> %zu) lost byte %ld", SIZES[from], SIZES[to], bad);
            memset(block, 7, SIZES[to]);
            free(block);
        }
    }
    /* Grown step by step, as a vector or a string builder does, between other blocks that must stay whole. */
    char *growing = realloc(NULL, 1), *neighbour = malloc(100);
    fill(neighbour, 100, 5);
    for (size_t size = 1; size < 3000000; size += size / 7 + 1) {
        growing = realloc(growing, size);
        CHECK(growing, "realloc to %zu", size);
        growing[size - 1] = (char)size;
        if (size > 1) CHECK(growing[0] == (char)1, "the first byte was lost at %zu", size);
        CHECK(differs(neighbour, 100, 100, 5) < 0, "realloc wrote over a neighbour");
    }
    for (size_t size = 3000000; size > 1; size -= size / 5 + 1) {
        growing = realloc(growing, size);
        CHECK(growing && growing[0] == (char)1, "shrinking to %zu", size);
    }
    free(growing), free(neighbour);
    /* Huge. */
    size_t huge = (size_t)96 << 20;
    char *big = malloc(huge);
    CHECK(big, "malloc of 96 MiB");
    fill(big, huge, 11);
    big = realloc(big, huge * 2);
    CHECK(big && differs(big, huge, huge, 11) < 0, "growing 96 MiB lost contents");
    big = realloc(big, huge / 2);
    CHECK(big && differs(big, huge, huge / 2, 11) < 0, "shrinking lost contents");
    free(big);
}

static void calloc_is_zero(void) {
    /* Large blocks of ever other sizes, so that they are cut from what dirty ones of other sizes left. */
    static char *blocks[64];
    uint64_t random = 7;
    for (int i = 0; i < 3000; i++) {
        char **block = &blocks[next_random(&random) % COUNT(blocks)];
        size_t size = 20000 + next_random(&random) % (i % 4 ? 300000 : 2500000);
        free(*block);
        *block = i % 2 ? malloc(size) : calloc(1, size);
        CHECK(*block, "no memory for %zu", size);
        for (size_t at = 0; i % 2 == 0 && at < size; at += 64)
            CHECK((*block)[at] == 0, "calloc(%zu) is dirty at %zu", size, at);
        memset(*block, 0xAA, size);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) free(blocks[i]);
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            void *dirty[8];
            int n = SIZES[i] > (1 << 20) ? 1 : 8;
            for (int k = 0; k < n; k++) {
                dirty[k] = malloc(SIZES[i]);
                memset(dirty[k], 0xA5, SIZES[i]);
            }
            for (int k = 0; k < n; k++) free(dirty[k]);
            for (int k = 0; k < n; k++) {
                dirty[k] = k % 2 ? calloc(1, SIZES[i]) : calloc(SIZES[i], 1);
                CHECK(dirty[k], "calloc(%zu)", SIZES[i]);
                const unsigned char *bytes = dirty[k];
                for (size_t at = 0; at < SIZES[i]; at++) CHECK(bytes[at] == 0, "calloc(%zu) is dirty at %zu", SIZES[i], at);
            }
            for (int k = 0; k < n; k++) free(dirty[k]);
        }
    }
}

static void errno_is_kept(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = malloc(SIZES[i]);
        if (SIZES[i]) memset(block, 1, SIZES[i]);
        errno = 4711;
        free(block);
        CHECK(errno == 4711, "free of %zu bytes changed errno", SIZES[i]);
        block = aligned_alloc(4096, SIZES[i] + 1);
        errno = 4711;
        free(block);
        CHECK(errno == 4711, "free of an aligned block of %zu bytes changed errno", SIZES[i]);
    }
    errno = 4711;
    free(NULL);
    CHECK(errno == 4711, "free(NULL) changed errno");
    void *many[2000];
    for (size_t i = 0; i < COUNT(many); i++) memset(many[i] = malloc(70000), 1, 70000);
    errno = 4711;
    for (size_t i = 0; i < COUNT(many); i++) free(many[i]);
    CHECK(errno == 4711, "freeing 140 MB changed errno");
}

/* Blocks that the C library allocates and the program frees, and the other way round. */
static void library_calls(void) {
    for (int round = 0; round < 200; round++) {
        char *text = NULL, *line = NULL, *memory = NULL;
        size_t capacity = 0, length = 0;
        CHECK(asprintf(&text, "%0*d", 1 + round * 40, 7) == 1 + round * 40, "asprintf");
        char *copy = strdup(text), *part = strndup(text, 10);
        CHECK(copy && part && !strcmp(copy, text) && strlen(part) <= 10, "strdup, strndup");
        FILE *stream = open_memstream(&memory, &length);
        CHECK(stream, "open_memstream");
        for (int i = 0; i < 300; i++) fprintf(stream, "line %d of %s\n", i, part);
        CHECK(fclose(stream) == 0 && memory && strlen(memory) == length, "open_memstream");
        FILE *in = fmemopen(memory, length, "r");
        CHECK(in, "fmemopen");
        int lines = 0;
        while (getline(&line, &capacity, in) > 0) lines++;
        CHECK(lines == 300, "getline read %d lines", lines);
        fclose(in);
        free(text), free(copy), free(part), free(line), free(memory);
        line = malloc(1), capacity = 1; /* getline must be able to grow our block */
        FILE *maps = fopen("/proc/self/maps", "r");
        CHECK(maps && getline(&line, &capacity, maps) > 0, "getline into our own block");
        fclose(maps);
        free(line);
        char *here = getcwd(NULL, 0), *real = realpath("/proc/../proc", NULL);
        wchar_t *wide = wcsdup(L"wide");
        CHECK(here && real && !strcmp(real, "/proc") && wide, "getcwd, realpath, wcsdup");
        free(here), free(real), free(wide);
        struct dirent **names = NULL;
        int entries = scandir("/proc/self", &names, NULL, alphasort);
        CHECK(entries > 5, "scandir");
        while (entries-- > 0) free(names[entries]);
        free(names);
        regex_t expression;
        CHECK(regcomp(&expression, "^(a|b)*[[:digit:]]+$", REG_EXTENDED) == 0, "regcomp");
        CHECK(regexec(&expression, "abba42", 0, NULL, 0) == 0, "regexec");
        regfree(&expression);
        setenv("CONTRACT", "some value", 1);
    }
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(void); } PARTS[] = {
        {"every_size_is_aligned", every_size_is_aligned}, {"usable_size", usable_size}, {"all_alignments", all_alignments},
        {"bad_alignments", bad_alignments}, {"zero_sizes", zero_sizes}, {"impossible_sizes", impossible_sizes},
        {"overflow", overflow}, {"realloc_keeps_contents", realloc_keeps_contents}, {"calloc_is_zero", calloc_is_zero},
        {"errno_is_kept", errno_is_kept}, {"library_calls", library_calls}};
    const char *wanted = argc > 1 ? argv[1] : "all";
    int ran = 0;
    for (size_t i = 0; i < COUNT(PARTS); i++)
        if (!strcmp(wanted, "all") || !strcmp(wanted, PARTS[i].name)) PARTS[i].run(), ran++;
    CHECK(ran, "no part named %s", wanted);
    printf("ok %d\n", ran);
    return 0;
}
