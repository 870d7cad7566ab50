/* Bodies of the OpenAI routes: their fields by the tables, and what concerns several of them. */
#include "api/api_internal.h"
#include "api/mcp/mcp_api.h"
#include "api/openai/openai_tools.h"

#include "base/array.h"
#include "base/rng.h"

#include <stdio.h>

static bool conflict(struct error *err, const char *param, const char *why)
{
    return error_set_param(err, ERR_INVALID, param, "%s", why);
}

static bool given(const struct call *c, const char *name)
{
    return !json_is_null(json_get(c->body, name));
}

bool api__check_kept(const struct call *c, struct error *err)
{
    const struct gen_request *r = &c->request;
    if ((r->background || r->detach) && !c->app->options.journal) {
        const char *name = r->background ? "background" : "detach";
        return error_set_param(err, ERR_UNSUPPORTED, name,
                               "'%s' is not available: this server keeps no requests; it was started without "
                               "--journal.",
                               name);
    }
    return true;
}

static bool check_request(struct call *c, struct error *err)
{
    struct gen_request *r = &c->request;
    if (r->truncate_prompt_tokens == 0 && given(c, "truncate_prompt_tokens")) {
        return conflict(err, "truncate_prompt_tokens",
                        "Invalid value for 'truncate_prompt_tokens': expected -1 or at least 1, but got 0.");
    }
    if (!api__check_kept(c, err)) {
        return false;
    }
    if (r->has_stream_options && !r->stream) {
        return conflict(err, "stream_options", "'stream_options' is only allowed together with 'stream': true.");
    }
    if (r->prompt_logprobs && r->stream) {
        return conflict(err, "prompt_logprobs", "'prompt_logprobs' is not available together with 'stream': true.");
    }
    if (r->return_progress && !r->stream) {
        return conflict(err, "return_progress", "'return_progress' is only allowed together with 'stream': true.");
    }
    if (r->best_of && r->best_of < r->n) {
        return conflict(err, "best_of", "'best_of' must not be less than 'n'.");
    }
    if (r->best_of > r->n && r->stream) {
        return conflict(err, "best_of", "'best_of' greater than 'n' is not available together with 'stream': true.");
    }
    return true;
}

static bool decode(struct call *c, enum gen_input input, const char *id_prefix, struct error *err)
{
    struct decoding d = api__decoding(c, &c->request);
    api__init_request(c, &c->request, input, id_prefix);
    d.request = &c->request;
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    c->request.prompt_logprobs = given(c, "prompt_logprobs"); /* 0 alternatives is a wish too */
    c->request.timings |= c->request.timings_per_token;
    if (input != GEN_CHAT) {
        c->request.logprobs = given(c, "logprobs");
    }
    return check_request(c, err);
}

/* Of a number with several names, the first that the body has; NULL: none. Two that say different things are refused.
 */
static bool settle_names(const struct call *c, const char *const *names, size_t n, const char **first,
                         struct error *err)
{
    int64_t value = 0;
    *first = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!given(c, names[i])) {
            continue;
        }
        int64_t other = json_int(json_get(c->body, names[i]));
        if (*first && other != value) {
            return error_set_param(err, ERR_INVALID, names[i], "'%s' and '%s' are the same, and differ; give one.",
                                   names[i], *first);
        }
        *first = *first ? *first : names[i];
        value = other;
    }
    return true;
}

static bool settle_budget(const struct call *c, struct gen_request *r, struct error *err)
{
    static const char *const names[] = {"thinking_budget", "thinking_token_budget", "thinking_budget_tokens",
                                        "reasoning_budget_tokens"};
    return settle_names(c, names, ARRAY_LEN(names), &r->thinking_budget_field, err);
}

bool api__decode_chat(struct call *c, struct error *err)
{
    struct gen_request *r = &c->request;
    if (!decode(c, GEN_CHAT, "chatcmpl-", err)) {
        return false;
    }
    if (!r->messages) {
        return field_missing_error(err, "messages");
    }
    if (r->max_completion_tokens > 0) {
        r->max_tokens = r->max_completion_tokens;
    }
    if (r->n_top && !r->logprobs) {
        return conflict(err, "top_logprobs", "'top_logprobs' is only allowed together with 'logprobs': true.");
    }
    if (r->continue_final_message && json_get(c->body, "add_generation_prompt") && r->add_generation_prompt) {
        return conflict(err, "continue_final_message",
                        "'continue_final_message' and 'add_generation_prompt' cannot both be true.");
    }
    r->add_generation_prompt = r->add_generation_prompt && !r->continue_final_message;
    return settle_budget(c, r, err) && api__settle_mcp(c, r, err) && openai_check_tools(r, c->body, err);
}

#define COMPLETION_DEFAULT_TOKENS 16 /* as OpenAI documents it */

bool api__decode_completion(struct call *c, struct error *err)
{
    struct gen_request *r = &c->request;
    if (!decode(c, GEN_PROMPTS, "cmpl-", err)) {
        return false;
    }
    if (!r->prompts) {
        return field_missing_error(err, "prompt");
    }
    r->max_tokens = r->max_tokens < 0 ? COMPLETION_DEFAULT_TOKENS : r->max_tokens;
    if (r->max_tokens == 0 && !r->echo) {
        return conflict(err, "max_tokens", "'max_tokens' may be 0 only together with 'echo': true.");
    }
    if (r->echo && r->has_suffix) {
        return conflict(err, "echo", "'echo' is not available together with 'suffix'.");
    }
    return true;
}

bool api__decode_infill(struct call *c, struct error *err)
{
    static const char *const lengths[] = {"n_predict", "max_tokens"};
    const char *length;
    if (!decode(c, GEN_INFILL, "infill-", err)) {
        return false;
    }
    if (!c->request.infill_prefix.ptr && !c->request.infill_suffix.ptr) {
        return conflict(err, "input_prefix", "Missing required parameter: 'input_prefix' or 'input_suffix'.");
    }
    return settle_names(c, lengths, ARRAY_LEN(lengths), &length, err);
}
