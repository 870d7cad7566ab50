/* Which key, and how much of its limits is left. There are few keys, and all of them are looked at for each request
 * anyway, so that the time says nothing. */
#include "gateway/api_keys_internal.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS 60000.0

static const char *const limit_names[API_KEY_N_LIMITS] = {
    [API_KEY_REQUESTS] = "requests_per_minute",
    [API_KEY_TOKENS] = "tokens_per_minute",
    [API_KEY_CONCURRENT] = "max_concurrent",
};

const char *api_key_limit_name(enum api_key_limit which)
{
    return limit_names[which];
}

struct api_keys *api_keys_create(void)
{
    return calloc(1, sizeof(struct api_keys));
}

void api_keys_free(struct api_keys *k)
{
    if (k) {
        free(k->keys);
        free(k);
    }
}

/* ---- finding ---- */

size_t api_keys_n(const struct api_keys *k)
{
    size_t n = 0;
    for (size_t i = 0; k && i < k->n; i++) {
        n += !k->keys[i].closed;
    }
    return n;
}

uint64_t api_keys_check(const struct api_keys *k, struct str key)
{
    struct sha256 digest = sha256_of(key.ptr ? key.ptr : "", key.len);
    uint64_t found = 0;
    for (size_t i = 0; i < k->n; i++) {
        uint64_t is_it = sha256_equal(&digest, &k->keys[i].digest) & !k->keys[i].closed;
        found |= (0 - is_it) & k->keys[i].id; /* no two have one digest */
    }
    return found;
}

static struct api_key *find(const struct api_keys *k, uint64_t id)
{
    for (size_t i = 0; k && id && i < k->n; i++) {
        if (k->keys[i].id == id) {
            return &k->keys[i];
        }
    }
    return NULL;
}

const char *api_keys_name(const struct api_keys *k, uint64_t id)
{
    const struct api_key *key = find(k, id);
    return key ? key->name : "";
}

uint64_t api_keys_named(const struct api_keys *k, const char *name)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (!k->keys[i].closed && strcmp(k->keys[i].name, name) == 0) {
            return k->keys[i].id;
        }
    }
    return 0;
}

static uint64_t salt_of(const struct sha256 *key, uint64_t own)
{
    static const char purpose[] = "tandem: salt of a key";
    uint8_t text[sizeof purpose + SHA256_SIZE + sizeof own];
    memcpy(text, purpose, sizeof purpose);
    memcpy(text + sizeof purpose, key->bytes, SHA256_SIZE);
    memcpy(text + sizeof purpose + SHA256_SIZE, &own, sizeof own);
    struct sha256 digest = sha256_of(text, sizeof text);
    uint64_t salt;
    memcpy(&salt, digest.bytes, sizeof salt);
    return salt ? salt : 1;
}

uint64_t api_keys_salt(const struct api_keys *k, uint64_t id, uint64_t own)
{
    static const struct sha256 nobody = {{0}};
    const struct api_key *key = find(k, id);
    return salt_of(key ? &key->digest : &nobody, own);
}

uint64_t api_keys_salt_of_name(const struct api_keys *k, struct str name, uint64_t own)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (str_eq(str_of(k->keys[i].name), name)) {
            return salt_of(&k->keys[i].digest, own);
        }
    }
    struct sha256 gone = sha256_of(name.ptr ? name.ptr : "", name.len);
    return salt_of(&gone, own);
}

/* ---- other keys for those of one source ---- */

