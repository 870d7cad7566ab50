#include "grammar/constraint_internal.h"

#include "base/digest_cache.h"
#include "base/limits.h"

#include <stdlib.h>

#define SPEC_ARENA (2 * LIMIT_CONSTRAINT) /* what a spec decodes to */

struct constraint_cache {
    const struct constraint_vocab *vocab;
    struct digest_cache *compiled; /* of struct constraint */
};

static void retain(void *c)
{
    constraint_retain(c);
}

static void release(void *c)
{
    constraint_release(c);
}

struct constraint_cache *constraint_cache_create(const struct constraint_vocab *v)
{
    struct constraint_cache *cache = calloc(1, sizeof *cache);
    if (cache) {
        cache->vocab = v;
        cache->compiled = digest_cache_create(CONSTRAINT_CACHE_SIZE, retain, release);
    }
    if (cache && !cache->compiled) {
        free(cache);
        return NULL;
    }
    return cache;
}

void constraint_cache_free(struct constraint_cache *cache)
{
    if (cache) {
        digest_cache_free(cache->compiled);
        free(cache);
    }
}

struct constraint *constraint_cache_get(struct constraint_cache *cache, struct str bytes, const char *field,
                                        struct error *err)
{
    struct sha256 digest = constraint_spec_digest(bytes);
    struct constraint_spec spec;
    struct constraint *c = digest_cache_get(cache->compiled, &digest);
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
        digest_cache_put(cache->compiled, &digest, c);
    }
    return c;
}
