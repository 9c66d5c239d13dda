/* Allocates what its standard input says, one command a line, and answers each with "done N":
 *   hold COUNT SIZE      allocates COUNT blocks of SIZE bytes, writes them and keeps them; N = how many it got
 *   thread COUNT SIZE    the same in a thread of its own
 *   free                 frees all that is held
 *   hint TIER            tm_hint_push of the tier of that name, found with dlsym; N = its result, -1 for no such tier
 *   unhint               tm_hint_pop; N = its result
 *   check                all contents are intact; N = blocks
 *   fork                 a child checks and overwrites everything, then the parent checks; N = the child's status
 *   end */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>

enum { MOST = 4000000 };
static struct { char *block; size_t size; } *held;
static size_t held_n;

static long hold(unsigned long count, size_t size) {
    unsigned long n = 0;
    for (; n < count && held_n < MOST; n++) {
        char *block = malloc(size);
        if (!block) break;
        memset(block, 1, size);
        fill(block, size, held_n);
        held[held_n].block = block, held[held_n++].size = size;
    }
    return (long)n;
}

static struct { unsigned long count; size_t size; long got; } request;
static void *hold_in_thread(void *unused) {
    request.got = hold(request.count, request.size);
    return unused;
}

static long check(void) {
    for (size_t i = 0; i < held_n; i++) CHECK(differs(held[i].block, held[i].size, held[i].size, i) < 0, "block %zu changed", i);
    return (long)held_n;
}

static long fork_and_check(void) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        check();
        for (size_t i = 0; i < held_n; i++) memset(held[i].block, 0xEE, held[i].size);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid) return -1;
    check();
    return status;
}

int main(void) {
    /* Outside the heap, so that the heap holds only what was asked for. */
    static struct { char *block; size_t size; } table[MOST];
    held = (void *)table;
    static char line[256], output[4096];
    setvbuf(stdout, output, _IOLBF, sizeof output);
    printf("ready\n");
    while (fgets(line, sizeof line, stdin)) {
        char word[32] = "", name[64] = "";
        unsigned long count = 0, size = 0;
        long answer = 0;
        sscanf(line, "%31s %lu %lu", word, &count, &size);
        if (!strcmp(word, "hold")) {
            answer = hold(count, size);
        } else if (!strcmp(word, "thread")) {
            pthread_t thread;
            request.count = count, request.size = size;
            CHECK(pthread_create(&thread, NULL, hold_in_thread, NULL) == 0, "pthread_create");
            pthread_join(thread, NULL);
            answer = request.got;
        } else if (!strcmp(word, "free")) {
            answer = (long)held_n;
            while (held_n) free(held[--held_n].block);
        } else if (!strcmp(word, "hint")) {
            int (*tier)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "tm_tier");
            int (*push)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "tm_hint_push");
            CHECK(tier && push, "no tm_tier or tm_hint_push");
            sscanf(line, "%*s %63s", name);
            answer = push(tier(name));
        } else if (!strcmp(word, "unhint")) {
            int (*pop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "tm_hint_pop");
            CHECK(pop, "no tm_hint_pop");
            answer = pop();
        } else if (!strcmp(word, "check")) {
            answer = check();
        } else if (!strcmp(word, "fork")) {
            answer = fork_and_check();
        } else {
            break;
        }
        printf("done %ld\n", answer);
    }
    return 0;
}
