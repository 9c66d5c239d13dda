/* Other ways to make processes, each while threads allocate: spawn (vfork, posix_spawn, system, popen), nested (forks
 * inside forks), daemon FILE (the parent ends, the child goes on and writes FILE), exec (a thread replaces the program). */
#include "check.h"
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;
static atomic_int stop;

static void *churn(void *number) {
    uint64_t random = 123 + (uintptr_t)number;
    while (!atomic_load(&stop)) {
        char *blocks[64];
        for (int i = 0; i < 64; i++) {
            size_t size = random_size(&random) / 16 + 1;
            CHECK((blocks[i] = malloc(size)), "malloc");
            blocks[i][size - 1] = 1;
        }
        for (int i = 0; i < 64; i++) free(blocks[i]);
    }
    return NULL;
}

static void check_status(int status, const char *what) {
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s ended with %#x", what, status);
}

static char *true_arguments[] = {"true", NULL};

static void vfork_and_exec(void) {
    int status = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/bin/true", true_arguments, environ);
        _exit(77);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "vfork");
    check_status(status, "vfork + execve");
}

static void spawn(unsigned long times) {
    for (unsigned long n = 0; n < times; n++) {
        int status = 0;
        pid_t pid;
        vfork_and_exec();
        posix_spawn_file_actions_t actions;
        CHECK(posix_spawn_file_actions_init(&actions) == 0, "actions");
        CHECK(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) == 0, "actions");
        CHECK(posix_spawnp(&pid, "true", &actions, NULL, true_arguments, environ) == 0, "posix_spawn");
        CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        check_status(status, "posix_spawn");
        posix_spawn_file_actions_destroy(&actions);
        check_status(system("true"), "system");
        FILE *pipe = popen("echo from the shell", "r");
        char *line = NULL;
        size_t capacity = 0;
        CHECK(pipe && getline(&line, &capacity, pipe) > 0 && !strcmp(line, "from the shell\n"), "popen read %s", line);
        check_status(pclose(pipe), "popen");
        free(line);
    }
}

static void nested(int depth) {
    char *kept = malloc(20000);
    fill(kept, 20000, (uint64_t)depth);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, (void *)(uintptr_t)depth) == 0, "pthread_create at depth %d", depth);
    for (int i = 0; depth > 0 && i < 2; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0, "fork at depth %d", depth);
        if (pid == 0) {
            alarm(100);
            CHECK(differs(kept, 20000, 20000, (uint64_t)depth) < 0, "inherited block at depth %d", depth);
            free(kept);
            nested(depth - 1);
            exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        check_status(status, "nested child");
    }
    CHECK(differs(kept, 20000, 20000, (uint64_t)depth) < 0, "own block at depth %d", depth);
    free(kept);
    if (depth % 2) { /* half of the generations end with a thread still allocating */
        atomic_store(&stop, 1);
        pthread_join(thread, NULL);
        atomic_store(&stop, 0);
    }
}

static void become_daemon(const char *file) {
    char *kept = malloc(5 << 20);
    fill(kept, 5 << 20, 1);
    CHECK(daemon(1, 1) == 0, "daemon");
    alarm(100);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, NULL) == 0, "pthread_create in a daemon");
    for (int i = 0; i < 300; i++) {
        char *block = malloc((size_t)i * 1000);
        CHECK(block, "malloc in a daemon");
        fill(block, (size_t)i * 1000, 4);
        free(block);
        usleep(1000);
    }
    CHECK(differs(kept, 5 << 20, 5 << 20, 1) < 0, "the daemon's inherited memory changed when its parent ended");
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    free(kept);
    char *name = NULL;
    CHECK(asprintf(&name, "%s.part", file) > 0, "asprintf");
    FILE *out = fopen(name, "w");
    CHECK(out && fputs("daemon is well\n", out) >= 0 && fclose(out) == 0 && rename(name, file) == 0, "cannot write %s", file);
    exit(0);
}

static char *self;
static void *exec_soon(void *left) {
    usleep(3000);
    char text[32];
    snprintf(text, sizeof text, "%lu", (unsigned long)(uintptr_t)left);
    execl(self, self, "exec", text, (char *)NULL);
    CHECK(0, "execl");
    return NULL;
}

int main(int argc, char **argv) {
    self = argv[0];
    const char *way = argc > 1 ? argv[1] : "";
    if (!strcmp(way, "daemon")) become_daemon(argv[2]);
    unsigned long n = argument(argc, argv, 2, 20);
    if (!strcmp(way, "nested")) {
        nested((int)n);
        puts("ok");
        return 0;
    }
    pthread_t threads[2];
    for (uintptr_t t = 0; t < 2; t++) CHECK(pthread_create(&threads[t], NULL, churn, (void *)t) == 0, "pthread_create");
    if (!strcmp(way, "exec") && n > 0) { /* the program is replaced n times, by a thread, while others allocate */
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, exec_soon, (void *)(n - 1)) == 0, "pthread_create");
        pthread_join(thread, NULL);
    } else if (!strcmp(way, "spawn")) {
        spawn(n);
    }
    atomic_store(&stop, 1);
    for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    puts("ok");
    return 0;
}
