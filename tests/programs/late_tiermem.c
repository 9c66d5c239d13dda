/* Loads libtiermem.so itself late, as a plugin would: the program's malloc stays what it was. Either the loader says why
 * it cannot be, or malloc found in the library works, beside the program's own. Argument: the library, "close"? */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static void *(*its_malloc)(size_t);
static void (*its_free)(void *);
static void *(*its_realloc)(void *, size_t);

static void *use(void *number) {
    uint64_t random = (uintptr_t)number + 1;
    char *blocks[100], *ours[100];
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 100; i++) {
            size_t size = next_random(&random) % 10000;
            blocks[i] = its_malloc(size + 100), ours[i] = malloc(size + 100);
            CHECK(blocks[i] && ours[i], "malloc");
            fill(blocks[i], 100, i), fill(ours[i], 100, i);
        }
        for (size_t i = 0; i < 100; i++) {
            blocks[i] = its_realloc(blocks[i], 20000);
            CHECK(blocks[i] && differs(blocks[i], 100, 100, i) < 0 && differs(ours[i], 100, 100, i) < 0, "blocks changed");
            its_free(blocks[i]);
            free(ours[i]);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    char *before = strdup("allocated before");
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        CHECK(why && *why, "dlopen failed and said nothing");
        printf("refused: %s\n", why);
    } else {
        its_malloc = (void *(*)(size_t))dlsym(library, "malloc");
        its_free = (void (*)(void *))dlsym(library, "free");
        its_realloc = (void *(*)(void *, size_t))dlsym(library, "realloc");
        CHECK(its_malloc && its_free && its_realloc && its_malloc != malloc, "no malloc of its own in the library");
        pthread_t threads[4];
        use(NULL);
        for (uintptr_t t = 0; t < 4; t++) CHECK(pthread_create(&threads[t], NULL, use, (void *)(t + 1)) == 0, "pthread_create");
        for (int t = 0; t < 4; t++) pthread_join(threads[t], NULL);
        printf("loaded\n");
        if (argc > 2) CHECK(dlclose(library) == 0, "dlclose");
    }
    for (int i = 0; i < 1000; i++) free(malloc((size_t)i * 10)); /* our own malloc works on */
    CHECK(!strcmp(before, "allocated before"), "our own block changed");
    free(before);
    pthread_t thread; /* threads that start and end after an unloading must not run code that is gone */
    CHECK(pthread_create(&thread, NULL, (void *(*)(void *))(void *)free, malloc(10)) == 0, "pthread_create");
    pthread_join(thread, NULL);
    return 0;
}
