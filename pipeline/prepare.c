/* From a request to jobs: render, tokenize, check against the model's limits. Pure: reads const models, writes the
 * request and its arena; any thread.
 *
 * Fill-in-the-middle follows the order that the models with these tokens were trained on (prefix, suffix, middle);
 * extra files go before it in the repository format of Qwen2.5-Coder and StarCoder 2. */
#include "base/array.h"
#include "base/rng.h"
#include "pipeline/mcp/mcp_host.h"
#include "pipeline/pipeline_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define ENGINE_GRACE_MS 250

struct preparing {
    const struct pipeline *p;
    struct gen_request *r;
    struct error *err;
    struct token_list tokens; /* of the prompt at hand */
};

static const struct tokenizer *tokenizer_of(const struct preparing *w)
{
    return w->p->options.tokenizer;
}

/* ---- text to tokens ---- */

static bool add_text(struct preparing *w, struct str text, bool add_special, bool parse_special)
{
    struct encode_options options = {.add_special = add_special, .parse_special = parse_special};
    return tokenizer_encode(tokenizer_of(w), text, options, &w->tokens, w->err);
}

static bool add_id(struct preparing *w, int32_t id)
{
    if (id < 0) {
        return true; /* a token that this model does without */
    }
    return array_reserve(&w->tokens.ids, &w->tokens.cap, w->tokens.n + 1, LIMIT_CONTEXT, "prompt tokens", w->err) &&
           (w->tokens.ids[w->tokens.n++] = id, true);
}

static bool check_id(struct preparing *w, const char *param, int32_t id)
{
    int32_t n_vocab = tokenizer_n_vocab(tokenizer_of(w));
    return (id >= 0 && id < n_vocab) ||
           error_set_param(w->err, ERR_INVALID, param,
                           "Invalid value for '%s': token id %d is outside the vocabulary of %d tokens (0 to %d).",
                           param, id, n_vocab, n_vocab - 1);
}

static bool add_ids(struct preparing *w, const int32_t *ids, size_t n, size_t prompt)
{
    char param[64];
    snprintf(param, sizeof param, w->r->n_prompts > 1 ? "prompt[%zu]" : "prompt", prompt);
    for (size_t i = 0; i < n; i++) {
        if (!check_id(w, param, ids[i]) || !add_id(w, ids[i])) {
            return false;
        }
    }
    return true;
}

/* A model without a middle token cannot fill one in. */
static bool check_fim(struct preparing *w, const char *param)
{
    const struct special_tokens *special = tokenizer_special(tokenizer_of(w));
    if (special->fim_prefix >= 0 && special->fim_suffix >= 0 && special->fim_middle >= 0) {
        return true;
    }
    return error_set_param(w->err, ERR_UNSUPPORTED, param,
                           "this model has no fill-in-the-middle tokens, so '%s' cannot be used.", param);
}

static bool add_fim(struct preparing *w, const struct gen_prompt *prefix, struct str suffix, struct str typed)
{
    const struct special_tokens *special = tokenizer_special(tokenizer_of(w));
    return add_id(w, special->fim_prefix) &&
           (prefix->ids ? add_ids(w, prefix->ids, prefix->n_ids, 0) : add_text(w, prefix->text, false, false)) &&
           add_id(w, special->fim_suffix) && add_text(w, suffix, false, false) && add_id(w, special->fim_middle) &&
           add_text(w, typed, false, false);
}

static bool add_extra_files(struct preparing *w)
{
    const struct special_tokens *special = tokenizer_special(tokenizer_of(w));
    size_t n = json_len(w->r->infill_extra);
    if (n == 0) {
        return true;
    }
    if (!add_id(w, special->fim_rep) || (special->fim_rep >= 0 && !add_text(w, STR("project\n"), false, false))) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *file = json_at(w->r->infill_extra, i);
        struct str parts[] = {special->fim_sep >= 0 ? STR("") : STR("\n\n--- "), json_str(json_get(file, "filename")),
                              special->fim_sep >= 0 ? STR("\n") : STR(" ---\n\n"), json_str(json_get(file, "text"))};
        if (!add_id(w, special->fim_sep)) {
            return false;
        }
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            if (!add_text(w, parts[k], false, false)) {
                return false;
            }
        }
    }
    return add_id(w, special->fim_sep);
}

static bool add_bos(struct preparing *w)
{
    const struct special_tokens *special = tokenizer_special(tokenizer_of(w));
    return !special->add_bos || !w->r->add_special_tokens || add_id(w, special->bos);
}

