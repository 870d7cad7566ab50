/* Shared by api_keys.c (checks, limits) and api_keys_read.c (where keys come from). */
#ifndef TANDEM_GATEWAY_API_KEYS_INTERNAL_H
#define TANDEM_GATEWAY_API_KEYS_INTERNAL_H

#include "base/hash.h"
#include "gateway/api_keys.h"

struct api_key_limits {
    int64_t requests, tokens; /* a minute; 0: any number */
    int64_t concurrent;
};

struct api_key_bucket {
    double level;  /* may be negative: overdrawn */
    int64_t at_ms; /* when it was that */
};

struct api_key {
    uint64_t id;
    char name[API_KEY_NAME];
    struct sha256 digest;
    struct api_key_limits limits;
    bool from_environment, closed; /* closed: named no more, kept for what runs */
    bool used;                     /* the buckets hold something */
    struct api_key_bucket requests, tokens;
    uint64_t n_running, n_requests, n_refused[API_KEY_N_LIMITS], n_prompt_tokens, n_generated_tokens;
};

struct api_keys {
    struct api_key *keys; /* [n] */
    size_t n;
    uint64_t last_id;
};

/* Replaces those of one source (the environment or the file) by next [n_next], of which name, digest, limits and
 * from_environment are set. INVALID: a name or a digest comes twice. */
NODISCARD bool api_keys__replace(struct api_keys *k, bool from_environment, const struct api_key *next, size_t n_next,
                                 struct error *err);

#endif
