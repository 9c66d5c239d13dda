/* tiermem's C interface, as a program that links the library uses it: one buffer on a tier of its own, and whatever
 * else is allocated in between.
 *   cc hints.c -I allocator/include -L target/release -ltiermem -o hints
 *   TIERMEM_TIERS=slow=dax-file:/dev/shm/slow,size=64M LD_LIBRARY_PATH=target/release ./hints slow */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiermem.h>

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "slow";
    int slow = tm_tier(name);
    if (slow < 0) {
        fprintf(stderr, "no tier %s among %d\n", name, tm_tier_count());
        return 1;
    }
    char *cold = tm_malloc(slow, 1 << 20); /* one block on the tier */
    char *usual = malloc(100);             /* by the policy */
    tm_hint_push(slow);                    /* all that this thread allocates until tm_hint_pop */
    char *hinted = malloc(100);
    tm_hint_pop();
    char *after = malloc(100);
    if (!cold || !usual || !hinted || !after) return 2;
    memset(cold, 1, 1 << 20);
    printf("tm_malloc %d, malloc %d, hinted %d, after %d, of %d\n", tm_tier_of(cold), tm_tier_of(usual),
           tm_tier_of(hinted), tm_tier_of(after), tm_tier_count());
    free(cold), free(usual), free(hinted), free(after);
    printf("nothing to end: %d, no such tier: %d, not a block: %d\n", tm_hint_pop(), tm_hint_push(99),
           tm_tier_of(&slow));
    return tm_purge() > 0 ? 0 : 3;
}
