/* Writes again, after a fork, what lies on a file: the kernel then moves it to DRAM, OS page by OS page, in the parent as in
 * the child. Each tells which block it was and how much of it was rewritten, and what the kernel counts as anonymous of all
 * mappings of the file.
 *
 * moved FILE MS: MS milliseconds pass after each step, for whoever watches. */
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>

enum { LARGE = 16 << 20, OS_PAGE = 4096 };

static const char *file;
static unsigned ms;

/* Bytes of anonymous memory in mappings of the file, without allocating. */
static long anonymous(void) {
    static char text[4 << 20];
    int smaps = open("/proc/self/smaps", O_RDONLY);
    size_t length = 0;
    for (ssize_t got; (got = read(smaps, text + length, sizeof text - 1 - length)) > 0;) length += (size_t)got;
    close(smaps);
    text[length] = 0;
    long kib = 0, counts = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        long one;
        if (sscanf(line, "Anonymous: %ld kB", &one) == 1) kib += counts ? one : 0;
        else if (strchr(line, '-') && (line[0] < 'A' || line[0] > 'Z')) counts = strstr(line, file) != NULL;
    }
    return kib * 1024;
}

static void pass(void) {
    usleep(ms * 1000);
    free(malloc(100)); /* the recorder may have waited for an occasion */
    usleep(ms * 1000);
}

/* Rewrites every `step`th OS page from `first` on, `count` of them. */
static void rewrite(volatile char *block, size_t first, size_t step, size_t count) {
    for (size_t i = 0; i < count; i++) block[(first + i * step) * OS_PAGE] = 2;
}

static void tell(const char *who, volatile char *block, size_t pages) {
    char line[200];
    long all = anonymous();
    int length = snprintf(line, sizeof line, "%s %p %d %zu %ld\n", who, (void *)block, (int)LARGE, pages * OS_PAGE, all);
    CHECK(write(1, line, (size_t)length) == length, "write");
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: moved FILE MS");
    file = argv[1];
    ms = (unsigned)strtoul(argv[2], NULL, 0);
    volatile char *block = malloc(LARGE);
    CHECK(block, "memory");
    memset((void *)block, 1, LARGE);
    pid_t child = fork();
    if (child == 0) {
        pass();
        rewrite(block, 100, 1, 50);
        pass();
        char who[32];
        snprintf(who, sizeof who, "child-%d", (int)getpid());
        tell(who, block, 50);
        _exit(0);
    }
    pass();
    rewrite(block, 0, 3, 200);
    pass();
    rewrite(block, 1000, 1, 500);
    pass();
    tell("parent", block, 700);
    /* What is allocated now where copies lie was moved before it was there. */
    free((void *)block);
    char *again = malloc(LARGE);
    CHECK(again, "memory");
    char line[100];
    int length = snprintf(line, sizeof line, "again %p %d\n", (void *)again, (int)LARGE);
    CHECK(write(1, line, (size_t)length) == length, "write");
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "child %#x", status);
    return 0;
}
