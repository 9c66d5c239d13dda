/* What a program that falls idle keeps of what it freed. Arguments: who frees ("own": the thread that allocated; "others":
 * four threads that live on and never call the allocator again; "sleeper": others, and the thread that allocated sleeps in a
 * system call from before the first free and for ever), thousands of blocks, bytes a block.
 * Prints "peak", waits for a line, prints "freed", and is idle until its standard input is closed. */
#include "check.h"
#include <pthread.h>
#include <semaphore.h>

enum { FREERS = 4 };
struct block { struct block *next; };
static struct block *chains[FREERS];
static size_t count, size;
static sem_t allocated, never, freed;
static const char *who;

static void free_chain(struct block *block) {
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

static void allocate_all(void) {
    for (size_t i = 0; i < count; i++) {
        struct block *block = malloc(size);
        CHECK(block, "malloc");
        memset(block, 1, size);
        /* Runs of neighbours go to the same thread, as they do in programs that hand work on in batches. */
        struct block **chain = &chains[i / 1000 % FREERS];
        block->next = *chain;
        *chain = block;
    }
}

static void *allocate(void *unused) {
    allocate_all();
    sem_post(&allocated);
    if (!strcmp(who, "own"))
        for (int i = 0; i < FREERS; i++) free_chain(chains[i]), sem_post(&freed);
    while (sem_wait(&never) != 0) {}
    return unused;
}

static void *free_others(void *chain) {
    free_chain(chain);
    sem_post(&freed);
    while (sem_wait(&never) != 0) {}
    return NULL;
}

int main(int argc, char **argv) {
    who = argc > 1 ? argv[1] : "own";
    count = argument(argc, argv, 2, 4000) * 1000;
    size = argument(argc, argv, 3, 120);
    CHECK(sem_init(&allocated, 0, 0) == 0 && sem_init(&never, 0, 0) == 0 && sem_init(&freed, 0, 0) == 0, "sem_init");
    char line[16];
    pthread_t thread;
    int sleeper = !strcmp(who, "sleeper");
    if (sleeper) {
        CHECK(pthread_create(&thread, NULL, allocate, NULL) == 0, "pthread_create");
        while (sem_wait(&allocated) != 0) {}
    } else {
        allocate_all();
    }
    CHECK(write(1, "peak\n", 5) == 5 && read(0, line, sizeof line) > 0, "stdin and stdout");
    if (!strcmp(who, "own")) {
        for (int i = 0; i < FREERS; i++) free_chain(chains[i]);
    } else {
        for (int i = 0; i < FREERS; i++) CHECK(pthread_create(&thread, NULL, free_others, chains[i]) == 0, "pthread_create");
        for (int i = 0; i < FREERS; i++) while (sem_wait(&freed) != 0) {}
    }
    CHECK(write(1, "freed\n", 6) == 6, "stdout");
    while (read(0, line, sizeof line) > 0) {}
    _exit(0);
}