static const struct api_key *same_name(const struct api_key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static bool check_unique(const struct api_key *keys, size_t n, const struct api_key *next, struct error *err)
{
    if (same_name(keys, n, next->name)) {
        return error_set(err, ERR_INVALID, "two keys have the name '%s'.", next->name);
    }
    for (size_t i = 0; i < n; i++) {
        if (sha256_equal(&keys[i].digest, &next->digest)) {
            return error_set(err, ERR_INVALID, "'%s' and '%s' are the same key.", keys[i].name, next->name);
        }
    }
    return true;
}

static void clip(struct api_key_bucket *b, int64_t before, int64_t limit)
{
    if (before == 0 || b->level > (double)limit) {
        b->level = (double)limit;
    }
}

/* What the key of that name has used and counted so far. */
static void inherit(struct api_key *key, const struct api_key *old)
{
    struct api_key named = *key;
    *key = *old;
    memcpy(key->name, named.name, sizeof key->name);
    key->digest = named.digest;
    key->limits = named.limits;
    key->from_environment = named.from_environment;
    key->closed = false;
    clip(&key->requests, old->limits.requests, key->limits.requests);
    clip(&key->tokens, old->limits.tokens, key->limits.tokens);
}

/* Fills all[]: those of the other source, the new ones, and closed ones under which something runs. */
static bool merge(struct api_keys *k, bool from_environment, const struct api_key *next, size_t n_next,
                  struct api_key *all, size_t *n_all, struct error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n; i++) {
        if (!k->keys[i].closed && k->keys[i].from_environment != from_environment) {
            all[n++] = k->keys[i];
        }
    }
    for (size_t i = 0; i < n_next; i++, n++) {
        const struct api_key *old = same_name(k->keys, k->n, next[i].name);
        if (!check_unique(all, n, &next[i], err)) {
            return false;
        }
        all[n] = next[i];
        if (old) {
            inherit(&all[n], old);
        } else {
            all[n].id = ++k->last_id;
        }
    }
    for (size_t i = 0; i < k->n; i++) {
        if (k->keys[i].n_running && !same_name(all, n, k->keys[i].name)) {
            all[n] = k->keys[i];
            all[n++].closed = true;
        }
    }
    *n_all = n;
    return true;
}

bool api_keys__replace(struct api_keys *k, bool from_environment, const struct api_key *next, size_t n_next,
                       struct error *err)
{
    size_t n;
    struct api_key *all = calloc(k->n + n_next + 1, sizeof *all);
    if (!all) {
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu keys.", n_next);
    }
    if (!merge(k, from_environment, next, n_next, all, &n, err)) {
        free(all);
        return false;
    }
    free(k->keys);
    k->keys = all;
    k->n = n;
    return true;
}

/* ---- limits ---- */

static double level_at(const struct api_key_bucket *b, int64_t limit, int64_t now_ms)
{
    int64_t passed = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
    double level = b->level + (double)passed * (double)limit / MINUTE_MS;
    return level < (double)limit ? level : (double)limit;
}

static void fill(struct api_key_bucket *b, int64_t limit, int64_t now_ms)
{
    if (limit) {
        b->level = level_at(b, limit, now_ms);
        b->at_ms = now_ms;
    }
}

static void refresh(struct api_key *key, int64_t now_ms)
{
    if (!key->used) {
        key->used = true;
        key->requests = (struct api_key_bucket){(double)key->limits.requests, now_ms};
        key->tokens = (struct api_key_bucket){(double)key->limits.tokens, now_ms};
    }
    fill(&key->requests, key->limits.requests, now_ms);
    fill(&key->tokens, key->limits.tokens, now_ms);
}

/* Milliseconds until the bucket holds so many, rounded up. */
static int64_t wait_for(const struct api_key_bucket *b, int64_t limit, double n)
{
    double ms = (n - b->level) * MINUTE_MS / (double)limit;
    return ms > 0 ? (int64_t)ms + 1 : 0;
}

static bool refuse(struct api_key *key, enum api_key_limit which, int64_t limit, uint64_t asked, int64_t retry_ms,
                   struct api_key_refusal *why_not)
{
    char again[80] = " Ask for less: so many are never there at once.";
    key->n_refused[which]++;
    why_not->retry_ms = retry_ms;
    if (retry_ms >= 0) {
        snprintf(again, sizeof again, " Please try again in %.3fs.", (double)retry_ms / 1000);
    }
    return error_set(&why_not->error, ERR_RATE_LIMITED,
                     "Rate limit reached for key '%s' on %s: limit %lld, requested %llu.%s", key->name,
                     limit_names[which], (long long)limit, (unsigned long long)asked, again);
}

