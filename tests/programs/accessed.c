/* Large blocks that are accessed or left alone: what a recorder must have seen of them.
 *
 * accessed MS: fills four blocks; for MS milliseconds reads one, then for as long writes another, a third one is left alone. Of
 * the fourth, a single byte is read all the time. Tells the blocks' addresses, and when (ns of the monotonic clock) it had
 * filled them, when it began to write, and when that ended. */
#include "check.h"
#include <time.h>

enum { LARGE = 8 << 20, OS_PAGE = 4096 };

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static volatile char *large(const char *name) {
    char *block = malloc(LARGE);
    CHECK(block, "memory");
    memset(block, 1, LARGE);
    printf("%s %p %d\n", name, (void *)block, (int)LARGE);
    return block;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: accessed MS");
    long ns = strtol(argv[1], NULL, 0) * 1000000, sum = 0;
    volatile char *read = large("read"), *written = large("written"), *idle = large("idle"), *hot = large("hot");
    long filled = now_ns();
    while (now_ns() < filled + ns) {
        for (size_t i = 0; i < LARGE; i += OS_PAGE) sum += read[i] + *hot;
    }
    long writing = now_ns();
    while (now_ns() < writing + ns) {
        for (size_t i = 0; i < LARGE; i += OS_PAGE) written[i] = 2, sum += *hot;
    }
    long end = now_ns();
    CHECK(sum > 0, "contents");
    printf("times %ld %ld %ld\n", filled, writing, end);
    free((void *)read), free((void *)written), free((void *)idle), free((void *)hot);
    return 0;
}