static bool tokenize_prompt(struct preparing *w, size_t i)
{
    struct gen_request *r = w->r;
    if (r->input == GEN_CHAT) {
        return add_text(w, r->rendered, false, true);
    }
    if (r->input == GEN_INFILL) {
        struct gen_prompt prefix = {.text = r->infill_prefix};
        return check_fim(w, "input_prefix") && add_bos(w) && add_extra_files(w) &&
               add_fim(w, &prefix, r->infill_suffix, r->infill_prompt);
    }
    const struct gen_prompt *prompt = &r->prompts[i];
    if (r->has_suffix) {
        return check_fim(w, "suffix") && add_bos(w) && add_fim(w, prompt, r->suffix, STR(""));
    }
    if (prompt->ids) {
        return add_ids(w, prompt->ids, prompt->n_ids, i);
    }
    return add_text(w, prompt->text, r->add_special_tokens, true);
}

static bool render(struct preparing *w)
{
    struct buf text;
    buf_init(&text, JINJA_DEFAULT_OUTPUT);
    bool ok = pipeline_render_chat(w->p, w->r, &text, w->err) && buf_ok(&text, "the rendered chat template", w->err);
    if (ok) {
        w->r->rendered = arena_str(w->r->arena, buf_view(&text));
        ok = text.len == 0 || w->r->rendered.ptr || arena_full(w->r->arena, "request", w->err);
    }
    buf_release(&text);
    return ok;
}

/* ---- limits ---- */

static const char *prompt_param(const struct gen_request *r)
{
    return r->input == GEN_CHAT ? "messages" : r->input == GEN_INFILL ? "input_prefix" : "prompt";
}

static void truncate_prompt(struct preparing *w, uint32_t n_context, int64_t *n_truncated)
{
    struct gen_request *r = w->r;
    int64_t keep = r->truncate_prompt_tokens;
    if (keep == 0) {
        return;
    }
    if (keep < 0) {
        int64_t new_tokens = r->max_tokens > 0 ? r->max_tokens : 1;
        keep = (int64_t)n_context - new_tokens;
        keep = keep < 1 ? 1 : keep;
    }
    if ((int64_t)w->tokens.n > keep) {
        *n_truncated = (int64_t)w->tokens.n - keep;
        memmove(w->tokens.ids, w->tokens.ids + *n_truncated, (size_t)keep * sizeof w->tokens.ids[0]);
        w->tokens.n = (size_t)keep;
    }
}

/* The first words are what OpenAI's clients and agents look for. */
static bool context_exceeded(struct preparing *w, uint32_t n_context, uint64_t n_prompt, uint64_t n_new)
{
    return error_set_param(
        w->err, ERR_CONTEXT_EXCEEDED, prompt_param(w->r),
        "This model's maximum context length is %u tokens. However, you requested %llu tokens (%llu in "
        "the %s, %llu in the completion). Please reduce the length of the %s or completion.",
        n_context, (unsigned long long)(n_prompt + n_new), (unsigned long long)n_prompt,
        w->r->input == GEN_CHAT ? "messages" : "prompt", (unsigned long long)n_new,
        w->r->input == GEN_CHAT ? "messages" : "prompt");
}

/* Those that Anthropic's clients look for, to make their conversation shorter. */
static bool prompt_too_long(struct preparing *w, uint32_t n_context, uint64_t n_prompt)
{
    return error_set_param(w->err, ERR_CONTEXT_EXCEEDED, prompt_param(w->r),
                           "prompt is too long: %llu tokens > %u maximum", (unsigned long long)n_prompt, n_context - 1);
}

static bool resolve_max_tokens(struct preparing *w, uint32_t n_context, uint32_t *max_tokens)
{
    uint64_t n_prompt = w->tokens.n;
    int64_t wanted = w->r->max_tokens;
    uint64_t room = n_prompt < n_context ? n_context - n_prompt : 0;
    if (w->r->clip_max_tokens && wanted >= 0) {
        *max_tokens = (uint32_t)((uint64_t)wanted < room ? (uint64_t)wanted : room);
        return room > 0 || prompt_too_long(w, n_context, n_prompt);
    }
    if (wanted < 0) {
        int64_t fallback = w->p->options.default_max_tokens;
        if (room == 0) {
            return context_exceeded(w, n_context, n_prompt, 1);
        }
        *max_tokens = (uint32_t)(fallback > 0 && (uint64_t)fallback < room ? (uint64_t)fallback : room);
        return true;
    }
    if (n_prompt + (uint64_t)wanted > n_context) {
        return context_exceeded(w, n_context, n_prompt, (uint64_t)wanted);
    }
    *max_tokens = (uint32_t)wanted;
    return true;
}

