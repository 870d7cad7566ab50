/* What was made of something, by the digest of that: a number of values, of which the one that was asked for longest
 * ago goes first. Values are counted by whoever made them; the cache has one count of each.
 *
 *     c = digest_cache_create(64, retain, release);
 *     value = digest_cache_get(c, &digest);              NULL: make it, and
 *     digest_cache_put(c, &digest, value);
 *     release(value);                                    when it is done with
 *
 * Any thread; retain is called with the cache's lock held, release without. */
#ifndef TANDEM_BASE_DIGEST_CACHE_H
#define TANDEM_BASE_DIGEST_CACHE_H

#include "base/hash.h"

struct digest_cache;
/* NULL when memory fails. release(NULL) is fine. */
struct digest_cache *digest_cache_create(size_t n, void (*retain)(void *value), void (*release)(void *value));
void digest_cache_free(struct digest_cache *c); /* NULL is fine */

void *digest_cache_get(struct digest_cache *c, const struct sha256 *digest); /* retained; NULL: not there */
/* Retains it. Two threads that make the same may both put it: one of the two is found, the other goes in its turn. */
void digest_cache_put(struct digest_cache *c, const struct sha256 *digest, void *value);

#endif
