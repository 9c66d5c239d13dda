/* Deliberately broken allocators over the C library's own, to prove that the test programs notice. One fault a build:
 * -DFAULT_x, and the program runs with this library preloaded. Faults start after ARMED_AFTER calls, so that the
 * program gets as far as the part that should notice. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

enum { ARMED_AFTER = 50 };
static atomic_ulong calls;
static _Thread_local int inside __attribute__((tls_model("initial-exec")));

static int now(unsigned long every) {
    unsigned long call = atomic_fetch_add(&calls, 1);
    return !inside && call > ARMED_AFTER && call % every == 0;
}

#if defined FAULT_OVERLAP /* now and then, the block handed out before is handed out again */
static _Thread_local void *last __attribute__((tls_model("initial-exec")));
static _Thread_local size_t last_size __attribute__((tls_model("initial-exec")));
void *malloc(size_t size) {
    if (now(61) && last && size > 16 && size <= last_size) return last;
    void *block = __libc_malloc(size);
    if (size > 16) last = block, last_size = size;
    return block;
}
void free(void *block) {
    if (block == last) last = NULL;
    if (calls < ARMED_AFTER) __libc_free(block); /* later, blocks may have two owners: nobody frees them */
}

#elif defined FAULT_MISALIGNED
void *malloc(size_t size) {
    char *block = __libc_malloc(size + 64);
    return block && now(37) ? block + 8 : block;
}
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    if (block && old) memmove(block, old, size);
    return block;
}
void free(void *block) { (void)block; }

#elif defined FAULT_REALLOC /* now and then, growing forgets the last bytes */
void *realloc(void *old, size_t size) {
    char *block = __libc_realloc(old, size);
    if (block && old && size > 32 && now(3)) memset(block + 8, 0, 24);
    return block;
}

#elif defined FAULT_CALLOC
void *calloc(size_t n, size_t size) { return now(7) ? __libc_malloc(n * size) : __libc_calloc(n, size); }

#elif defined FAULT_CALLOC_OVERFLOW
void *calloc(size_t n, size_t size) {
    void *block = __libc_malloc(n * size);
    return block ? memset(block, 0, n * size) : block;
}

#elif defined FAULT_ERRNO
void free(void *block) {
    __libc_free(block);
    if (now(11)) errno = ENOENT;
}

#elif defined FAULT_USABLE
size_t malloc_usable_size(void *block) { return block ? ((size_t *)block)[-1] / 16 * 16 + 16 : 0; }

#elif defined FAULT_ABORTS /* ends the program instead of returning null */
void *malloc(size_t size) {
    void *block = __libc_malloc(size);
    if (!block) abort();
    return block;
}

#elif defined FAULT_FORK_CRASH
static int child;
static void in_child(void) { child = 1; }
__attribute__((constructor)) static void start(void) { pthread_atfork(NULL, NULL, in_child); }
void *malloc(size_t size) {
    if (child) __builtin_trap();
    return __libc_malloc(size);
}

#elif defined FAULT_FORK_LOCK /* a lock that nobody takes care of at fork */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
void *malloc(size_t size) {
    pthread_mutex_lock(&lock);
    void *block = __libc_malloc(size);
    pthread_mutex_unlock(&lock);
    return block;
}

#elif defined FAULT_FORK_SHARED /* memory that parent and child go on sharing */
static atomic_size_t used;
static char *pool;
enum { HEADER = 16 };
static const size_t POOL = (size_t)8 << 30;
void *malloc(size_t size) {
    if (!pool) pool = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t whole = (size + HEADER + 15) / 16 * 16;
    if (size > POOL || atomic_load(&used) + whole > POOL) return errno = ENOMEM, NULL;
    char *block = pool + atomic_fetch_add(&used, whole) + HEADER;
    ((size_t *)block)[-1] = size;
    return block;
}
void *calloc(size_t n, size_t size) { return malloc(n * size); }
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    size_t before = old ? ((size_t *)old)[-1] : 0;
    return block && old ? memcpy(block, old, before < size ? before : size) : block;
}
void free(void *block) { (void)block; }

#elif defined FAULT_THREAD_LEAK /* what a thread needs for itself is never given back */
static _Thread_local void *heap __attribute__((tls_model("initial-exec")));
void *malloc(size_t size) {
    if (!heap && !inside) {
        inside = 1;
        heap = __libc_malloc(8 << 10);
        if (heap) memset(heap, 1, 8 << 10);
        inside = 0;
    }
    return __libc_malloc(size);
}

#elif defined FAULT_SIGNAL /* takes an interrupted system call for a failure */
#include <time.h>
void *malloc(size_t size) {
    struct timespec moment = {0, 20000};
    if (now(40) && nanosleep(&moment, NULL) != 0) return NULL;
    return __libc_malloc(size);
}

#elif defined FAULT_REMOTE_FREE /* blocks freed by another thread are lost */
#include <unistd.h>
#include <sys/syscall.h>
enum { HEADER = 32 };
void *malloc(size_t size) {
    if (size > (size_t)PTRDIFF_MAX - HEADER) return errno = ENOMEM, NULL;
    char *block = __libc_malloc(size + HEADER);
    if (!block) return NULL;
    *(pthread_t *)block = pthread_self();
    ((size_t *)block)[1] = size;
    return block + HEADER;
}
void *calloc(size_t n, size_t size) {
    void *block = malloc(n * size);
    return block ? memset(block, 0, n * size) : NULL;
}
void free(void *block) {
    char *start = (char *)block - HEADER;
    if (block && *(pthread_t *)start == pthread_self()) __libc_free(start);
}
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    if (!block || !old) return block;
    size_t before = ((size_t *)old)[-3];
    memcpy(block, old, before < size ? before : size);
    free(old);
    return block;
}

#elif defined FAULT_EXIT_CRASH /* tears itself down when the program ends, although threads still use it */
#include <unistd.h>
static atomic_int gone;
__attribute__((destructor)) static void end(void) {
    atomic_store(&gone, 1);
    usleep(2000);
}
void *malloc(size_t size) {
    if (atomic_load(&gone)) __builtin_trap();
    return __libc_malloc(size);
}

#elif defined FAULT_NEVER_REUSES /* nothing that was freed is used again */
void free(void *block) { (void)block; }

#elif defined FAULT_NONE /* the same plumbing without a fault: a control of the controls */
void *malloc(size_t size) { return (void)now(61), __libc_malloc(size); }
void free(void *block) { __libc_free(block); }

#else
#error "name a fault"
#endif