/* ---- what all jobs of a request share ---- */

static bool check_vocabulary_ids(struct preparing *w)
{
    const struct gen_request *r = w->r;
    for (size_t i = 0; i < r->n_bias; i++) {
        if (!check_id(w, "logit_bias", r->bias[i].id)) {
            return false;
        }
    }
    for (size_t i = 0; i < r->n_stop_ids; i++) {
        if (!check_id(w, "stop_token_ids", r->stop_ids[i])) {
            return false;
        }
    }
    return true;
}

/* A sequence breaker in DRY is a token; its id is that of the text after a letter, where most tokenizers put no blank
 * before it (as the sampler's first implementation, in text-generation-webui, has it). */
static bool resolve_dry_breakers(struct preparing *w, int32_t **ids, uint32_t *n_ids)
{
    static const struct str defaults[] = {{"\n", 1}, {":", 1}, {"\"", 1}, {"*", 1}};
    const struct gen_request *r = w->r;
    const struct str *texts = r->dry_breakers ? r->dry_breakers : defaults;
    size_t n = r->dry_breakers ? r->n_dry_breakers : ARRAY_LEN(defaults);
    *ids = arena_alloc_array(r->arena, n ? n : 1, sizeof **ids);
    if (!*ids) {
        return arena_full(r->arena, "request", w->err);
    }
    for (size_t i = 0; i < n; i++) {
        char text[LIMIT_STOP_SIZE + 2];
        int len = snprintf(text, sizeof text, "a" STR_FMT, STR_ARG(texts[i]));
        w->tokens.n = 0;
        if (!add_text(w, (struct str){text, (size_t)len}, false, false)) {
            return false;
        }
        (*ids)[i] = w->tokens.ids[w->tokens.n - 1];
    }
    *n_ids = (uint32_t)n;
    return true;
}

/* As running text: the answer goes on where the prompt ended, and its control tokens are no text. */
static bool tokenize_prediction(struct preparing *w, struct job *job)
{
    const struct gen_request *r = w->r;
    w->tokens.n = 0;
    if (r->prediction.len == 0) {
        return true;
    }
    if (!add_text(w, r->prediction, false, false)) {
        snprintf(w->err->param, sizeof w->err->param, "prediction");
        return false;
    }
    int32_t *ids = arena_alloc_array(r->arena, w->tokens.n + 1, sizeof *ids);
    if (!ids) {
        return arena_full(r->arena, "request", w->err);
    }
    memcpy(ids, w->tokens.ids, w->tokens.n * sizeof *ids);
    job->prediction = ids;
    job->n_prediction = (uint32_t)w->tokens.n;
    return true;
}

static uint32_t job_flags(const struct gen_request *r)
{
    bool prompt_logprobs = r->prompt_logprobs || (r->echo && r->logprobs) || r->max_tokens == 0;
    bool logprobs = r->logprobs || r->best_of > r->n;
    return (r->ignore_eos ? JOB_IGNORE_EOS : 0) | (logprobs ? JOB_LOGPROBS : 0) |
           (prompt_logprobs ? JOB_PROMPT_LOGPROBS : 0) | JOB_PROGRESS /* for the status of what runs */ |
           (r->digest ? JOB_DIGEST : 0) | (r->cache_prompt ? 0 : JOB_NO_CACHE);
}

/* Where deadlines are watched (deadlines.h) the engine's own comes a little later, so that one place says what was
 * late. */
static uint32_t engine_timeout_ms(const struct preparing *w)
{
    int64_t ms = w->r->timeout_ms + (w->p->options.on_begun ? ENGINE_GRACE_MS : 0);
    return w->r->timeout_ms > 0 && ms < UINT32_MAX ? (uint32_t)ms : 0;
}

