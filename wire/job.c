#include "wire/job.h"

#include "base/array.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

#define JOB_MAX_BIAS_VALUE 1e9f /* finite; what an API allows is the API's business */

struct sampling sampling_default(void)
{
    struct sampling s = {
#define X(name, type, fallback, min, max, help) .name = (type)(fallback),
        SAMPLING_TABLE(X)
#undef X
    };
    return s;
}

const char *finish_reason_name(enum finish_reason r)
{
    switch (r) {
    case FINISH_NONE:
        return "none";
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_CANCELLED:
        return "cancelled";
    case FINISH_ERROR:
        return "error";
    }
    return "error";
}

bool speculation_parse(struct str name, enum speculation *out, struct error *err)
{
    static const char *const names[SPECULATION_COUNT] = {
        [SPECULATION_OFF] = "off", [SPECULATION_AUTO] = "auto", [SPECULATION_ON] = "on"};
    for (int i = SPECULATION_OFF; i < SPECULATION_COUNT; i++) {
        if (str_eq(name, str_of(names[i]))) {
            *out = (enum speculation)i;
            return true;
        }
    }
    return error_set_param(err, ERR_INVALID, "speculation", "'speculation' is auto, off or on, not '" STR_FMT "'.",
                           STR_ARG(str_slice(name, 0, 40)));
}

/* ---- checks ---- */

