/* Loops whose waiting is known, for sampling:
 *   chase MIB SECONDS   dependent loads all over MIB of memory
 *   mixed MIB SECONDS   the same half of the time, arithmetic the other half; says which part it waited
 *   stream MIB SECONDS  reads the memory in order
 *   compute 0 SECONDS   arithmetic only
 * Seconds are of the thread's own time, so that a busy machine changes nothing. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORDS = 8 }; /* of a line */

static double own_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* One cycle over all lines, made without a random access: a linear congruence of full period (Hull and Dobell, 1962). */
static uint64_t *ring(size_t lines) {
    uint64_t *words = malloc(lines * WORDS * sizeof *words);
    if (!words) exit(1);
    for (size_t i = 0; i < lines; i++) words[i * WORDS] = (i * 1664525 + 1013904223) % lines * WORDS;
    return words;
}

__attribute__((noinline)) static uint64_t follow(const uint64_t *words, uint64_t at, long steps) {
    for (long i = 0; i < steps; i++) at = words[at];
    return at;
}

__attribute__((noinline)) static uint64_t sum(const uint64_t *words, size_t count) {
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) all += words[i];
    return all;
}

__attribute__((noinline)) static uint64_t mix(uint64_t value, long steps) {
    for (long i = 0; i < steps; i++) value ^= value << 13, value ^= value >> 7, value ^= value << 17;
    return value;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    size_t lines = (size_t)atol(argv[2]) << 14;
    uint64_t *words = lines ? ring(lines) : NULL;
    double start = own_time(), waited = 0;
    uint64_t at = 0, value = 1;
    while (own_time() - start < atof(argv[3])) {
        double before = own_time();
        if (!strcmp(argv[1], "stream")) value += sum(words, lines * WORDS);
        else if (!strcmp(argv[1], "compute")) value = mix(value, 100000);
        else at = follow(words, at, 5000);
        double took = own_time() - before;
        waited += took;
        if (!strcmp(argv[1], "mixed"))
            while (own_time() - before < 2 * took) value = mix(value, 20000);
    }
    printf("%.4f %s\n", waited / (own_time() - start), at + value ? "" : "!");
    return 0;
}