static bool fill_common(struct preparing *w, struct str constraint, struct job *job)
{
    struct gen_request *r = w->r;
    int32_t *breakers = NULL;
    uint32_t n_breakers = 0;
    bool dry = r->sampling.dry_multiplier > 0;
    if (!check_vocabulary_ids(w) || (dry && !resolve_dry_breakers(w, &breakers, &n_breakers))) {
        return false;
    }
    if (!r->has_seed) {
        r->seed = rng_entropy64();
        r->has_seed = true;
    }
    if (r->best_of < r->n) {
        r->best_of = r->n;
    }
    r->timeout_ms = r->timeout_ms > 0 ? r->timeout_ms : w->p->options.default_timeout_ms;
    r->queue_timeout_ms = w->p->options.queue_timeout_ms;
    r->first_token_timeout_ms = w->p->options.first_token_timeout_ms;
    *job = (struct job){
        .kind = JOB_GENERATE,
        .flags = job_flags(r),
        .n_choices = r->best_of,
        .priority = r->priority,
        .timeout_ms = engine_timeout_ms(w),
        .seed = r->seed,
        .cache_salt = r->cache_salt,
        .adapter = r->adapter,
        .adapter_digest = r->adapter_digest,
        .min_tokens = r->min_tokens,
        .n_top = r->n_top,
        .n_prompt_top = r->prompt_logprobs ? r->n_prompt_top : r->n_top,
        .sampling = r->sampling,
        .bias = r->bias,
        .n_bias = (uint32_t)r->n_bias,
        .stop_ids = r->stop_ids,
        .n_stop_ids = (uint32_t)r->n_stop_ids,
        .dry_breakers = breakers,
        .n_dry_breakers = n_breakers,
        .speculation = r->speculation,
        .constraint = constraint.len ? constraint.ptr : NULL,
        .constraint_size = (uint32_t)constraint.len,
    };
    return tokenize_prediction(w, job);
}

static bool prepare_job(struct preparing *w, const struct job *common, size_t i)
{
    struct gen_request *r = w->r;
    struct job *job = &r->jobs[i];
    uint32_t n_context = pipeline_n_context(w->p);
    w->tokens.n = 0;
    *job = *common;
    job->prompt_index = (uint32_t)i;
    if (!tokenize_prompt(w, i)) {
        return false;
    }
    if (w->tokens.n == 0 && tokenizer_special(tokenizer_of(w))->bos >= 0 && r->input == GEN_PROMPTS &&
        !add_id(w, tokenizer_special(tokenizer_of(w))->bos)) {
        return false; /* an empty text starts from the beginning-of-text token */
    }
    if (w->tokens.n == 0) {
        return error_set_param(w->err, ERR_INVALID, prompt_param(r), "'%s' gives no tokens; at least one is needed.",
                               prompt_param(r));
    }
    truncate_prompt(w, n_context, &r->n_truncated[i]);
    if (!resolve_max_tokens(w, n_context, &job->max_tokens)) {
        return false;
    }
    if (job->min_tokens > job->max_tokens) {
        return error_set_param(w->err, ERR_INVALID, "min_tokens",
                               "'min_tokens' is %u, more than the %u tokens that this request may generate.",
                               job->min_tokens, job->max_tokens);
    }
    int32_t *ids = arena_alloc_array(r->arena, w->tokens.n, sizeof *ids);
    if (!ids) {
        return arena_full(r->arena, "request", w->err);
    }
    memcpy(ids, w->tokens.ids, w->tokens.n * sizeof *ids);
    job->prompt = ids;
    job->n_prompt = (uint32_t)w->tokens.n;
    return job_check(job, w->err);
}

bool pipeline_prepare(const struct pipeline *p, struct gen_request *r, struct error *err)
{
    struct preparing w = {.p = p, .r = r, .err = err};
    struct job common;
    struct str constraint;
    bool ok = false;
    r->n_jobs = r->input == GEN_PROMPTS ? r->n_prompts : 1;
    r->jobs = arena_alloc_array(r->arena, r->n_jobs, sizeof r->jobs[0]);
    r->n_truncated = arena_alloc_array(r->arena, r->n_jobs, sizeof r->n_truncated[0]);
    if (!r->jobs || !r->n_truncated) {
        arena_full(r->arena, "request", err);
        goto out;
    }
    if (r->input == GEN_CHAT && (!mcp_host_merge(r, err) || !render(&w) || !pipeline__choose_output(p, r, err))) {
        goto out;
    }
    if (!pipeline__find_keys(r, err) || !pipeline__compile_schemas(p, r, err) ||
        !pipeline__constrain(p, r, &constraint, err) || !fill_common(&w, constraint, &common)) {
        goto out;
    }
    for (size_t i = 0; i < r->n_jobs; i++) {
        if (!prepare_job(&w, &common, i)) {
            goto out;
        }
    }
    ok = true;
out:
    token_list_release(&w.tokens);
    return ok;
}
