/* Loads and unloads libraries thousands of times while threads allocate; what the process holds must not grow.
 * Arguments: cycles, libraries. Every other cycle a thread makes the library's thread-local object; it ends before the
 * library is closed, or after it. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

static atomic_int stop;
static sem_t used, closed;

static void *churn(void *number) {
    uint64_t random = 6 + (uintptr_t)number;
    while (!atomic_load(&stop)) {
        char *block = calloc(1, random_size(&random) / 8 + 1);
        CHECK(block && !block[0], "calloc");
        free(block);
    }
    return NULL;
}

static void *make_object(void *use) {
    ((void (*)(void))use)();
    sem_post(&used);
    return NULL;
}

static void *outlive_close(void *use) {
    ((void (*)(void))use)();
    sem_post(&used);
    while (sem_wait(&closed) != 0) {}
    return NULL; /* the object's destructor, in the library, runs now */
}

int main(int argc, char **argv) {
    unsigned long cycles = argument(argc, argv, 1, 1000);
    size_t early = 0, most = 0;
    CHECK(argc > 2 && sem_init(&used, 0, 0) == 0 && sem_init(&closed, 0, 0) == 0, "set-up");
    pthread_t churners[2], thread;
    for (uintptr_t t = 0; t < 2; t++) CHECK(pthread_create(&churners[t], NULL, churn, (void *)t) == 0, "pthread_create");
    for (unsigned long n = 0; n < cycles; n++) {
        void *library = dlopen(argv[2 + n % (unsigned long)(argc - 2)], n % 3 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
        CHECK(library, "dlopen: %s", dlerror());
        void *use = dlsym(library, "use_object");
        if (use && n % 2) {
            int outlives = n % 4 == 1;
            CHECK(pthread_create(&thread, NULL, outlives ? outlive_close : make_object, use) == 0, "pthread_create");
            while (sem_wait(&used) != 0) {}
            if (!outlives) pthread_join(thread, NULL);
            CHECK(dlclose(library) == 0, "dlclose");
            if (outlives) sem_post(&closed), pthread_join(thread, NULL);
        } else {
            CHECK(dlclose(library) == 0, "dlclose");
        }
        if (n % 64 == 63) {
            size_t now = resident_bytes();
            if (now > most) most = now;
            if (!early && n >= cycles / 5) early = now;
        }
    }
    atomic_store(&stop, 1);
    for (int t = 0; t < 2; t++) pthread_join(churners[t], NULL);
    CHECK(!early || most < early + (32 << 20), "resident memory grew from %zu to %zu KiB", early >> 10, most >> 10);
    printf("ok %lu, %zu KiB after a fifth, %zu at most\n", cycles, early >> 10, most >> 10);
    return 0;
}
