/* `counted MODE N`: does N of one thing, and what each mode does besides does not depend on N. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone)) static

/* A load and a store of four bytes. */
APART void walk(volatile int *at, long n) {
    for (long i = 0; i < n; i++) {
        at[i % 64] = at[(i + 7) % 64];
    }
}

/* Two loads and two stores of eight bytes at one address, which is what address sanitizers check once. */
APART void again(volatile long *at, long n) {
    for (long i = 0; i < n; i++) {
        long first = at[5];
        at[5] = first + 1;
        long second = at[5];
        at[5] = second + 1;
    }
}

/* A load and a store of an array whose address nobody else gets, which is what thread sanitizers leave out. */
APART long stack(long n) {
    volatile long array[64];
    for (long i = 0; i < 64; i++) {
        array[i] = i;
    }
    for (long i = 0; i < n; i++) {
        array[i % 64] = array[(i + 1) % 64] + 1;
    }
    return array[3];
}

struct large {
    char bytes[4096];
};

/* A range of 4096 bytes read, one written; not once more as a call of memcpy. */
APART void structure(struct large *to, struct large *from, long n) {
    for (long i = 0; i < n; i++) {
        *to = *from;
        __asm__ volatile("" : : "r"(to), "r"(from) : "memory");
    }
}

struct bits {
    unsigned first : 3;
    unsigned second : 7;
    unsigned third : 22;
};

/* A load and a store of what holds the bits. */
APART void fields(volatile struct bits *at, long n) {
    for (long i = 0; i < n; i++) {
        at->second = (unsigned)i;
    }
}

/* Three stores and a load. */
APART long atomic(long *at, long n) {
    long last = 0;
    for (long i = 0; i < n; i++) {
        __atomic_fetch_add(at, 1, __ATOMIC_SEQ_CST);
        long expected = 3;
        __atomic_compare_exchange_n(at, &expected, 4, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        last += __atomic_load_n(at, __ATOMIC_ACQUIRE);
        __atomic_store_n(at, i, __ATOMIC_RELEASE);
    }
    return last;
}

/* A load and a store of sixteen bytes for each four floats, if loops become vectors. */
APART void vector(float *restrict to, const float *restrict from, long n) {
    for (long i = 0; i < n * 4; i++) {
        to[i] = from[i] * 3;
    }
}

static void *thread(void *n) {
    int block[64] = {0};
    walk(block, (long)n);
    return NULL;
}

/* Four threads, and a child of fork that one of them makes. */
static void *forks(void *n) {
    if (fork() == 0) {
        thread(n);
        _exit(0);
    }
    wait(NULL);
    return thread(n);
}

static int threads(long n) {
    pthread_t all[4];
    for (int i = 0; i < 4; i++) {
        pthread_create(&all[i], NULL, i == 2 ? forks : thread, (void *)n);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(all[i], NULL);
    }
    return 0;
}

static volatile long handled;

static void handler(int number) {
    int block[64] = {number};
    walk(block, 5000);
    handled++;
}

/* Handlers that come at any time: says how many. */
static int interrupted(volatile int *at, long n) {
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    walk(at, n);
    setitimer(ITIMER_REAL, &never, NULL);
    fprintf(stderr, "handled %ld times\n", handled);
    return 0;
}

static int library(volatile int *at, long n, const char *path) {
    void *opened = dlopen(path, RTLD_NOW);
    if (opened == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    void (*work)(volatile int *, long) = (void (*)(volatile int *, long))dlsym(opened, "work");
    work(at, n);
    return dlclose(opened);
}

/* For a shared library that is built from this file. */
void work(volatile int *at, long n) {
    void *volatile kept = malloc(5000);
    walk(at, n);
    free(kept);
}

APART void *near_blocks(long n) {
    void *volatile last = NULL;
    for (long i = 0; i < n; i++) {
        last = malloc(1000);
    }
    return last;
}

APART void *far_blocks(long n) {
    void *volatile last = NULL;
    for (long i = 0; i < n; i++) {
        last = malloc(i % 2 == 0 ? 1000 : 100000);
    }
    return last;
}

int main(int argc, char **argv) {
    static struct large large[2];
    static float floats[2][40000];
    static long value;
    volatile int *block = calloc(64, sizeof *block);
    if (argc < 3 || block == NULL) {
        return 2;
    }
    const char *mode = argv[1];
    long n = atol(argv[2]);
    if (strcmp(mode, "walk") == 0) {
        walk(block, n);
    } else if (strcmp(mode, "again") == 0) {
        again(&value, n);
    } else if (strcmp(mode, "stack") == 0) {
        return stack(n) == -1;
    } else if (strcmp(mode, "structure") == 0) {
        structure(&large[0], &large[1], n);
    } else if (strcmp(mode, "fields") == 0) {
        fields((volatile struct bits *)block, n);
    } else if (strcmp(mode, "atomic") == 0) {
        return atomic(&value, n) == -1;
    } else if (strcmp(mode, "vector") == 0) {
        vector(floats[0], floats[1], n);
    } else if (strcmp(mode, "threads") == 0) {
        return threads(n);
    } else if (strcmp(mode, "interrupted") == 0) {
        return interrupted(block, n);
    } else if (strcmp(mode, "library") == 0) {
        return argc > 3 ? library(block, n, argv[3]) : 2;
    } else if (strcmp(mode, "blocks") == 0) {
        return near_blocks(n) == far_blocks(n);
    } else if (strcmp(mode, "exec") == 0) {
        walk(block, n);
        execl("/proc/self/exe", argv[0], "walk", "7000", NULL);
        return 3;
    }
    return 0;
}
