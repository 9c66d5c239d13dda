/* Fork gives the child the parent's memory as it was, wherever it lay, and from then on both write only their own.
 * Threads of the parent write all the time: the child's view must stand still, and the parent must lose no write.
 * Arguments: rounds, MiB of blocks. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { WRITERS = 2, COUNTERS = 3000 };
static atomic_int stop;
static size_t blocks_n;
static char **blocks;
static size_t *sizes;
static volatile uint64_t **counters[WRITERS];

/* Counts in blocks of its own; only this thread writes them, so what it remembers must always be there. */
static void *write_on(void *number) {
    volatile uint64_t **own = counters[(uintptr_t)number];
    uint64_t *expected = calloc(COUNTERS, sizeof *expected);
    uint64_t random = 5 + (uintptr_t)number;
    while (!atomic_load(&stop)) {
        size_t at = next_random(&random) % COUNTERS;
        CHECK(*own[at] == expected[at], "a write was lost at a fork: %lu, not %lu", (unsigned long)*own[at], (unsigned long)expected[at]);
        *own[at] = ++expected[at];
    }
    for (size_t at = 0; at < COUNTERS; at++) CHECK(*own[at] == expected[at], "a write was lost");
    free(expected);
    return NULL;
}

static void fill_all(uint64_t seed) {
    for (size_t i = 0; i < blocks_n; i++) fill(blocks[i], sizes[i], seed + i);
}

static void check_all(uint64_t seed, const char *who) {
    for (size_t i = 0; i < blocks_n; i++) {
        long bad = differs(blocks[i], sizes[i], sizes[i], seed + i);
        CHECK(bad < 0, "%s: block %zu of %zu differs at %ld", who, i, sizes[i], bad);
    }
}

static uint64_t sum_of_counters(void) {
    uint64_t sum = 0;
    for (int w = 0; w < WRITERS; w++)
        for (size_t at = 0; at < COUNTERS; at++) sum += *counters[w][at];
    return sum;
}

static void expect(int file, char wanted) {
    char got = 0;
    CHECK(read(file, &got, 1) == 1 && got == wanted, "the other process is gone");
}

static void tell(int file, char what) { CHECK(write(file, &what, 1) == 1, "cannot tell the other process"); }

static void child(uint64_t seed, int from_parent, int to_parent) {
    alarm(120);
    uint64_t before = sum_of_counters();
    check_all(seed, "child, at once");
    tell(to_parent, 'a');
    expect(from_parent, 'b'); /* the parent has overwritten everything meanwhile */
    check_all(seed, "child, after the parent wrote");
    CHECK(sum_of_counters() == before, "the child sees the parent's writes after the fork");
    fill_all(seed + 1000000);
    tell(to_parent, 'c');
    expect(from_parent, 'd');
    check_all(seed + 1000000, "child, after both wrote");
    pid_t pid = fork(); /* and once more, one generation down */
    CHECK(pid >= 0, "fork in a child");
    if (pid == 0) {
        check_all(seed + 1000000, "grandchild");
        for (size_t i = 0; i < blocks_n; i++) free(blocks[i]);
        _exit(0);
    }
    fill_all(seed + 2000000);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the grandchild failed with %d", status);
    check_all(seed + 2000000, "child, after the grandchild");
    _exit(0);
}

int main(int argc, char **argv) {
    unsigned long rounds = argument(argc, argv, 1, 20), mebibytes = argument(argc, argv, 2, 64);
    uint64_t random = 42;
    blocks = malloc(sizeof *blocks * 100000);
    sizes = malloc(sizeof *sizes * 100000);
    for (size_t total = 0; total < mebibytes << 20 && blocks_n < 100000; blocks_n++) {
        sizes[blocks_n] = random_size(&random);
        blocks[blocks_n] = malloc(sizes[blocks_n]);
        CHECK(blocks[blocks_n], "no memory after %zu bytes", total);
        total += sizes[blocks_n];
    }
    pthread_t writers[WRITERS];
    for (uintptr_t w = 0; w < WRITERS; w++) {
        counters[w] = malloc(sizeof *counters[w] * COUNTERS);
        for (size_t at = 0; at < COUNTERS; at++) CHECK((counters[w][at] = calloc(1, 64 + at % 7 * 100)), "calloc");
        CHECK(pthread_create(&writers[w], NULL, write_on, (void *)w) == 0, "pthread_create");
    }
    for (unsigned long round = 0; round < rounds; round++) {
        uint64_t seed = round * 7919;
        fill_all(seed);
        int down[2], up[2];
        CHECK(pipe(down) == 0 && pipe(up) == 0, "pipe");
        pid_t pid = fork();
        CHECK(pid >= 0, "fork");
        if (pid == 0) {
            close(down[1]), close(up[0]); /* so that the end of one process is seen by the other */
            child(seed, down[0], up[1]);
        }
        close(down[0]), close(up[1]);
        if (round % 2) expect(up[0], 'a'); /* else write while the child still reads */
        fill_all(seed + 500000);
        if (!(round % 2)) expect(up[0], 'a');
        tell(down[1], 'b');
        expect(up[0], 'c');
        check_all(seed + 500000, "parent, after the child wrote");
        /* Free and allocate anew while the child lives. */
        for (size_t i = round % 3; i < blocks_n; i += 3) {
            free(blocks[i]);
            CHECK((blocks[i] = malloc(sizes[i])), "malloc");
        }
        fill_all(seed + 600000);
        tell(down[1], 'd');
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0, "child ended with %#x", status);
        check_all(seed + 600000, "parent, at the end");
        close(down[1]), close(up[0]);
    }
    atomic_store(&stop, 1);
    for (int w = 0; w < WRITERS; w++) pthread_join(writers[w], NULL);
    printf("ok %lu rounds, %zu blocks\n", rounds, blocks_n);
    return 0;
}