/* Written so that NaN is out of range too. */
#define CHECK_SAMPLING(name, type, fallback, min, max, help)                                                         \
    if (!(s->name >= (type)(min) && s->name <= (type)(max))) {                                                       \
        return error_set_param(err, ERR_INVALID, #name,                                                              \
                               "'" #name "' must be between " #min " and " #max ", but it is %g.", (double)s->name); \
    }

static bool check_sampling(const struct sampling *s, struct error *err)
{
    SAMPLING_TABLE(CHECK_SAMPLING)
    return true;
}

static bool check_max(const char *name, uint64_t value, uint64_t max, struct error *err)
{
    return value <= max || error_set_param(err, ERR_INVALID, name, "'%s' is at most %llu, but it is %llu.", name,
                                           (unsigned long long)max, (unsigned long long)value);
}

static bool check_ids(const char *name, const int32_t *ids, uint32_t n, struct error *err)
{
    if (n && !ids) {
        return error_set_param(err, ERR_INVALID, name, "'%s' has a count of %u but no ids.", name, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= LIMIT_VOCAB) {
            return error_set_param(err, ERR_INVALID, name, "'%s' holds the token id %d, which no vocabulary has.", name,
                                   ids[i]);
        }
    }
    return true;
}

static bool check_bias(const struct job *job, struct error *err)
{
    if (job->n_bias && !job->bias) {
        return error_set_param(err, ERR_INVALID, "logit_bias", "'logit_bias' has a count of %u but no entries.",
                               job->n_bias);
    }
    for (uint32_t i = 0; i < job->n_bias; i++) {
        const struct job_bias *b = &job->bias[i];
        if (b->id < 0 || (uint32_t)b->id >= LIMIT_VOCAB ||
            !(b->bias >= -JOB_MAX_BIAS_VALUE && b->bias <= JOB_MAX_BIAS_VALUE)) {
            return error_set_param(err, ERR_INVALID, "logit_bias",
                                   "'logit_bias' wants token ids and finite values, but holds %d: %g.", b->id,
                                   (double)b->bias);
        }
    }
    return true;
}

static bool check_accepted(const struct job *job, struct error *err)
{
    bool all_done = job->accepted != NULL;
    for (uint32_t i = 0; job->accepted && i < job->n_choices; i++) {
        const struct job_accepted *a = &job->accepted[i];
        all_done = all_done && a->done;
        if (a->n > job->max_tokens) {
            return error_set_param(err, ERR_INVALID, "accepted",
                                   "Choice %u has %u accepted tokens, more than its maximum of %u.", i, a->n,
                                   job->max_tokens);
        }
        if (!check_ids("accepted", a->ids, a->n, err)) {
            return false;
        }
    }
    return !all_done || error_set_param(err, ERR_INVALID, "accepted", "Every choice of the job has ended already.");
}

static bool check_tokens(const struct job *job, struct error *err)
{
    bool scored_only = (job->flags & JOB_PROMPT_LOGPROBS) || job->kind == JOB_SCORE;
    if (job->n_prompt == 0 || !job->prompt) {
        return error_set_param(err, ERR_INVALID, "prompt", "The prompt has no tokens; at least one is needed.");
    }
    if (job->max_tokens == 0 && job->kind == JOB_GENERATE && !scored_only) {
        return error_set_param(err, ERR_INVALID, "max_tokens",
                               "'max_tokens' must be at least 1 unless only the prompt is scored.");
    }
    if (job->min_tokens > job->max_tokens) {
        return error_set_param(err, ERR_INVALID, "min_tokens",
                               "'min_tokens' is %u, more than 'max_tokens', which is %u.", job->min_tokens,
                               job->max_tokens);
    }
    return check_max("prompt", job->n_prompt, LIMIT_CONTEXT, err) &&
           check_max("max_tokens", job->max_tokens, LIMIT_CONTEXT, err) &&
           check_ids("prompt", job->prompt, job->n_prompt, err) && check_accepted(job, err);
}

bool job_check(const struct job *job, struct error *err)
{
    if ((unsigned)job->kind >= JOB_KIND_COUNT) {
        return error_set_param(err, ERR_INVALID, "kind", "There is no job kind %d.", (int)job->kind);
    }
    if (job->n_choices == 0 || job->n_choices > LIMIT_CHOICES) {
        return error_set_param(err, ERR_INVALID, "n", "'n' must be between 1 and %d, but it is %u.", LIMIT_CHOICES,
                               job->n_choices);
    }
    if ((unsigned)job->speculation >= SPECULATION_COUNT) {
        return error_set_param(err, ERR_INVALID, "speculation", "There is no kind %d of speculation.",
                               (int)job->speculation);
    }
    if (job->adapter > WIRE_MAX_ADAPTERS) {
        return error_set_param(err, ERR_INVALID, "model", "There is no adapter number %u; %d is the highest.",
                               job->adapter, WIRE_MAX_ADAPTERS);
    }
    if (job->constraint_size && !job->constraint) {
        return error_set_param(err, ERR_INVALID, "constraint", "The constraint has a size but no bytes.");
    }
    return check_max("top_logprobs", job->n_top, JOB_MAX_TOP, err) &&
           check_max("prompt_logprobs", job->n_prompt_top, JOB_MAX_TOP, err) &&
           check_max("logit_bias", job->n_bias, JOB_MAX_BIAS, err) &&
           check_max("stop_token_ids", job->n_stop_ids, JOB_MAX_STOP_IDS, err) &&
           check_max("dry_sequence_breakers", job->n_dry_breakers, JOB_MAX_DRY_BREAKERS, err) &&
           check_max("prediction", job->n_prediction, LIMIT_CONTEXT, err) &&
           check_ids("prediction", job->prediction, job->n_prediction, err) && check_sampling(&job->sampling, err) &&
           check_bias(job, err) && check_ids("stop_token_ids", job->stop_ids, job->n_stop_ids, err) &&
           check_ids("dry_sequence_breakers", job->dry_breakers, job->n_dry_breakers, err) && check_tokens(job, err);
}

/* ---- copying ----
 * One allocation: the struct, then its arrays, each aligned for what it holds. */

struct layout {
    char *at;    /* NULL while the size is measured */
    size_t size; /* bytes handed out so far, the struct included */
    bool overflow;
};

static const void *place(struct layout *l, const void *bytes, size_t n, size_t item_size)
{
    size_t size;
    if (!n || !bytes) {
        return NULL;
    }
    if (!size_mul(n, item_size, &size) || !size_add(size, 15, &size)) {
        l->overflow = true;
        return NULL;
    }
    size &= ~(size_t)15;
    char *to = l->at ? l->at + l->size : NULL;
    l->overflow |= !size_add(l->size, size, &l->size);
    if (to) {
        memcpy(to, bytes, n * item_size);
    }
    return to;
}

static void place_all(struct layout *l, const struct job *from, struct job *to)
{
    to->prompt = place(l, from->prompt, from->n_prompt, sizeof *from->prompt);
    to->bias = place(l, from->bias, from->n_bias, sizeof *from->bias);
    to->stop_ids = place(l, from->stop_ids, from->n_stop_ids, sizeof *from->stop_ids);
    to->dry_breakers = place(l, from->dry_breakers, from->n_dry_breakers, sizeof *from->dry_breakers);
    to->prediction = place(l, from->prediction, from->n_prediction, sizeof *from->prediction);
    to->constraint = place(l, from->constraint, from->constraint_size, 1);
    struct job_accepted *accepted = (struct job_accepted *)place(l, from->accepted, from->n_choices, sizeof *accepted);
    to->accepted = accepted;
    for (uint32_t i = 0; from->accepted && i < from->n_choices; i++) {
        const int32_t *ids = place(l, from->accepted[i].ids, from->accepted[i].n, sizeof *ids);
        if (accepted) {
            accepted[i] = (struct job_accepted){ids, from->accepted[i].n, from->accepted[i].done};
        }
    }
}

struct job *job_copy(const struct job *job)
{
    struct layout measured = {.size = (sizeof *job + 15) & ~(size_t)15};
    struct layout placed = measured;
    struct job ignored = *job;
    place_all(&measured, job, &ignored);
    placed.at = measured.overflow ? NULL : malloc(measured.size);
    if (!placed.at) {
        return NULL;
    }
    struct job *copy = (struct job *)placed.at;
    *copy = *job;
    place_all(&placed, job, copy);
    return copy;
}
