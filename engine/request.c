#include "engine/request.h"

#include "base/bits.h"
#include "base/clock.h"

#include <stdlib.h>

/* ---- checks against the model ---- */

static bool check_ids(const struct engine_config *config, const char *name, const int32_t *ids, uint32_t n,
                      struct error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= config->n_vocab) {
            return error_set_param(err, ERR_INVALID, name, "The token id %d is outside the vocabulary of %u tokens.",
                                   ids[i], config->n_vocab);
        }
    }
    return true;
}

static bool check_all_ids(const struct engine_config *config, const struct job *job, struct error *err)
{
    for (uint32_t i = 0; i < job->n_bias; i++) {
        if (!check_ids(config, "logit_bias", &job->bias[i].id, 1, err)) {
            return false;
        }
    }
    for (uint32_t i = 0; job->accepted && i < job->n_choices; i++) {
        if (!check_ids(config, "accepted", job->accepted[i].ids, job->accepted[i].n, err)) {
            return false;
        }
    }
    return check_ids(config, "prompt", job->prompt, job->n_prompt, err) &&
           check_ids(config, "stop_token_ids", job->stop_ids, job->n_stop_ids, err) &&
           check_ids(config, "prediction", job->prediction, job->n_prediction, err) &&
           check_ids(config, "dry_sequence_breakers", job->dry_breakers, job->n_dry_breakers, err);
}

static bool check_job(const struct engine_config *config, const struct job *job, struct error *err)
{
    if (!job_check(job, err) || !check_all_ids(config, job, err)) {
        return false;
    }
    if (job->kind != JOB_GENERATE && job->kind != JOB_SCORE) {
        return error_set(err, ERR_NOT_IMPLEMENTED, "This engine generates and scores text; it has no job kind %d.",
                         (int)job->kind);
    }
    if (job->constraint && !config->constraints) {
        return error_set_param(err, ERR_UNSUPPORTED, "constraint", "This engine decodes without constraints.");
    }
    if ((job->flags & JOB_DIGEST) && !config->test_hooks) {
        return error_set_param(err, ERR_UNSUPPORTED, "digest", "Digests of logits exist in test builds only.");
    }
    if ((uint64_t)job->n_prompt + job->max_tokens > config->n_context) {
        return error_set_param(err, ERR_CONTEXT_EXCEEDED, "prompt",
                               "The context holds %u tokens, but the prompt has %u and up to %u are to be generated.",
                               config->n_context, job->n_prompt, job->max_tokens);
    }
    return true;
}

/* ---- what follows from the job ---- */

/* Of several entries for one id the last counts. */
static bool make_bias(struct request *r)
{
    const struct job *job = r->job;
    r->bias = job->n_bias ? calloc(job->n_bias, sizeof *r->bias) : NULL;
    for (uint32_t i = 0; r->bias && i < job->n_bias; i++) {
        uint32_t at = 0;
        while (at < r->n_bias && r->bias[at].id != job->bias[i].id) {
            at++;
        }
        r->n_bias += at == r->n_bias;
        r->bias[at] = (struct logit_bias){job->bias[i].id, job->bias[i].bias};
    }
    return r->bias || !job->n_bias;
}

static void ban(struct request *r, int32_t id)
{
    if (r->min_mask) {
        bits_remove(r->min_mask, id);
        return;
    }
    for (uint32_t i = 0; i < r->n_banned; i++) {
        if (r->banned[i] == id) {
            return;
        }
    }
    r->banned[r->n_banned++] = id;
}

static bool make_banned(struct request *r, const struct engine_config *config)
{
    if (r->job->min_tokens == 0) {
        return true;
    }
    if (config->n_eog_ids + r->job->n_stop_ids > SAMPLE_MAX_BANNED) {
        size_t size = bits_words(config->n_vocab) * sizeof *r->min_mask;
        r->min_mask = malloc(size);
        if (!r->min_mask) {
            return false;
        }
        memset(r->min_mask, 0xff, size);
    }
    for (uint32_t i = 0; i < config->n_eog_ids; i++) {
        ban(r, config->eog_ids[i]);
    }
    for (uint32_t i = 0; i < r->job->n_stop_ids; i++) {
        ban(r, r->job->stop_ids[i]);
    }
    return true;
}

struct request *request_create(const struct engine_config *config, const struct job *job, struct error *err)
{
    if (!check_job(config, job, err)) {
        return NULL;
    }
    struct request *r = calloc(1, sizeof *r + job->n_choices * sizeof r->sequences[0]);
    bool ok = r && (r->job = job_copy(job)) && make_bias(r) && make_banned(r, config);
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for this request.");
        request_free(r);
        return NULL;
    }
    if (job->kind == JOB_SCORE) {
        r->job->flags |= JOB_PROMPT_LOGPROBS;
        r->job->max_tokens = r->job->min_tokens = 0;
        r->job->accepted = NULL;
        r->job->constraint = NULL; /* nothing is sampled */
    }
    r->n_left = job->n_choices;
    r->unconstrained = r->job->constraint != NULL;
    r->created_ns = clock_ns();
    r->deadline_ns = job->timeout_ms ? r->created_ns + (int64_t)job->timeout_ms * 1000000 : 0;
    for (uint32_t i = 0; i < job->n_choices; i++) {
        bool done = r->job->accepted && r->job->accepted[i].done;
        r->sequences[i] =
            (struct sequence){.request = r, .choice = i, .state = done ? SEQUENCE_DONE : SEQUENCE_WAITING};
        r->n_left -= done;
    }
    return r;
}

