/* The ends of threads and of the program. One part per name: race (threads exit while others free their blocks),
 * destructors (pthread keys whose destructors allocate and free), exit_handlers, exit_while_running (exit with threads in
 * malloc), main_leaves (main ends first), cancelled (threads cancelled at cancellation points), quick. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { BATCH = 200 };

static char *handed[BATCH * 4];
static pthread_barrier_t barrier;

static void *leave_blocks(void *number) {
    for (uintptr_t i = 0; i < BATCH; i++) {
        char *block = malloc(i * 40 + 1);
        fill(block, i * 40 + 1, i);
        handed[(uintptr_t)number * BATCH + i] = block;
    }
    pthread_barrier_wait(&barrier);
    return NULL; /* the heap of this thread ends now, while its blocks are being freed */
}

static void *free_blocks(void *number) {
    pthread_barrier_wait(&barrier);
    for (uintptr_t i = 0; i < BATCH; i++) {
        char *block = handed[(uintptr_t)number * BATCH + i];
        CHECK(differs(block, i * 40 + 1, i * 40 + 1, i) < 0, "a leaving thread's block changed");
        free(block);
    }
    return NULL;
}

static void race(void) {
    size_t before = 0;
    for (int round = 0; round < 1500; round++) {
        if (round == 150) before = resident_bytes();
        pthread_t threads[8];
        pthread_barrier_init(&barrier, NULL, 8);
        for (uintptr_t t = 0; t < 4; t++) {
            CHECK(pthread_create(&threads[t], NULL, leave_blocks, (void *)t) == 0, "pthread_create");
            CHECK(pthread_create(&threads[t + 4], NULL, free_blocks, (void *)t) == 0, "pthread_create");
        }
        for (int t = 0; t < 8; t++) pthread_join(threads[t], NULL);
        pthread_barrier_destroy(&barrier);
    }
    CHECK(resident_bytes() < before + (64 << 20), "resident memory grew from %zu to %zu KiB", before >> 10, resident_bytes() >> 10);
}

static pthread_key_t keys[40];
static atomic_ulong destroyed;

static void destroy(void *value) {
    size_t *block = value;
    size_t key = block[0], rounds = block[1];
    CHECK(key < 40 && rounds < 4 && block[99] == key * 3, "a thread's block changed before its destructor ran");
    char *noise = malloc(key * 500 + 1); /* malloc and free while the thread's own state is being torn down */
    CHECK(noise, "malloc in a destructor");
    memset(noise, 1, key * 500 + 1);
    if (rounds > 0) { /* another round of destructors, up to PTHREAD_DESTRUCTOR_ITERATIONS */
        size_t *next = calloc(1, 800);
        CHECK(next, "calloc in a destructor");
        next[0] = key, next[1] = rounds - 1, next[99] = key * 3;
        pthread_setspecific(keys[key], next);
    }
    free(block);
    free(noise);
    free(realloc(malloc(10), 100000));
    atomic_fetch_add(&destroyed, 1);
}

static void *set_keys(void *number) {
    for (size_t k = 0; k < 40; k++) {
        size_t *block = malloc(800);
        block[0] = k, block[1] = k % 4, block[99] = k * 3;
        CHECK(pthread_setspecific(keys[k], block) == 0, "pthread_setspecific");
    }
    return number;
}

/* Never touches the allocator before its destructors do. */
static void *only_destructor(void *block) {
    pthread_setspecific(keys[((size_t *)block)[0]], block);
    return NULL;
}

