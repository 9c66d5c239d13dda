/* Misuses of the heap, one a process: kind x size x thread x timing. What each mode of hardening makes of them is a table
 * in docs/hardening.md.
 *
 *   misuse count                 how many cases there are
 *   misuse name CASE             what a case is called
 *   misuse wrong CASE            does it; prints "survived" if nothing ended the process
 *   misuse right CASE            the same calls without the misuse */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

static char *block, *other_block, *third;
static size_t size;
static int right, at_exit_only;
static char in_static[256] __attribute__((aligned(64)));

/* Calls that compilers know the meaning of, hidden from them. */
static void *(*volatile allocate)(size_t) = malloc;
static void (*volatile give_back)(void *) = free;
static void *(*volatile resize)(void *, size_t) = realloc;

static void *symbol(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    CHECK(found, "no %s: not under the preload", name);
    return found;
}

/* ---- what happens meanwhile ---- */

static void *kept[64];
static void noise(void) {
    uint64_t random = 4242;
    for (int i = 0; i < 1000; i++) {
        void **slot = &kept[next_random(&random) % 64];
        give_back(*slot);
        size_t bytes = next_random(&random) % 3000;
        *slot = allocate(bytes);
        CHECK(*slot, "no memory");
        memset(*slot, 0x5a, bytes);
    }
}

static void end_noise(void) {
    for (int i = 0; i < 64; i++) give_back(kept[i]), kept[i] = NULL;
}

/* What a program does next: it allocates and frees blocks of the size in question. */
static void go_on(void) {
    static void *more[64];
    int count = size > 100000 ? 4 : 64;
    for (int i = 0; i < count; i++) {
        more[i] = allocate(size);
        CHECK(more[i], "no memory");
        memset(more[i], 0x33, size);
    }
    for (int i = 0; i < count; i++) give_back(more[i]);
}

/* ---- the kinds: `begin`, then perhaps noise, then `misuse` in the thread that is to do it, then `end` ---- */

static void begin_plain(void) {
    third = allocate(size);
    do block = allocate(size);
    /* Nothing of ours lies before the first block of a span. */
    while (size < 100000 && ((uintptr_t)block & 65535) == 0);
    other_block = allocate(size);
    CHECK(third && block && other_block, "no memory");
    memset(third, 3, size), memset(block, 1, size), memset(other_block, 2, size);
}
static void begin_freed(void) { begin_plain(); give_back(block); }

static void end_rest(void) { give_back(other_block), give_back(third); go_on(); }
static void end_all(void) {
    if (!at_exit_only) give_back(block);
    end_rest();
}

static void double_free(void) { if (!right) give_back(block); }

static void begin_neighbour(void) {
    begin_freed();
    give_back(other_block);
    other_block = allocate(size);
}

static char *stale;
static void begin_reused(void) { begin_freed(); stale = block, block = allocate(size); }
static void stale_free(void) { if (!right) give_back(stale); }
static void end_reused(void) { give_back(block); end_rest(); }

static void invalid_stack(void) {
    char here[256] __attribute__((aligned(64)));
    memset(here, 0, sizeof here);
    give_back(right ? block : here + 64);
    if (!right) give_back(block);
}
static void invalid_static(void) { give_back(right ? block : in_static + 64); if (!right) give_back(block); }
static void invalid_mapping(void) {
    char *mapped = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    give_back(right ? block : mapped + 4096);
    if (!right) give_back(block);
    munmap(mapped, 1 << 16);
}
static void invalid_function(void) { give_back(right ? (void *)block : (void *)(uintptr_t)noise); if (!right) give_back(block); }

static void interior_1(void) { give_back(block + (right ? 0 : 1)); }
static void interior_8(void) { give_back(block + (right ? 0 : 8)); }
static void interior_half(void) { give_back(block + (right ? 0 : (size / 2 + 15) / 16 * 16)); }

static void spoil(char *from, size_t count) { for (size_t i = 0; i < count; i++) from[i] ^= 0x41; }
static void overflow_1(void) { if (!right) spoil(block + size, 1); }
static void overflow_nul(void) { if (!right) block[size] = 0; }
static void overflow_8(void) { if (!right) spoil(block + size, 8); }
static void overflow_64(void) { if (!right) spoil(block + size, 64); }
static void overflow_os_page(void) { if (!right) spoil(block + size, 4096); }
static void underflow_1(void) { if (!right) spoil(block - 1, 1); }
static void underflow_16(void) { if (!right) spoil(block - 16, 16); }

static void write_start(void) { if (!right) memset(block, 0x41, 8); }
static void write_zeroes(void) { if (!right) memset(block, 0, 8); }
static void write_middle(void) { if (!right) spoil(block + size / 2, 2); }
static void write_end(void) { if (!right) spoil(block + size - 1, 1); }
static void write_all(void) { if (!right) memset(block, 0x41, size); }
static void read_freed(void) { volatile char sink = right ? 0 : block[size / 2]; (void)sink; }
static void poison_list(void) { if (!right) memcpy(block, &(char *){in_static}, sizeof(char *)); }

static void resize_freed(void) { if (!right) other_block = resize(block, size * 2); }
static char *moved;
static void begin_resized(void) {
    begin_plain();
    moved = resize(block, size * 4 + 300);
    CHECK(moved, "no memory");
}
static void free_old(void) { if (!right) give_back(block); }
static void end_resized(void) { give_back(moved); end_rest(); }
static void measure_freed(void) { if (!right) { size_t (*measure)(void *) = symbol("malloc_usable_size"); measure(block); } }

