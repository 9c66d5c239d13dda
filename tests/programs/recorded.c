/* Allocates in ways that it counts, and tells the counts: what a recorder must have seen of it.
 *
 * threads N: four threads allocate, resize and free N times each, most of it blocks of each other's; some stay.
 * WAY N: N blocks, every third of them freed, and an end by WAY: return, _exit, quick_exit (whose handler
 * allocates, too), kill, exec, failed-exec, fork, abort, assert; idle-SIGNAL: by the signal of that number, some time after. */
#include "check.h"
#include <assert.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { SLOTS = 512, THREADS = 4 };

/* A block that anybody may take, and its size in front of what was asked for in addition to it. */
static _Atomic(size_t *) slots[SLOTS];
static atomic_long allocated, freed, resized, live, bytes;

static size_t *get(uint64_t *random) {
    size_t size = random_size(random) + sizeof(size_t);
    size_t *block = NULL;
    void *aligned = NULL;
    switch (next_random(random) % 5) {
    case 0: block = calloc(1, size); break;
    case 1: block = aligned_alloc(128, size = (size + 127) / 128 * 128); break;
    case 2: CHECK(posix_memalign(&aligned, 4096, size) == 0, "aligned"); block = aligned; break;
    default: block = malloc(size);
    }
    CHECK(block, "memory");
    *block = size;
    allocated += 1;
    live += 1;
    bytes += (long)size;
    return block;
}

static void give(size_t *block) {
    if (block == NULL) return;
    freed += 1;
    live -= 1;
    bytes -= (long)*block;
    free(block);
}

static size_t *resize(size_t *block, uint64_t *random) {
    if (block == NULL) return NULL;
    size_t before = *block, size = random_size(random) + sizeof(size_t);
    block = realloc(block, size);
    CHECK(block && *block == before, "realloc kept %zu of %zu", *block, before);
    *block = size;
    resized += 1;
    bytes += (long)size - (long)before;
    return block;
}

static unsigned long rounds;

static void *work(void *number) {
    uint64_t random = 99 + (uintptr_t)number;
    for (unsigned long n = 0; n < rounds; n++) {
        _Atomic(size_t *) *slot = &slots[next_random(&random) % SLOTS];
        size_t *mine = next_random(&random) % 3 ? get(&random) : resize(atomic_exchange(slot, NULL), &random);
        give(atomic_exchange(slot, mine));
    }
    return NULL;
}

static void tell(const char *who) {
    char text[200];
    int length = snprintf(text, sizeof text, "%s %ld %ld %ld %ld %ld\n", who, (long)allocated, (long)freed,
                          (long)resized, (long)live, (long)bytes);
    CHECK(write(1, text, (size_t)length) == length, "write");
}

static size_t **blocks;

static void some(unsigned long count) {
    uint64_t random = 5;
    for (unsigned long n = 0; n < count; n++) {
        blocks[n] = get(&random);
        if (n % 3) continue;
        give(blocks[n]);
        blocks[n] = NULL;
    }
}

static void last_words(void) {
    some(rounds / 2);
    tell("recorded");
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: recorded WAY N");
    const char *way = argv[1];
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    rounds = strtoul(argv[2], NULL, 0);
    if (!strcmp(way, "threads")) {
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, work, (void *)i), "thread");
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        tell("recorded");
        return 0;
    }
    static size_t *room[1 << 20];
    CHECK(rounds <= 1 << 20, "at most a million");
    blocks = room;
    some(rounds);
    if (!strcmp(way, "fork")) {
        fflush(NULL);
        int status;
        tell("parent");
        pid_t child = fork();
        if (child == 0) {
            allocated = freed = resized = live = bytes = 0;
            static size_t *other_room[1 << 20];
            size_t **inherited = blocks;
            blocks = other_room;
            some(rounds / 2);
            for (unsigned long n = 0; n < 100; n++) free(inherited[n]);
            char pid[32];
            snprintf(pid, sizeof pid, "child-%d", (int)getpid());
            tell(pid);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0, "child %#x", status);
        return 0;
    }
    if (!strcmp(way, "failed-exec")) {
        char *arguments[] = {"nothing", NULL};
        CHECK(execv("/there/is/no/such/program", arguments) == -1, "exec");
        some(rounds);
    }
    if (!strcmp(way, "quick_exit")) {
        CHECK(!at_quick_exit(last_words), "at_quick_exit");
        quick_exit(0);
    }
    tell("recorded");
    if (!strcmp(way, "_exit")) _exit(0);
    if (!strcmp(way, "kill")) raise(SIGKILL);
    if (!strcmp(way, "abort")) abort();
    if (!strcmp(way, "assert")) assert(!"so");
    if (!strncmp(way, "idle-", 5)) {
        sleep(2);
        raise(atoi(way + 5));
    }
    if (!strcmp(way, "exec")) execlp("true", "true", (char *)NULL);
    return 0;
}