bool api_keys_begin(struct api_keys *k, uint64_t id, int64_t now_ms, struct api_key_refusal *why_not)
{
    struct api_key *key = find(k, id);
    if (!key) {
        return true;
    }
    const struct api_key_limits *l = &key->limits;
    refresh(key, now_ms);
    if (l->concurrent && key->n_running >= (uint64_t)l->concurrent) {
        return refuse(key, API_KEY_CONCURRENT, l->concurrent, key->n_running + 1, 1000, why_not);
    }
    if (l->requests && key->requests.level < 1) {
        return refuse(key, API_KEY_REQUESTS, l->requests, 1, wait_for(&key->requests, l->requests, 1), why_not);
    }
    key->requests.level -= 1;
    key->n_running++;
    key->n_requests++;
    return true;
}

void api_keys_end(struct api_keys *k, uint64_t id)
{
    struct api_key *key = find(k, id);
    if (!key) {
        return;
    }
    key->n_running--;
    if (key->closed && key->n_running == 0) {
        *key = k->keys[--k->n];
    }
}

bool api_keys_take_tokens(struct api_keys *k, uint64_t id, uint64_t n_prompt, int64_t now_ms,
                          struct api_key_refusal *why_not)
{
    struct api_key *key = find(k, id);
    if (!key) {
        return true;
    }
    int64_t limit = key->limits.tokens;
    refresh(key, now_ms);
    if (limit && key->tokens.level < (double)n_prompt) {
        int64_t retry_ms = n_prompt > (uint64_t)limit ? -1 : wait_for(&key->tokens, limit, (double)n_prompt);
        return refuse(key, API_KEY_TOKENS, limit, n_prompt, retry_ms, why_not);
    }
    key->tokens.level -= (double)n_prompt;
    key->n_prompt_tokens += n_prompt;
    return true;
}

void api_keys_give_back(struct api_keys *k, uint64_t id, uint64_t n_prompt, int64_t now_ms)
{
    struct api_key *key = find(k, id);
    if (key) {
        refresh(key, now_ms);
        key->tokens.level += (double)n_prompt;
        key->n_prompt_tokens -= n_prompt;
    }
}

void api_keys_charge(struct api_keys *k, uint64_t id, uint64_t n_prompt, uint64_t n_generated, int64_t now_ms)
{
    struct api_key *key = find(k, id);
    if (key) {
        refresh(key, now_ms);
        key->tokens.level -= (double)(n_prompt + n_generated);
        key->n_prompt_tokens += n_prompt;
        key->n_generated_tokens += n_generated;
    }
}

/* ---- what is used ---- */

static void usage_of(const struct api_key *k, int64_t now_ms, struct api_key_usage *out)
{
    struct api_key key = *k;
    refresh(&key, now_ms);
    *out = (struct api_key_usage){.name = k->name,
                                  .max_concurrent = key.limits.concurrent,
                                  .n_running = key.n_running,
                                  .n_requests = key.n_requests,
                                  .n_prompt_tokens = key.n_prompt_tokens,
                                  .n_generated_tokens = key.n_generated_tokens};
    memcpy(out->n_refused, key.n_refused, sizeof out->n_refused);
    if (key.limits.requests) {
        out->requests.limit = key.limits.requests;
        out->requests.left = key.requests.level > 0 ? (int64_t)key.requests.level : 0;
        out->requests.reset_ms = wait_for(&key.requests, key.limits.requests, (double)key.limits.requests);
    }
    if (key.limits.tokens) {
        out->tokens.limit = key.limits.tokens;
        out->tokens.left = key.tokens.level > 0 ? (int64_t)key.tokens.level : 0;
        out->tokens.reset_ms = wait_for(&key.tokens, key.limits.tokens, (double)key.limits.tokens);
    }
}

bool api_keys_usage(const struct api_keys *k, uint64_t id, int64_t now_ms, struct api_key_usage *out)
{
    const struct api_key *key = find(k, id);
    if (key) {
        usage_of(key, now_ms, out);
    }
    return key != NULL;
}

size_t api_keys_count(const struct api_keys *k)
{
    return k ? k->n : 0;
}

void api_keys_usage_at(const struct api_keys *k, size_t i, int64_t now_ms, struct api_key_usage *out)
{
    usage_of(&k->keys[i], now_ms, out);
}