static void destructors(void) {
    for (int k = 0; k < 40; k++) CHECK(pthread_key_create(&keys[k], destroy) == 0, "pthread_key_create");
    size_t before = 0;
    for (int round = 0; round < 500; round++) {
        if (round == 50) before = resident_bytes();
        pthread_t threads[5];
        for (int t = 0; t < 4; t++) CHECK(pthread_create(&threads[t], NULL, set_keys, NULL) == 0, "pthread_create");
        size_t *block = calloc(1, 800);
        block[0] = (size_t)round % 40, block[99] = block[0] * 3;
        CHECK(pthread_create(&threads[4], NULL, only_destructor, block) == 0, "pthread_create");
        for (int t = 0; t < 5; t++) pthread_join(threads[t], NULL);
    }
    /* Four threads, 40 keys, 1 + k % 4 rounds each = 100 a thread; and one. */
    CHECK(atomic_load(&destroyed) == 500 * 401, "%lu destructors ran", atomic_load(&destroyed));
    CHECK(resident_bytes() < before + (64 << 20), "resident memory grew from %zu to %zu KiB", before >> 10, resident_bytes() >> 10);
}

static char *kept[500];
static void at_exit(void) {
    for (size_t i = 0; i < 500; i++) {
        CHECK(differs(kept[i], i * 100, i * 100, i) < 0, "a block changed before exit");
        free(kept[i]);
    }
    char *late = malloc(100000);
    CHECK(late, "malloc in an exit handler");
    memset(late, 1, 100000);
    free(late);
    if (write(1, "handler ran\n", 12) != 12) _exit(96);
}
__attribute__((destructor)) static void at_unload(void) {
    free(calloc(10, 1000));
    setenv("LATE", "value", 1);
}

static void exit_handlers(void) {
    for (size_t i = 0; i < 500; i++) {
        CHECK((kept[i] = malloc(i * 100)), "malloc(%zu)", i * 100);
        fill(kept[i], i * 100, i);
    }
    CHECK(atexit(at_exit) == 0, "atexit");
    static char buffer_unflushed[] = "buffered output\n";
    fputs(buffer_unflushed, stdout); /* flushed at exit, from a heap buffer, after our handlers */
}

static void *allocate_forever(void *number) {
    uint64_t random = (uintptr_t)number + 3;
    for (;;) {
        size_t size = random_size(&random);
        char *block = malloc(size);
        CHECK(block, "malloc");
        if (size) block[0] = 1;
        free(block);
    }
    return NULL;
}

static void exit_while_running(void) {
    for (uintptr_t t = 0; t < 6; t++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate_forever, (void *)t) == 0, "pthread_create");
        pthread_detach(thread);
    }
    usleep(30000);
    exit_handlers();
}

static void *outlive_main(void *block) {
    usleep(50000);
    CHECK(differs(block, 5000, 5000, 1) < 0, "main's block changed when main left");
    free(block);
    for (int i = 1; i < 1000; i++) free(calloc((size_t)i, 30));
    exit_handlers();
    return NULL; /* the last thread: the process exits now, with all handlers */
}

static void main_leaves(void) {
    char *block = malloc(5000);
    fill(block, 5000, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, outlive_main, block) == 0, "pthread_create");
    pthread_exit(NULL);
}

static void clean_up(void *block) { free(block); }
static void *be_cancelled(void *unused) {
    for (;;) {
        char *block = malloc(3000);
        pthread_cleanup_push(clean_up, block);
        memset(block, 1, 3000);
        usleep(100); /* cancellation point */
        pthread_cleanup_pop(1);
    }
    return unused;
}

static void cancelled(void) {
    for (int round = 0; round < 500; round++) {
        pthread_t threads[4];
        for (int t = 0; t < 4; t++) CHECK(pthread_create(&threads[t], NULL, be_cancelled, NULL) == 0, "pthread_create");
        usleep(300);
        for (int t = 0; t < 4; t++) pthread_cancel(threads[t]);
        for (int t = 0; t < 4; t++) pthread_join(threads[t], NULL);
    }
}

static void quick(void) {
    free(malloc(1000));
    quick_exit(0);
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(void); } PARTS[] = {
        {"race", race}, {"destructors", destructors}, {"exit_handlers", exit_handlers}, {"exit_while_running", exit_while_running},
        {"main_leaves", main_leaves}, {"cancelled", cancelled}, {"quick", quick}};
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        if (argc > 1 && !strcmp(argv[1], PARTS[i].name)) return PARTS[i].run(), 0;
    CHECK(0, "no part of this name");
}
