/* A program whose slow tier breaks and is healed while it runs. It asks nothing of the allocator meanwhile: it loads from its
 * blocks every 10 ms, and each time that another number of them cannot be loaded from, says so ("parent: 6 bad"). Ends at the
 * end of its input.
 *   alone     one process
 *   forked    and a child of fork, which does the same ("child: 6 bad") until the parent ends */
#include "check.h"
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { BLOCKS = 6, SIZE = 2 << 20 };
static char *blocks[BLOCKS];
static sigjmp_buf back;

static void on_bad_memory(int signal) { siglongjmp(back, signal); }

static int cannot_be_loaded(int block) {
    if (sigsetjmp(back, 1)) return 1;
    CHECK(differs(blocks[block], SIZE, SIZE, block) < 0, "block %d has changed", block);
    return 0;
}

static void watch(const char *who, int input) {
    char line[64];
    int said = -1;
    struct pollfd at_input = {.fd = input, .events = POLLIN};
    while (poll(&at_input, 1, 10) == 0) {
        int bad = 0;
        for (int i = 0; i < BLOCKS; i++) bad += cannot_be_loaded(i);
        if (bad == said) continue;
        said = bad;
        size_t length = (size_t)snprintf(line, sizeof line, "%s: %d bad\n", who, bad);
        CHECK(write(1, line, length) == (ssize_t)length, "nobody hears");
    }
}

int main(int argc, char **argv) {
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(SIZE)) != NULL, "no memory");
        fill(blocks[i], SIZE, i);
    }
    struct sigaction action = {.sa_handler = on_bad_memory};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    pid_t child = 0;
    if (argc > 1 && !strcmp(argv[1], "forked")) {
        CHECK((child = fork()) >= 0, "fork");
        if (!child) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            watch("child", 0);
            return 0;
        }
    }
    watch("parent", 0);
    if (child) CHECK(waitpid(child, NULL, 0) == child, "waitpid");
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    puts("end");
    return 0;
}
