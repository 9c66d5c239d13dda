/* What the test programs share: checks that end the program with a message, a cheap random sequence, patterns. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the whole program at once. Formats on the stack and writes directly: the heap may be what is broken. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            char check_text[512];                                                                                      \
            int check_saved = errno;                                                                                   \
            int check_length = snprintf(check_text, sizeof check_text, "CHECK %s:%d: %s: ", __FILE__, __LINE__,        \
                                        #condition);                                                                   \
            check_length += snprintf(check_text + check_length, sizeof check_text - (size_t)check_length,              \
                                     __VA_ARGS__);                                                                     \
            if (check_length > 480) check_length = 480;                                                                \
            check_length += snprintf(check_text + check_length, sizeof check_text - (size_t)check_length,              \
                                     " (errno %d)\n", check_saved);                                                    \
            if (write(2, check_text, (size_t)check_length) < 0) _exit(98);                                             \
            _exit(99);                                                                                                 \
        }                                                                                                              \
    } while (0)

/* xorshift64*: repeatable, no state outside the caller's. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}

/* Sizes as programs ask for them: mostly small, some medium, few large. */
static inline size_t random_size(uint64_t *state) {
    uint64_t r = next_random(state);
    uint64_t kind = r & 127, rest = r >> 8;
    if (kind < 90) return rest % 256;
    if (kind < 115) return rest % 4096;
    if (kind < 125) return rest % 65536;
    if (kind < 127) return rest % (512 << 10);
    return rest % (3 << 20);
}

/* Fills a block with a pattern that its seed determines; large blocks at both ends and once every 512 bytes. */
static inline void fill(void *block, size_t size, uint64_t seed) {
    unsigned char *bytes = (unsigned char *)block;
    unsigned char mark = (unsigned char)(seed * 167 + 13);
    size_t dense = size < 4096 ? size : 256;
    for (size_t i = 0; i < dense; i++) bytes[i] = (unsigned char)(mark + i);
    for (size_t i = dense; i < size; i += 512) bytes[i] = (unsigned char)(mark + (i >> 9));
    if (size > dense) bytes[size - 1] = mark;
}

/* First offset where a block that was filled at `size` differs within its first `kept` bytes, or -1. */
static inline long differs(const void *block, size_t size, size_t kept, uint64_t seed) {
    const unsigned char *bytes = (const unsigned char *)block;
    unsigned char mark = (unsigned char)(seed * 167 + 13);
    size_t dense = size < 4096 ? size : 256;
    for (size_t i = 0; i < dense && i < kept; i++)
        if (bytes[i] != (unsigned char)(mark + i)) return (long)i;
    for (size_t i = dense; i < size && i < kept; i += 512)
        if (i != size - 1 && bytes[i] != (unsigned char)(mark + (i >> 9))) return (long)i;
    if (size > dense && kept >= size && bytes[size - 1] != mark) return (long)(size - 1);
    return -1;
}

/* Resident memory of this process in bytes, read without touching the heap. */
#include <fcntl.h>
static inline size_t resident_bytes(void) {
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    const char *second = strchr(text, ' ');
    return second ? strtoul(second, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Mappings of this process: lines of /proc/self/maps. */
static inline size_t mappings(void) {
    char text[4096];
    size_t lines = 0;
    ssize_t length;
    int file = open("/proc/self/maps", O_RDONLY);
    while ((length = read(file, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++) lines += text[i] == '\n';
    close(file);
    return lines;
}

static inline unsigned long argument(int argc, char **argv, int index, unsigned long otherwise) {
    return index < argc ? strtoul(argv[index], NULL, 10) : otherwise;
}

#endif
