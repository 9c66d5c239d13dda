/* Loads and unloads a library again and again, exchanging blocks with it, while other threads allocate.
 * Arguments: the library, times. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int stop;
static void *churn(void *unused) {
    uint64_t random = 6;
    while (!atomic_load(&stop)) free(calloc(1, random_size(&random)));
    return unused;
}

int main(int argc, char **argv) {
    unsigned long times = argument(argc, argv, 2, 50);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, NULL) == 0, "pthread_create");
    for (unsigned long n = 0; n < times; n++) {
        void *library = dlopen(argv[1], n % 2 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
        CHECK(library, "dlopen: %s", dlerror());
        char *(*late_block)(size_t) = (char *(*)(size_t))dlsym(library, "late_block");
        void (*late_take)(void *) = (void (*)(void *))dlsym(library, "late_take");
        CHECK(late_block && late_take, "dlsym");
        for (size_t i = 0; i < 100; i++) free(late_block(i * 19));
        late_take(malloc(100));
        late_take(realloc(late_block(3), 40000));
        CHECK(dlclose(library) == 0, "dlclose");
        CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol_here") == NULL && dlerror(), "dlerror allocates its text");
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    puts("ok");
    return 0;
}
