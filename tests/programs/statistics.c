/* Asks the allocator about itself, in all the ways that the GNU C library has and in tiermem's own, and checks the answers
 * against what it has allocated. Prints the XML and the JSON form for others to look at. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define SEE(condition) CHECK(condition, "%s", #condition)

enum { SMALLS = 1000, LARGE_COUNT = 2, LARGE = 3 << 20 };

struct wide { size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost; };

static void *smalls[SMALLS], *large[LARGE_COUNT];
static char json[1 << 16];
static size_t json_length, longest;

static void collect(void *argument, const char *piece) {
    size_t length = strlen(piece);
    SEE(argument == &json_length);
    SEE(json_length + length < sizeof json);
    memcpy(json + json_length, piece, length);
    json_length += length;
    if (length > longest) longest = length;
}

int main(void) {
    struct wide (*info2)(void) = (struct wide (*)(void))dlsym(RTLD_DEFAULT, "mallinfo2");
    struct mallinfo (*info)(void) = (struct mallinfo (*)(void))dlsym(RTLD_DEFAULT, "mallinfo");
    void (*print)(void (*)(void *, const char *), void *, const char *) =
        (void (*)(void (*)(void *, const char *), void *, const char *))dlsym(RTLD_DEFAULT, "tm_stats_print");
    SEE(info2 && info && print);
    struct wide before = info2();
    for (int i = 0; i < SMALLS; i++) SEE((smalls[i] = malloc(100)) != NULL);
    struct wide held = info2();
    SEE(held.uordblks - before.uordblks == SMALLS * malloc_usable_size(smalls[0]));
    for (int i = 0; i < LARGE_COUNT; i++) SEE((large[i] = malloc(LARGE)) != NULL);
    held = info2();
    SEE(held.hblks - before.hblks == LARGE_COUNT && held.hblkhd - before.hblkhd == (size_t)LARGE_COUNT * LARGE);
    SEE(held.arena == held.uordblks + held.fordblks);
    struct mallinfo narrow = info();
    SEE((size_t)narrow.uordblks == held.uordblks && (size_t)narrow.hblkhd == held.hblkhd);
    for (int i = 0; i < SMALLS; i++) free(smalls[i]);
    for (int i = 0; i < LARGE_COUNT; i++) free(large[i]);
    struct wide after = info2();
    /* The purger may have been started, for which the C library allocates a little. */
    SEE(after.uordblks - before.uordblks < 1024 && after.hblks == before.hblks);
    SEE(after.keepcost > 0);
    malloc_trim(0);
    SEE(info2().keepcost < after.keepcost);

    SEE(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 0);
    SEE(malloc_info(1, stdout) == EINVAL);
    SEE(malloc_info(0, stdout) == 0);
    print(collect, &json_length, "J");
    SEE(longest <= 512);
    puts(json);
    malloc_stats();
    print(NULL, NULL, NULL);
    return 0;
}
