/* Blocks that lie side by side: one thread allocates and frees all the time while another one frees the blocks between.
 * Arguments: rounds, bytes of a block. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { RING = 1024, OWN = 64 };

static _Atomic(char *) ring[RING];
static atomic_int over;

static void *free_others(void *unused) {
    for (size_t at = 0; !atomic_load(&over); at++) free(atomic_exchange(&ring[at % RING], NULL));
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "two arguments");
    size_t rounds = strtoul(argv[1], NULL, 10), size = strtoul(argv[2], NULL, 10);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, free_others, NULL) == 0, "pthread_create");
    char *own[OWN] = {0};
    for (size_t i = 0; i < rounds; i++) {
        char *block = malloc(size), *handed = malloc(size), *taken = NULL;
        CHECK(block && handed, "malloc");
        memset(block, 1, size);
        free(own[i % OWN]);
        own[i % OWN] = block;
        if (!atomic_compare_exchange_strong(&ring[i % RING], &taken, handed)) free(handed);
    }
    atomic_store(&over, 1);
    pthread_join(other, NULL);
    return 0;
}
