#include "grammar/constraint_internal.h"

#include "base/limits.h"

#include <pthread.h>
#include <stdlib.h>

#define SPEC_ARENA (2 * LIMIT_CONSTRAINT) /* what a spec decodes to */

struct entry {
    struct sha256 digest;
    struct constraint *constraint; /* NULL: free */
    uint64_t used;                 /* when; the smallest goes first */
};

struct constraint_cache {
    const struct constraint_vocab *vocab;
    pthread_mutex_t lock; /* of all below */
    uint64_t clock;
    struct entry entries[CONSTRAINT_CACHE_SIZE];
};

struct constraint_cache *constraint_cache_create(const struct constraint_vocab *v)
{
    struct constraint_cache *cache = calloc(1, sizeof *cache);
    if (cache) {
        cache->vocab = v;
        pthread_mutex_init(&cache->lock, NULL);
    }
    return cache;
}

void constraint_cache_free(struct constraint_cache *cache)
{
    if (cache) {
        for (size_t i = 0; i < CONSTRAINT_CACHE_SIZE; i++) {
            constraint_release(cache->entries[i].constraint);
        }
        pthread_mutex_destroy(&cache->lock);
        free(cache);
    }
}

static struct constraint *find(struct constraint_cache *cache, const struct sha256 *digest)
{
    struct constraint *found = NULL;
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < CONSTRAINT_CACHE_SIZE && !found; i++) {
        struct entry *e = &cache->entries[i];
        if (e->constraint && memcmp(&e->digest, digest, sizeof *digest) == 0) {
            e->used = ++cache->clock;
            found = constraint_retain(e->constraint);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

static void keep(struct constraint_cache *cache, const struct sha256 *digest, struct constraint *c)
{
    pthread_mutex_lock(&cache->lock);
    struct entry *oldest = &cache->entries[0];
    for (size_t i = 1; i < CONSTRAINT_CACHE_SIZE; i++) {
        struct entry *e = &cache->entries[i];
        oldest = e->used < oldest->used ? e : oldest;
    }
    struct constraint *dropped = oldest->constraint;
    *oldest = (struct entry){*digest, constraint_retain(c), ++cache->clock};
    pthread_mutex_unlock(&cache->lock);
    constraint_release(dropped);
}

struct constraint *constraint_cache_get(struct constraint_cache *cache, struct str bytes, const char *field,
                                        struct error *err)
{
    struct sha256 digest = constraint_spec_digest(bytes);
    struct constraint_spec spec;
    struct constraint *c = find(cache, &digest);
    if (c) {
        return c;
    }
    struct arena *arena = arena_create(SPEC_ARENA);
    if (!arena) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a constraint.");
        return NULL;
    }
    if (constraint_spec_decode(bytes, arena, &spec, err)) {
        c = constraint_compile(cache->vocab, &spec, field, err);
    }
    arena_free(arena);
    if (c) {
        keep(cache, &digest, c);
    }
    return c;
}
