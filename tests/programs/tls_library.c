/* A library that is loaded and unloaded again and again: it allocates in its constructor and destructor, and has what a
 * C++ library has, thread-local objects whose destructors free memory when a thread ends. */
#include "check.h"

extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library);
extern void *__dso_handle;

enum { BLOCKS = 40 };
static char *blocks[BLOCKS];
static _Thread_local struct { char *block; int round; } object;

static void destroy(void *unused) {
    (void)unused;
    CHECK(differs(object.block, 600, 600, 9) < 0, "a thread-local object's block changed");
    free(object.block);
    free(calloc(object.round + 1, 900));
    object.block = NULL;
    if (object.round++ == 0) { /* a destructor that makes another object, as C++ allows */
        fill(object.block = malloc(600), 600, 9);
        CHECK(__cxa_thread_atexit_impl(destroy, NULL, &__dso_handle) == 0, "__cxa_thread_atexit_impl");
    }
}

/* To be called once in a thread: makes its object. */
void use_object(void) {
    CHECK(!object.block, "another thread's object");
    object.round = 0;
    CHECK((object.block = malloc(600)), "malloc");
    fill(object.block, 600, 9);
    CHECK(__cxa_thread_atexit_impl(destroy, NULL, &__dso_handle) == 0, "__cxa_thread_atexit_impl");
}

__attribute__((constructor)) static void start(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i == 0 ? 200000 : i * 70;
        CHECK((blocks[i] = malloc(size)), "malloc in a constructor");
        fill(blocks[i], size, i);
    }
}

__attribute__((destructor)) static void end(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i == 0 ? 200000 : i * 70;
        CHECK(differs(blocks[i], size, size, i) < 0, "a block of the library changed");
        free(blocks[i]);
    }
    free(malloc(5000));
}
