/* API keys: who may call, and how much. Keys come from a file (--api-keys) and from the environment (TANDEM_API_KEY);
 * only their SHA-256 digests stay in memory. Each key has a name, counts, and limits where its holder shall have some.
 * The loop's thread owns it; nothing here blocks but the reading of the file.
 *
 *     keys = api_keys_create();
 *     api_keys_set_list(keys, getenv(...), &err);  api_keys_read_file(keys, path, &err);
 *     id = api_keys_check(keys, presented);                                    0: no such key
 *     api_keys_begin(keys, id, now, &refusal)                                  a request begins
 *     api_keys_take_tokens(keys, id, n_prompt, now, &refusal)                  its prompt is known
 *     api_keys_charge(keys, id, n_prompt, n_generated, now);  api_keys_end(keys, id);    it is over
 *
 * A key is passed on by its id, which stays the same when the file is read again and names it again, with another
 * secret or other limits too: what was used stays used. A key that is no longer named opens nothing more, but what runs
 * under it is counted to its end. An id of 0, or of a key that is gone, has no limits and counts nothing.
 *
 * The file is JSON, an array of objects; unknown members are refused:
 *
 *     [{"name": "alice", "key": "sk-...", "requests_per_minute": 60, "tokens_per_minute": 20000, "max_concurrent": 4},
 *      {"name": "ci", "key": "sha256:9f86d0...", "max_concurrent": 1}]
 *
 * Limits by the minute are token buckets: a full minute's worth may come at once, and it fills up evenly. Tokens are
 * those of the prompt, taken before the request runs, and the generated ones, when it has ended: they may overdraw, and
 * the next request waits until that is made up for. */
#ifndef TANDEM_GATEWAY_API_KEYS_H
#define TANDEM_GATEWAY_API_KEYS_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>

#define API_KEY_NAME 64 /* bytes of a name with its NUL */

struct api_keys;

struct api_keys *api_keys_create(void); /* NULL when memory fails */
void api_keys_free(struct api_keys *k);

/* The keys of the environment: one, named "env", or several separated by commas: "env-1", "env-2" ... The text is
 * wiped, whatever comes of it. INVALID: it holds no key, or a bad one; the error never shows a part of a key. */
NODISCARD bool api_keys_set_list(struct api_keys *k, char *text, struct error *err);

/* The file's keys instead of those it had. On failure everything stays as it was. Warns in the log when others may read
 * the file and when a key is short. */
NODISCARD bool api_keys_read_file(struct api_keys *k, const char *path, struct error *err);
/* The same with the text itself, which is wiped; `where` is for messages. */
NODISCARD bool api_keys_read_text(struct api_keys *k, char *text, size_t size, const char *where, struct error *err);

size_t api_keys_n(const struct api_keys *k); /* that open; NULL is fine: 0 */

/* The id of a key, or 0. Takes the same time whichever it is and however much of it is right. */
uint64_t api_keys_check(const struct api_keys *k, struct str key);

const char *api_keys_name(const struct api_keys *k, uint64_t id); /* "" for 0 and for what is gone */

uint64_t api_keys_named(const struct api_keys *k, const char *name); /* the id of the one that opens; 0: none */

/* A salt for the prefix cache that only this key and the request's own salt give; never 0. */
uint64_t api_keys_salt(const struct api_keys *k, uint64_t id, uint64_t own);
/* The same for a request of old, of which the key's name is known. Of a name that is gone it is the name's own. */
uint64_t api_keys_salt_of_name(const struct api_keys *k, struct str name, uint64_t own);

/* ---- limits ---- */

enum api_key_limit { API_KEY_REQUESTS, API_KEY_TOKENS, API_KEY_CONCURRENT, API_KEY_N_LIMITS };
const char *api_key_limit_name(enum api_key_limit which); /* as the file has it */

struct api_key_refusal {
    struct error error; /* RATE_LIMITED; names the limit */
    int64_t retry_ms;   /* when it may work; -1: never, since it asks for more than a whole minute's */
};

NODISCARD bool api_keys_begin(struct api_keys *k, uint64_t id, int64_t now_ms, struct api_key_refusal *why_not);
void api_keys_end(struct api_keys *k, uint64_t id); /* of each that has begun */
NODISCARD bool api_keys_take_tokens(struct api_keys *k, uint64_t id, uint64_t n_prompt, int64_t now_ms,
                                    struct api_key_refusal *why_not);
void api_keys_give_back(struct api_keys *k, uint64_t id, uint64_t n_prompt, int64_t now_ms); /* it could not run */
/* n_prompt: of prompts that came with later turns of it. */
void api_keys_charge(struct api_keys *k, uint64_t id, uint64_t n_prompt, uint64_t n_generated, int64_t now_ms);

/* ---- for headers, metrics, status ---- */

struct api_key_usage {
    const char *name; /* valid until the keys change */
    struct {
        int64_t limit, left; /* 0: there is none */
        int64_t reset_ms;    /* until the bucket is full again */
    } requests, tokens;
    int64_t max_concurrent; /* 0: any */
    uint64_t n_running, n_requests, n_refused[API_KEY_N_LIMITS], n_prompt_tokens, n_generated_tokens;
};
bool api_keys_usage(const struct api_keys *k, uint64_t id, int64_t now_ms, struct api_key_usage *out); /* false: gone */
size_t api_keys_count(const struct api_keys *k); /* with those that no longer open; NULL is fine */
void api_keys_usage_at(const struct api_keys *k, size_t i, int64_t now_ms, struct api_key_usage *out);

#endif
