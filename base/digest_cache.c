#include "base/digest_cache.h"

#include <pthread.h>
#include <stdlib.h>

struct entry {
    struct sha256 digest;
    void *value;   /* NULL: free */
    uint64_t used; /* when; 0: never */
};

struct digest_cache {
    void (*retain)(void *value);
    void (*release)(void *value);
    pthread_mutex_t lock; /* of all below */
    uint64_t clock;
    size_t n;
    struct entry entries[]; /* [n] */
};

struct digest_cache *digest_cache_create(size_t n, void (*retain)(void *value), void (*release)(void *value))
{
    struct digest_cache *c = calloc(1, sizeof *c + n * sizeof c->entries[0]);
    if (c) {
        c->retain = retain;
        c->release = release;
        c->n = n;
        pthread_mutex_init(&c->lock, NULL);
    }
    return c;
}

void digest_cache_free(struct digest_cache *c)
{
    if (c) {
        for (size_t i = 0; i < c->n; i++) {
            c->release(c->entries[i].value);
        }
        pthread_mutex_destroy(&c->lock);
        free(c);
    }
}

void *digest_cache_get(struct digest_cache *c, const struct sha256 *digest)
{
    void *found = NULL;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n && !found; i++) {
        struct entry *e = &c->entries[i];
        if (e->value && memcmp(&e->digest, digest, sizeof *digest) == 0) {
            e->used = ++c->clock;
            found = e->value;
            c->retain(found);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

void digest_cache_put(struct digest_cache *c, const struct sha256 *digest, void *value)
{
    pthread_mutex_lock(&c->lock);
    struct entry *oldest = &c->entries[0];
    for (size_t i = 1; i < c->n; i++) {
        oldest = c->entries[i].used < oldest->used ? &c->entries[i] : oldest;
    }
    void *dropped = oldest->value;
    c->retain(value);
    *oldest = (struct entry){*digest, value, ++c->clock};
    pthread_mutex_unlock(&c->lock);
    c->release(dropped);
}
