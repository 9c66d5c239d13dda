/* Signal handlers that allocate, at moments when the thread is not in the allocator: on a fault of its own (a protected OS
 * page, the end of its stack) or while it waits. And threads with the smallest stack that there is.
 * One part per name: overflow, fault, waiting, small_stacks. Second argument: rounds. */
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { THREADS = 4, FRAME = 16 << 10 };
static _Thread_local sigjmp_buf out __attribute__((tls_model("initial-exec")));
static _Thread_local char *guarded __attribute__((tls_model("initial-exec")));
static atomic_ulong handled;
static unsigned long rounds;
static long os_page;

static void use_heap(uint64_t seed) {
    char *blocks[30];
    size_t sizes[30];
    for (size_t i = 0; i < 30; i++) {
        sizes[i] = random_size(&seed);
        CHECK((blocks[i] = malloc(sizes[i])), "malloc(%zu)", sizes[i]);
        fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < 30; i++) {
        CHECK(differs(blocks[i], sizes[i], sizes[i], i) < 0, "a block changed");
        free(blocks[i]);
    }
}

static void on_overflow(int signal) {
    use_heap(atomic_fetch_add(&handled, 1) + 1);
    siglongjmp(out, signal);
}

static void on_fault(int signal) {
    use_heap(atomic_fetch_add(&handled, 1) + (unsigned long)signal);
    CHECK(mprotect(guarded, (size_t)os_page, PROT_READ | PROT_WRITE) == 0, "mprotect");
}

static void on_wait(int signal) { use_heap(atomic_fetch_add(&handled, 1) + (unsigned long)signal); }

/* Touches a whole frame before it allocates: the end of the stack is met here and not inside malloc. */
static size_t deeper(size_t depth) {
    volatile char frame[FRAME];
    for (size_t i = 0; i < FRAME; i += 1024) frame[FRAME - 1 - i] = 1;
    if (depth % 8 == 0) free(malloc(depth * 40));
    return depth > (1 << 20) ? 0 : deeper(depth + 1) + (size_t)frame[0];
}

static void *overflow(void *unused) {
    stack_t stack = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
    CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    for (unsigned long n = 0; n < rounds; n++)
        if (!sigsetjmp(out, 1)) CHECK(deeper(1) && 0, "the stack has no end");
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    free(stack.ss_sp);
    return unused;
}

static void *fault(void *unused) {
    guarded = mmap(NULL, (size_t)os_page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guarded != MAP_FAILED, "mmap");
    for (unsigned long n = 0; n < rounds; n++) {
        CHECK(mprotect(guarded, (size_t)os_page, PROT_READ) == 0, "mprotect");
        *(volatile char *)guarded = (char)n;
        use_heap(n + 1);
    }
    munmap(guarded, (size_t)os_page);
    return unused;
}

static void *waiting(void *unused) {
    sigset_t one, none;
    sigemptyset(&none);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0, "pthread_sigmask"); /* never inside the allocator */
    for (unsigned long n = 0; n < rounds; n++) {
        use_heap(n + 1);
        pthread_kill(pthread_self(), SIGUSR1);
        sigsuspend(&none);
    }
    return unused;
}

static void *small_stack(void *number) {
    uint64_t random = (uintptr_t)number + 1;
    for (int i = 0; i < 50; i++) {
        size_t size = random_size(&random);
        char *block = malloc(size + 1);
        CHECK(block && (block = realloc(block, size * 2 + 1)), "realloc");
        block[size] = 1;
        free(block);
        void *aligned;
        CHECK(posix_memalign(&aligned, 4096, size) == 0, "posix_memalign");
        free(aligned);
    }
    return malloc(100); /* for another thread to free */
}

static void on_all_threads(void *(*part)(void *), size_t stack) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, stack) == 0, "pthread_attr_setstacksize(%zu)", stack);
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], &attributes, part, (void *)t) == 0, "pthread_create");
    for (int t = 0; t < THREADS; t++) {
        void *left;
        CHECK(pthread_join(threads[t], &left) == 0, "pthread_join");
        if (part == small_stack) free(left);
    }
}

static void handle(int signal, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_NODEFER};
    CHECK(sigaction(signal, &action, NULL) == 0, "sigaction");
}

int main(int argc, char **argv) {
    rounds = argument(argc, argv, 2, 100);
    os_page = sysconf(_SC_PAGESIZE);
    const char *part = argc > 1 ? argv[1] : "";
    if (!strcmp(part, "overflow")) handle(SIGSEGV, on_overflow), on_all_threads(overflow, 512 << 10);
    else if (!strcmp(part, "fault")) handle(SIGSEGV, on_fault), on_all_threads(fault, 512 << 10);
    else if (!strcmp(part, "waiting")) handle(SIGUSR1, on_wait), on_all_threads(waiting, 512 << 10);
    else if (!strcmp(part, "small_stacks"))
        for (unsigned long n = 0; n < rounds; n++) on_all_threads(small_stack, (size_t)sysconf(_SC_THREAD_STACK_MIN));
    else CHECK(0, "no part of this name");
    unsigned long wanted = strcmp(part, "small_stacks") ? rounds * THREADS : 0;
    CHECK(atomic_load(&handled) == wanted, "%lu of %lu signals were handled", atomic_load(&handled), wanted);
    printf("ok %lu\n", rounds);
    return 0;
}
