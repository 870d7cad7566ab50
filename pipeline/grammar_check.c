#include "pipeline/grammar_check.h"

#include "base/digest_cache.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_proc.h"
#include "grammar/json_schema.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MADE_MAX        64
#define MADE_MAX_SIZE   KIB(256) /* of one that is kept */
#define SCHEMAS_MAX     256
#define SCHEMA_MAX_SIZE KIB(16) /* text of one that is kept */

struct kept { /* counted: by the cache, and by each arena that it is in */
    atomic_uint n_owners;
    struct json_schema *schema; /* of a schema; else NULL */
    struct grammar_made made;   /* of a request; views into data */
    char data[];
};

struct grammar_check {
    const struct tokenizer *tokenizer;
    pthread_t beginner; /* makes the vocabulary */
    bool began;
    pthread_mutex_t lock; /* of what is made once */
    struct constraint_vocab *vocab;
    struct constraint_cache *cache;
    struct digest_cache *made, *schemas; /* of struct kept */
};

static void retain_kept(void *kept)
{
    atomic_fetch_add(&((struct kept *)kept)->n_owners, 1);
}

static void release_kept(void *arg)
{
    struct kept *kept = arg;
    if (kept && atomic_fetch_sub(&kept->n_owners, 1) == 1) {
        json_schema_free(kept->schema);
        free(kept);
    }
}

/* The arena has the caller's count from now on. False: it is full, and the count is gone. */
static bool leave_to(struct arena *arena, struct kept *kept, struct error *err)
{
    if (arena_defer(arena, release_kept, kept)) {
        return true;
    }
    release_kept(kept);
    return arena_full(arena, "request", err);
}

struct grammar_check *grammar_check_create(const struct tokenizer *t)
{
    struct grammar_check *g = calloc(1, sizeof *g);
    if (!g) {
        return NULL;
    }
    g->tokenizer = t;
    pthread_mutex_init(&g->lock, NULL);
    g->made = digest_cache_create(MADE_MAX, retain_kept, release_kept);
    g->schemas = digest_cache_create(SCHEMAS_MAX, retain_kept, release_kept);
    if (!g->made || !g->schemas) {
        grammar_check_free(g);
        return NULL;
    }
    return g;
}

void grammar_check_free(struct grammar_check *g)
{
    if (g) {
        if (g->began) {
            pthread_join(g->beginner, NULL);
        }
        constraint_cache_free(g->cache);
        constraint_vocab_free(g->vocab);
        digest_cache_free(g->made);
        digest_cache_free(g->schemas);
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

static void *begin(void *arg)
{
    struct error why = {0};
    sys_name_thread("vocabulary");
    if (!grammar_check_vocab(arg, &why)) { /* whoever needs it tries again */
        LOG_WARN("the vocabulary of constraints is made later", "reason=\"%s\"", why.msg);
    }
    return NULL;
}

void grammar_check_begin(struct grammar_check *g)
{
    g->began = g->began || pthread_create(&g->beginner, NULL, begin, g) == 0;
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

int grammar_check_find(struct grammar_check *g, const struct sha256 *digest, struct arena *arena,
                       struct grammar_made *out, struct error *err)
{
    struct kept *kept = digest_cache_get(g->made, digest);
    if (!kept) {
        return 0;
    }
    *out = kept->made;
    return leave_to(arena, kept, err) ? 1 : -1;
}

static struct str copy_text(struct str text, char *to)
{
    memcpy(to, text.len ? text.ptr : "", text.len);
    return (struct str){to, text.len};
}

void grammar_check_keep(struct grammar_check *g, const struct sha256 *digest, const struct grammar_made *made)
{
    size_t size = made->spec.len + made->widened.len;
    struct kept *kept = size <= MADE_MAX_SIZE ? calloc(1, sizeof *kept + size) : NULL;
    if (!kept) {
        return; /* it is made again */
    }
    atomic_init(&kept->n_owners, 1);
    kept->made.spec = copy_text(made->spec, kept->data);
    kept->made.widened = copy_text(made->widened, kept->data + made->spec.len);
    digest_cache_put(g->made, digest, kept);
    release_kept(kept);
}

/* ---- schemas of arguments ---- */

static struct kept *compile_schema(const struct json *schema, struct error *err)
{
    struct kept *kept = calloc(1, sizeof *kept);
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

bool grammar_check_key(const struct json *schema, struct schema_key *out, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_HTTP_BODY);
    json_print(&text, schema);
    bool ok = buf_ok(&text, "a schema", err);
    if (ok) {
        *out = (struct schema_key){sha256_of(text.data, text.len), text.len};
    }
    buf_release(&text);
    return ok;
}

const struct json_schema *grammar_check_schema(struct grammar_check *g, const struct json *schema,
                                               const struct schema_key *key, struct arena *arena, struct error *err)
{
    bool small = key->size <= SCHEMA_MAX_SIZE;
    struct kept *kept = small ? digest_cache_get(g->schemas, &key->digest) : NULL;
    if (!kept) {
        kept = compile_schema(schema, err);
        if (kept && small) {
            digest_cache_put(g->schemas, &key->digest, kept);
        }
    }
    return kept && leave_to(arena, kept, err) ? kept->schema : NULL;
}
