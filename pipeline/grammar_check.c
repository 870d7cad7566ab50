#include "pipeline/grammar_check.h"

#include "base/limits.h"
#include "grammar/json_schema.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MADE_MAX      64
#define MADE_MAX_SIZE KIB(256) /* of one that is kept */

struct entry {
    struct sha256 digest;
    char *data; /* the spec, then what was left out; NULL: free */
    size_t spec_size, widened_size;
    uint64_t used;
};

#define SCHEMAS_MAX     256
#define SCHEMA_MAX_SIZE KIB(16) /* text of one that is kept */

struct kept_schema { /* counted: by the cache, and by each arena that it is in */
    atomic_uint n_owners;
    struct json_schema *schema;
};

struct schema_entry {
    struct sha256 digest;
    struct kept_schema *kept; /* NULL: free */
    uint64_t used;
};

struct grammar_check {
    const struct tokenizer *tokenizer;
    pthread_mutex_t lock; /* of what is made once */
    struct constraint_vocab *vocab;
    struct constraint_cache *cache;
    uint64_t clock;
    struct entry made[MADE_MAX];
    struct schema_entry schemas[SCHEMAS_MAX];
};

struct grammar_check *grammar_check_create(const struct tokenizer *t)
{
    struct grammar_check *g = calloc(1, sizeof *g);
    if (g) {
        g->tokenizer = t;
        pthread_mutex_init(&g->lock, NULL);
    }
    return g;
}

static void release_schema(void *arg)
{
    struct kept_schema *kept = arg;
    if (kept && atomic_fetch_sub(&kept->n_owners, 1) == 1) {
        json_schema_free(kept->schema);
        free(kept);
    }
}

void grammar_check_free(struct grammar_check *g)
{
    if (g) {
        constraint_cache_free(g->cache);
        constraint_vocab_free(g->vocab);
        for (size_t i = 0; i < MADE_MAX; i++) {
            free(g->made[i].data);
        }
        for (size_t i = 0; i < SCHEMAS_MAX; i++) {
            release_schema(g->schemas[i].kept);
        }
        pthread_mutex_destroy(&g->lock);
        free(g);
    }
}

static bool make(struct grammar_check *g, struct error *err)
{
    struct constraint_vocab_options options = {.canonical = true};
    if (!g->vocab && !(g->vocab = constraint_vocab_create(g->tokenizer, &options, err))) {
        return false;
    }
    if (!g->cache && !(g->cache = constraint_cache_create(g->vocab))) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for constraints.");
    }
    return true;
}

const struct constraint_vocab *grammar_check_vocab(struct grammar_check *g, struct error *err)
{
    pthread_mutex_lock(&g->lock);
    bool made = make(g, err);
    pthread_mutex_unlock(&g->lock);
    return made ? g->vocab : NULL;
}

bool grammar_check_compile(struct grammar_check *g, struct str spec, const char *field, struct error *err)
{
    if (!grammar_check_vocab(g, err)) {
        return false;
    }
    struct constraint *c = constraint_cache_get(g->cache, spec, field, err);
    constraint_release(c);
    return c != NULL;
}

/* ---- what was made before ---- */

static bool copy(const struct entry *e, struct arena *arena, struct grammar_made *out, struct error *err)
{
    char *data = arena_alloc(arena, e->spec_size + e->widened_size + 1);
    if (!data) {
        return arena_full(arena, "request", err);
    }
    memcpy(data, e->data, e->spec_size + e->widened_size);
    out->spec = (struct str){data, e->spec_size};
    out->widened = (struct str){data + e->spec_size, e->widened_size};
    return true;
}

int grammar_check_find(struct grammar_check *g, const struct sha256 *digest, struct arena *arena,
                       struct grammar_made *out, struct error *err)
{
    int found = 0;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < MADE_MAX && !found; i++) {
        struct entry *e = &g->made[i];
        if (e->data && memcmp(&e->digest, digest, sizeof *digest) == 0) {
            e->used = ++g->clock;
            found = copy(e, arena, out, err) ? 1 : -1;
        }
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

void grammar_check_keep(struct grammar_check *g, const struct sha256 *digest, const struct grammar_made *made)
{
    size_t size = made->spec.len + made->widened.len;
    char *data = size <= MADE_MAX_SIZE ? malloc(size + 1) : NULL;
    if (!data) {
        return; /* it is made again */
    }
    memcpy(data, made->spec.len ? made->spec.ptr : "", made->spec.len);
    memcpy(data + made->spec.len, made->widened.len ? made->widened.ptr : "", made->widened.len);
    pthread_mutex_lock(&g->lock);
    struct entry *oldest = &g->made[0];
    for (size_t i = 1; i < MADE_MAX; i++) {
        oldest = g->made[i].used < oldest->used ? &g->made[i] : oldest;
    }
    free(oldest->data);
    *oldest = (struct entry){*digest, data, made->spec.len, made->widened.len, ++g->clock};
    pthread_mutex_unlock(&g->lock);
}

/* ---- schemas of arguments ---- */

static struct kept_schema *find_schema(struct grammar_check *g, const struct sha256 *digest)
{
    struct kept_schema *found = NULL;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < SCHEMAS_MAX && !found; i++) {
        struct schema_entry *e = &g->schemas[i];
        if (e->kept && memcmp(&e->digest, digest, sizeof *digest) == 0) {
            e->used = ++g->clock;
            found = e->kept;
            atomic_fetch_add(&found->n_owners, 1);
        }
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

static void keep_schema(struct grammar_check *g, const struct sha256 *digest, struct kept_schema *kept)
{
    atomic_fetch_add(&kept->n_owners, 1);
    pthread_mutex_lock(&g->lock);
    struct schema_entry *oldest = &g->schemas[0];
    for (size_t i = 1; i < SCHEMAS_MAX; i++) {
        oldest = g->schemas[i].used < oldest->used ? &g->schemas[i] : oldest;
    }
    struct kept_schema *dropped = oldest->kept;
    *oldest = (struct schema_entry){*digest, kept, ++g->clock};
    pthread_mutex_unlock(&g->lock);
    release_schema(dropped);
}

static struct kept_schema *compile_schema(const struct json *schema, struct error *err)
{
    struct kept_schema *kept = calloc(1, sizeof *kept);
    if (!kept) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a schema.");
        return NULL;
    }
    atomic_init(&kept->n_owners, 1);
    kept->schema = json_schema_compile(schema, NULL, err);
    if (!kept->schema) {
        free(kept);
        return NULL;
    }
    return kept;
}

const struct json_schema *grammar_check_schema(struct grammar_check *g, const struct json *schema, struct arena *arena,
                                               struct error *err)
{
    struct buf text;
    struct sha256 digest;
    buf_init(&text, SCHEMA_MAX_SIZE);
    json_print(&text, schema);
    bool small = !text.failed;
    if (small) {
        digest = constraint_spec_digest(buf_view(&text));
    }
    buf_release(&text);
    struct kept_schema *kept = small ? find_schema(g, &digest) : NULL;
    if (!kept) {
        kept = compile_schema(schema, err);
        if (kept && small) {
            keep_schema(g, &digest, kept);
        }
    }
    if (kept && !arena_defer(arena, release_schema, kept)) {
        release_schema(kept);
        arena_full(arena, "request", err);
        return NULL;
    }
    return kept ? kept->schema : NULL;
}
