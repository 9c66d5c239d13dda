/* `counted FUNCTION N`: calls a string function N times. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static char text[] = "a string, and more of a string"; /* 30 bytes and a zero */
static char same[] = "a string, and less of a string"; /* differs in byte 14 (counted from 0) */
static char room[256];
static char *volatile kept;

int main(int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    /* What compilers cannot see through. */
    char *volatile from_here = text, *volatile other_here = same, *volatile to_here = room;
    volatile size_t ten_here = 10, hundred_here = 100;
    const char *name = argv[1];
    long n = atol(argv[2]), sum = 0;
#define CALLS(function, before, ...)                                                                                   \
    if (strcmp(name, function) == 0) {                                                                                 \
        for (long i = 0; i < n; i++) {                                                                                 \
            char *from = from_here, *other = other_here, *to = to_here;                                                \
            size_t ten = ten_here, hundred = hundred_here;                                                             \
            (void)from, (void)other, (void)to, (void)ten, (void)hundred;                                               \
            before;                                                                                                    \
            sum += (long)(__VA_ARGS__);                                                                                \
        }                                                                                                              \
    }
    CALLS("strlen", , strlen(from))
    CALLS("strnlen", , strnlen(from, ten))
    CALLS("strnlen-all", , strnlen(from, hundred))
    CALLS("strcpy", , strcpy(to, from))
    CALLS("stpcpy", , stpcpy(to, from))
    CALLS("strncpy", , strncpy(to, from, ten))
    CALLS("strncpy-all", , strncpy(to, from, hundred))
    CALLS("stpncpy", , stpncpy(to, from, hundred))
    CALLS("strcat", *(volatile char *)to = 0, strcat(to, from))
    CALLS("strncat", *(volatile char *)to = 0, strncat(to, from, ten))
    CALLS("strcmp", , strcmp(from, other))
    CALLS("strcmp-end", , strcmp(from, from + 22))
    CALLS("strncmp", , strncmp(from, other, ten))
    CALLS("strchr", , strchr(from, ','))
    CALLS("strchr-none", , strchr(from, '?'))
    CALLS("strchrnul", , strchrnul(from, '?'))
    CALLS("strrchr", , strrchr(from, 'a'))
    CALLS("strstr", , strstr(from, other + 9))
    CALLS("strstr-found", , strstr(from, other + 21))
    CALLS("strpbrk", , strpbrk(from, other + 27))
    CALLS("strspn", , strspn(from, other + 22))
    CALLS("strcspn", , strcspn(from, other + 27))
    CALLS("memccpy", , memccpy(to, from, ',', hundred))
    CALLS("memchr", , memchr(from, ',', hundred))
    CALLS("bcopy", , (bcopy(from, to, ten), 0))
    CALLS("memcpy", , memcpy(to, from, ten))
    CALLS("memset", , memset(to, 1, hundred))
    CALLS("strdup", , ({ kept = strdup(from); free(kept); 0; }))
    CALLS("strndup", , ({ kept = strndup(from, ten); free(kept); 0; }))
    return sum == 77;
}