void request_free(struct request *r)
{
    if (!r) {
        return;
    }
    for (uint32_t i = 0; r->job && i < r->job->n_choices; i++) {
        sequence_unload(&r->sequences[i]);
    }
    free(r->job);
    free(r->bias);
    free(r->min_mask);
    free(r);
}

/* ---- tokens ---- */

static uint32_t n_accepted(const struct sequence *q)
{
    const struct job *job = q->request->job;
    return job->accepted ? job->accepted[q->choice].n : 0;
}

uint32_t sequence_n_output(const struct sequence *q)
{
    return q->tokens ? q->n_tokens - q->request->job->n_prompt : n_accepted(q);
}

const int32_t *sequence_output(const struct sequence *q)
{
    const struct job *job = q->request->job;
    if (sequence_n_output(q) == 0) {
        return NULL;
    }
    return q->tokens ? q->tokens + job->n_prompt : job->accepted[q->choice].ids;
}

static int32_t last_output(const struct sequence *q)
{
    return q->tokens ? q->tokens[q->n_tokens - 1] : q->request->job->accepted[q->choice].ids[n_accepted(q) - 1];
}

static bool is_stop_id(const struct request *r, int32_t id)
{
    for (uint32_t i = 0; i < r->job->n_stop_ids; i++) {
        if (r->job->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

bool request_is_end_id(const struct request *r, const struct engine_config *config, int32_t id)
{
    for (uint32_t i = 0; i < config->n_eog_ids && !(r->job->flags & JOB_IGNORE_EOS); i++) {
        if (config->eog_ids[i] == id) {
            return true;
        }
    }
    return is_stop_id(r, id);
}

enum finish_reason sequence_finish(const struct sequence *q, const struct engine_config *config, int32_t *stop_id)
{
    const struct request *r = q->request;
    uint32_t n_output = sequence_n_output(q);
    *stop_id = -1;
    if (n_output > 0 && request_is_end_id(r, config, last_output(q))) {
        *stop_id = last_output(q);
        return FINISH_STOP;
    }
    if (q->constraint && constraint_state_done(q->constraint)) {
        return FINISH_STOP;
    }
    bool full = n_output >= r->job->max_tokens || r->job->n_prompt + n_output >= config->n_context;
    return full && r->job->max_tokens > 0 ? FINISH_LENGTH
                                          : FINISH_NONE; /* max_tokens 0 ends when the prompt is scored */
}

bool sequence_reserve_tokens(struct sequence *q, uint32_t n)
{
    if (n <= q->cap_tokens) {
        return true;
    }
    uint32_t cap = q->cap_tokens < 64 ? n + 64 : q->cap_tokens;
    while (cap < n) {
        cap += cap / 2; /* n is at most LIMIT_CONTEXT */
    }
    int32_t *tokens = realloc(q->tokens, cap * sizeof *tokens);
    if (tokens) {
        q->tokens = tokens;
        q->cap_tokens = cap;
    }
    return tokens != NULL;
}

bool sequence_load(struct sequence *q)
{
    const struct job *job = q->request->job;
    uint32_t n = n_accepted(q);
    if (q->tokens) {
        return true;
    }
    if (!sequence_reserve_tokens(q, job->n_prompt + n + 1)) {
        return false;
    }
    memcpy(q->tokens, job->prompt, job->n_prompt * sizeof *q->tokens);
    if (n) {
        memcpy(q->tokens + job->n_prompt, job->accepted[q->choice].ids, n * sizeof *q->tokens);
    }
    q->n_tokens = job->n_prompt + n;
    return true;
}

bool sequence_reserve_blocks(struct sequence *q, uint32_t n_blocks, int n_groups)
{
    if (n_blocks <= q->cap_blocks) {
        return true;
    }
    uint32_t cap = q->cap_blocks < 8 ? n_blocks + 8 : q->cap_blocks;
    while (cap < n_blocks) {
        cap += cap / 2;
    }
    for (int g = 0; g < n_groups; g++) {
        uint32_t *table = realloc(q->tables[g], cap * sizeof *table);
        if (!table) {
            return false;
        }
        q->tables[g] = table;
    }
    struct sha256 *keys = realloc(q->keys, cap * sizeof *keys);
    if (!keys) {
        return false;
    }
    q->keys = keys;
    q->cap_blocks = cap;
    return true;
}

void sequence_unload(struct sequence *q)
{
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        free(q->tables[g]);
        q->tables[g] = NULL;
    }
    free(q->keys);
    free(q->tokens);
    free(q->load.groups);
    constraint_state_free(q->constraint);
    q->constraint = NULL;
    q->load.groups = NULL;
    q->keys = NULL;
    q->tokens = NULL;
    q->n_blocks = q->n_keys = q->cap_blocks = q->cap_tokens = 0;
}