static void sized_less(void) { void (*sized)(void *, size_t) = symbol("free_sized"); sized(block, right ? size : size - 1); }
static void sized_more(void) { void (*sized)(void *, size_t) = symbol("_ZdlPvm"); sized(block, right ? size : size * 2); }
static void begin_unaligned(void) {
    begin_plain();
    while (((uintptr_t)block & 131071) == 0) block = allocate(size);
}
static void wrong_alignment(void) {
    void (*aligned)(void *, size_t) = symbol("_ZdlPvSt11align_val_t");
    aligned(block, right ? 1 : 131072);
}

static pthread_barrier_t both;
static void *race(void *unused) { pthread_barrier_wait(&both); give_back(block); return unused; }
static void both_free(void) {
    if (right) { give_back(block); return; }
    pthread_barrier_init(&both, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, race, NULL);
    race(NULL);
    pthread_join(thread, NULL);
}

static void *free_here(void *unused) { give_back(block); return unused; }
static void begin_freed_elsewhere(void) {
    begin_plain();
    pthread_t thread;
    pthread_create(&thread, NULL, free_here, NULL);
    pthread_join(thread, NULL);
}

enum { ALL = 0xff, FEW = 0x0a, SMALL = 0x3f };
static const size_t SIZES[] = {16, 24, 100, 1000, 5000, 40000, 200000, 3 << 20};
static const struct { const char *name; void (*begin)(void), (*misuse)(void), (*end)(void); unsigned sizes; } KINDS[] = {
    {"double free", begin_freed, double_free, end_rest, ALL},
    {"double free beside a reused block", begin_neighbour, double_free, end_rest, ALL},
    {"double free of a reused block", begin_reused, stale_free, end_reused, ALL},
    {"double free of another thread's", begin_freed_elsewhere, double_free, end_rest, ALL},
    {"free by two threads at once", begin_plain, both_free, end_rest, ALL},
    {"free of a stack address", begin_plain, invalid_stack, end_rest, FEW},
    {"free of a static address", begin_plain, invalid_static, end_rest, FEW},
    {"free of a mapping", begin_plain, invalid_mapping, end_rest, FEW},
    {"free of code", begin_plain, invalid_function, end_rest, FEW},
    {"free of block + 1", begin_plain, interior_1, end_rest, ALL},
    {"free of block + 8", begin_plain, interior_8, end_rest, ALL},
    {"free of the block's middle", begin_plain, interior_half, end_rest, ALL & ~1},
    {"overflow by 1", begin_plain, overflow_1, end_all, ALL},
    {"overflow by a NUL", begin_plain, overflow_nul, end_all, ALL},
    {"overflow by 8", begin_plain, overflow_8, end_all, ALL},
    {"overflow by 64", begin_plain, overflow_64, end_all, ALL},
    {"overflow by an OS page", begin_plain, overflow_os_page, end_all, ALL},
    {"underflow by 1", begin_plain, underflow_1, end_all, ALL},
    {"underflow by 16", begin_plain, underflow_16, end_all, ALL},
    {"write after free, first bytes", begin_freed, write_start, end_rest, ALL},
    {"write after free, zeroes first", begin_freed, write_zeroes, end_rest, ALL},
    {"write after free, middle", begin_freed, write_middle, end_rest, ALL & ~1},
    {"write after free, last byte", begin_freed, write_end, end_rest, ALL},
    {"write after free, whole block", begin_freed, write_all, end_rest, ALL},
    {"write after another thread's free", begin_freed_elsewhere, write_start, end_rest, ALL},
    {"free list led astray", begin_freed, poison_list, end_rest, ALL},
    {"read after free", begin_freed, read_freed, end_rest, ALL},
    {"realloc of a freed block", begin_freed, resize_freed, end_rest, ALL},
    {"free after realloc", begin_resized, free_old, end_resized, ALL},
    {"size of a freed block", begin_freed, measure_freed, end_rest, ALL},
    {"sized free, too small", begin_plain, sized_less, end_rest, ALL},
    {"sized delete, too large", begin_plain, sized_more, end_rest, ALL},
    {"aligned delete of an unaligned block", begin_unaligned, wrong_alignment, end_rest, SMALL},
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS, SIZE_COUNT = sizeof SIZES / sizeof *SIZES };
static const char *const TIMES[] = {"at once", "later", "at exit"};

struct misuse { int kind, size, other_thread, time; };

/* Threads and timings alternate, so that each kind and each size meets each of them. */
static int find_case(int wanted, struct misuse *found) {
    int n = 0;
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        for (int s = 0; s < SIZE_COUNT; s++) {
            if (!(KINDS[kind].sizes >> s & 1)) continue;
            if (n++ == wanted) {
                *found = (struct misuse){kind, s, (kind + s) % 2, (kind + s / 2) % 3};
                return -1;
            }
        }
    }
    return n;
}

static void *misuse_here(void *kind) { KINDS[*(int *)kind].misuse(); return NULL; }
static struct misuse now;
static void act(void) {
    if (!now.other_thread) {
        KINDS[now.kind].misuse();
        return;
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, misuse_here, &now.kind) == 0, "no thread");
    pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "count";
    int wanted = (int)argument(argc, argv, 2, 0);
    if (!strcmp(what, "count")) {
        printf("%d\n", find_case(-1, &now));
        return 0;
    }
    CHECK(find_case(wanted, &now) < 0, "no case %d", wanted);
    if (!strcmp(what, "name")) {
        printf("%s|%zu|%s|%s\n", KINDS[now.kind].name, SIZES[now.size], now.other_thread ? "other" : "same", TIMES[now.time]);
        return 0;
    }
    right = !strcmp(what, "right");
    size = SIZES[now.size];
    at_exit_only = now.time == 2;
    KINDS[now.kind].begin();
    if (now.time == 1) noise();
    if (at_exit_only) {
        /* The last thing that the program does. */
        atexit(act);
        return 0;
    }
    act();
    KINDS[now.kind].end();
    end_noise();
    return 0;
}
