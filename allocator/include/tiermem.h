/* tiermem: placing memory across tiers from C and C++. Link with -ltiermem, or run the program under
 * LD_PRELOAD=libtiermem.so and look the functions up with dlsym.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef TIERMEM_H
#define TIERMEM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The number of the tier with this name, or -1. Tier 0 is DRAM. */
int tm_tier(const char *name);

/* The number of tiers that this process uses. */
int tm_tier_count(void);

/* Has the calling thread allocate from `tier` until the matching tm_hint_pop. Hints nest. The hint is a wish: when the
 * tier has no room, allocation goes on along the policy's chain, and the event is counted.
 * 0, or -1 if there is no such tier. */
int tm_hint_push(int tier);

/* Ends the innermost hint of the calling thread. 0, or -1 if there is none. */
int tm_hint_pop(void);

/* Allocates `size` bytes from `tier`, as between tm_hint_push and tm_hint_pop. Release with free.
 * NULL if there is no memory or no such tier. */
void *tm_malloc(int tier, size_t size);

/* The number of the tier in which a block lies, or -1 if it is not one of tiermem's. */
int tm_tier_of(const void *block);

/* Copies `size` bytes from `from`, memory that may have gone bad, to `into`, like a load that survives that. 0, or
 * EHWPOISON where a part is poisoned (what comes before it has been copied), ENODEV where the tier has failed or was
 * removed, EIO for any other error. The extent is set aside then: nothing new is placed there. The block stays yours;
 * freeing it writes to its first bytes, so one that begins in a bad page is better kept than freed. */
int tm_read_guarded(const void *from, void *into, size_t size);

/* Copies `size` bytes from `from` to `into`, memory that may have gone bad. As tm_read_guarded. */
int tm_write_guarded(void *into, const void *from, size_t size);

/* Gives all free memory back to the operating system and the tiers now. The number of bytes. */
size_t tm_purge(void);

/* Writes statistics in pieces, each a C string, by calling write(argument, piece), or to standard error if `write` is NULL:
 * one JSON object ("tiermem-statistics/1") if `options` contains 'J', else text. `options` may be NULL. Allocates nothing.
 * mallinfo2, mallinfo, malloc_stats and malloc_info answer for tiermem, too. */
void tm_stats_print(void (*write)(void *argument, const char *piece), void *argument, const char *options);

/* Brings the statistics that `tierctl stat` shows up to date. */
void tm_publish(void);

/* What this process watches for, as TIERMEM_HARDEN asked when it started: 0 nothing, 1 `check`, 2 `strong`. */
int tm_harden_mode(void);

#ifdef __cplusplus
}
#endif

#endif
