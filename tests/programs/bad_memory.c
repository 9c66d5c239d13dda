/* A program whose slow tier goes bad under it.
 *   guarded   reads all of its blocks with tm_read_guarded, again and again until one fails, and says what it found
 *   raw       reads them with plain loads until it ends
 *   handled   the same, with a SIGBUS handler of its own */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>

enum { BLOCKS = 6, SIZE = 2 << 20 };
static char *blocks[BLOCKS];
static char copy[SIZE];
static sigjmp_buf back;

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    char *at = info->si_addr;
    for (int i = 0; i < BLOCKS; i++)
        if (at >= blocks[i] && at < blocks[i] + SIZE) siglongjmp(back, i + 1);
    siglongjmp(back, 100);
}

static int patience(void) { /* 20 ms a round; 3 seconds and more in all */
    static int rounds;
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    return rounds++ < 150;
}

static void guarded(void) {
    int (*read_guarded)(const void *, void *, size_t) = (int (*)(const void *, void *, size_t))dlsym(RTLD_DEFAULT, "tm_read_guarded");
    CHECK(read_guarded != NULL, "no tm_read_guarded");
    while (patience()) {
        int bad = 0, which = -1, error = 0;
        for (int i = 0; i < BLOCKS; i++) {
            int got = read_guarded(blocks[i], copy, SIZE);
            if (got) bad++, which = i, error = got;
            else CHECK(differs(copy, SIZE, SIZE, i) < 0, "block %d has changed", i);
        }
        if (bad) {
            printf("%d of %d blocks: number %d, %s\n", bad, BLOCKS, which, error == EHWPOISON ? "poisoned" : error == ENODEV ? "gone" : "?");
            /* All else goes on. */
            for (int i = 0; i < 20000; i++) {
                char *more = malloc(100 + i % 3000);
                CHECK(more != NULL, "no memory");
                memset(more, i, 100);
                if (i % 2) free(more);
            }
            for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
            return;
        }
    }
    puts("nothing went bad");
}

static void raw(void) {
    while (patience())
        for (int i = 0; i < BLOCKS; i++) CHECK(differs(blocks[i], SIZE, SIZE, i) < 0, "block %d has changed", i);
    puts("nothing went bad");
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(SIZE)) != NULL, "no memory");
        fill(blocks[i], SIZE, i);
    }
    if (!strcmp(how, "handled")) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sigaction(SIGBUS, &action, NULL);
        int which = sigsetjmp(back, 1);
        if (!which) raw();
        else printf("SIGBUS in block %d\n", which - 1);
    } else if (!strcmp(how, "raw")) {
        raw();
    } else {
        guarded();
    }
    return 0;
}
