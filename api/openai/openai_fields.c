/* The fields of the OpenAI routes, each by itself. Bounds of sampling parameters come from SAMPLING_TABLE. */
#include "api/api_internal.h"
#include "api/mcp/mcp_api.h"
#include "api/openai/openai_legacy.h"
#include "api/openai/openai_tools.h"

#include "base/hash.h"

#include <stdio.h>

#define AT(member)          offsetof(struct gen_request, member)
#define SAMPLING_AT(member) offsetof(struct gen_request, sampling.member)
#define MAX_INT             9007199254740992.0 /* what a double holds exactly */

static struct gen_request *request_of(struct decoding *d)
{
    return d->target;
}

static bool out_of_memory(struct decoding *d, struct error *err)
{
    return arena_full(d->arena, "the request", err);
}

static bool count_error(struct error *err, const char *name, size_t max, const char *what, size_t n)
{
    return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': at most %zu %s are allowed, but got %zu.",
                           name, max, what, n);
}

/* ---- custom fields ---- */

static bool parse_seed(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_INT) {
        return field_type_error(err, name, "an integer of 64 bits", v);
    }
    request_of(d)->seed = (uint64_t)json_int(v);
    request_of(d)->has_seed = true;
    return true;
}

static bool add_strings(struct decoding *d, const struct json *v, const char *name, size_t max, const struct str **out,
                        size_t *n_out, struct error *err)
{
    size_t n = json_type(v) == JSON_STRING ? 1 : json_len(v);
    if (json_type(v) != JSON_STRING && json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "a string or an array of strings", v);
    }
    if (n > max) {
        return count_error(err, name, max, "strings", n);
    }
    struct str *strings = arena_alloc_array(d->arena, n ? n : 1, sizeof *strings);
    if (!strings) {
        return out_of_memory(d, err);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *item = json_type(v) == JSON_STRING ? v : json_at(v, i);
        if (json_type(item) != JSON_STRING) {
            return field_type_error(err, name, "an array of strings", item);
        }
        strings[i] = json_str(item);
        if (strings[i].len == 0 || strings[i].len > LIMIT_STOP_SIZE) {
            return error_set_param(err, ERR_INVALID, name,
                                   "Invalid value for '%s': a string of 1 to %d bytes is expected, but got %zu.", name,
                                   LIMIT_STOP_SIZE, strings[i].len);
        }
    }
    *out = strings;
    *n_out = n;
    return true;
}

bool openai_parse_stop(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    return add_strings(d, v, name, LIMIT_STOPS, &r->stops, &r->n_stops, err);
}

static bool parse_dry_breakers(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    return add_strings(d, v, name, JOB_MAX_DRY_BREAKERS, &r->dry_breakers, &r->n_dry_breakers, err);
}

/* Token ids of an array; *out lives in the arena. */
static bool add_ids(struct decoding *d, const struct json *v, const char *name, size_t max, const int32_t **out,
                    size_t *n_out, struct error *err)
{
    size_t n = json_len(v);
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of token ids", v);
    }
    if (n > max) {
        return count_error(err, name, max, "token ids", n);
    }
    int32_t *ids = arena_alloc_array(d->arena, n ? n : 1, sizeof *ids);
    if (!ids) {
        return out_of_memory(d, err);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *item = json_at(v, i);
        if (json_type(item) != JSON_INT) {
            return field_type_error(err, name, "an array of token ids", item);
        }
        if (json_int(item) < 0 || json_int(item) > INT32_MAX) {
            return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': %lld is no token id.", name,
                                   (long long)json_int(item));
        }
        ids[i] = (int32_t)json_int(item);
    }
    *out = ids;
    *n_out = n;
    return true;
}

static bool parse_stop_ids(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    return add_ids(d, v, name, JOB_MAX_STOP_IDS, &r->stop_ids, &r->n_stop_ids, err);
}

static bool parse_logit_bias(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    size_t n = json_len(v), i = 0;
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object of token ids and biases", v);
    }
    if (n > JOB_MAX_BIAS) {
        return count_error(err, name, JOB_MAX_BIAS, "tokens", n);
    }
    struct job_bias *bias = arena_alloc_array(d->arena, n ? n : 1, sizeof *bias);
    if (!bias) {
        return out_of_memory(d, err);
    }
    for (struct json_iter it = json_members(v); json_next(&it); i++) {
        uint64_t id;
        enum json_type type = json_type(it.value);
        if (!str_to_u64(it.key, &id) || id > INT32_MAX) {
            return error_set_param(err, ERR_INVALID, name, "Invalid key in '%s': '%.40s' is no token id.", name,
                                   it.key.ptr);
        }
        if ((type != JSON_INT && type != JSON_DOUBLE) || json_double(it.value) < -100 || json_double(it.value) > 100) {
            return error_set_param(err, ERR_INVALID, name,
                                   "Invalid value in '%s' for token %s: expected a number from -100 to 100.", name,
                                   it.key.ptr);
        }
        bias[i] = (struct job_bias){(int32_t)id, (float)json_double(it.value)};
    }
    r->bias = bias;
    r->n_bias = n;
    return true;
}

static bool parse_stream_options(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    static const struct field members[] = {
        {"include_usage", FIELD_BOOL, AT(include_usage), 0, 0, NULL, NULL, NULL, NULL},
        {"include_obfuscation", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
        {"continuous_usage_stats", FIELD_BOOL, AT(continuous_usage), 0, 0, NULL, NULL, NULL, NULL},
        {0},
    };
    if (!fields_decode_members(d, v, name, members, err)) {
        return false;
    }
    r->has_stream_options = true;
    return true;
}

static bool parse_metadata(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object of strings", v);
    }
    for (struct json_iter it = json_members(v); json_next(&it);) {
        if (json_type(it.value) != JSON_STRING) {
            return field_type_error(err, name, "an object of strings", it.value);
        }
    }
    return true;
}

/* Any string: only whether two are equal matters. */
static bool parse_cache_salt(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_STRING || json_str(v).len == 0) {
        return field_type_error(err, name, "a string that is not empty", v);
    }
    struct sha256 digest = sha256_of(json_str(v).ptr, json_str(v).len);
    memcpy(&request_of(d)->cache_salt, digest.bytes, sizeof request_of(d)->cache_salt);
    return true;
}

static bool parse_speculation(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return field_type_error(err, name, "\"auto\", \"off\" or \"on\"", v);
    }
    return speculation_parse(json_str(v), &request_of(d)->speculation, err);
}

/* A text part of OpenAI's, for which nothing but the text is known here. */
static bool is_text_part(const struct json *part)
{
    return json_type(part) == JSON_OBJECT && str_eq(json_str(json_get(part, "type")), STR("text")) &&
           json_type(json_get(part, "text")) == JSON_STRING;
}

/* The texts of an array of parts, one after another. */
static bool join_parts(struct decoding *d, const struct json *parts, struct str *out, struct error *err)
{
    struct buf text;
    bool ok = true;
    buf_init(&text, LIMIT_HTTP_BODY);
    for (size_t i = 0; ok && i < json_len(parts); i++) {
        const struct json *part = json_at(parts, i);
        ok = is_text_part(part) ||
             field_type_error(err, "content", "a string or an array of parts of type \"text\"", part);
        buf_append(&text, ok ? json_str(json_get(part, "text")) : STR(""));
    }
    ok = ok && buf_ok(&text, "the prediction", err);
    if (ok) {
        *out = arena_str(d->arena, buf_view(&text));
        ok = text.len == 0 || out->ptr || out_of_memory(d, err);
    }
    buf_release(&text);
    return ok;
}

static bool parse_prediction_content(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    r->has_prediction = true;
    if (json_type(v) == JSON_STRING) {
        r->prediction = json_str(v);
        return true;
    }
    if (json_type(v) != JSON_ARRAY || json_len(v) == 0) {
        return field_type_error(err, name, "a string or a non-empty array of text parts", v);
    }
    return join_parts(d, v, &r->prediction, err);
}

/* What OpenAI refuses beside it (n, logprobs, penalties, tools ...) need not be refused here: guesses are checked as if
 * nobody had guessed, whatever the request asks for. */
static bool parse_prediction(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"type", FIELD_DEFAULT, 0, 0, 0, NULL, "\"content\"", NULL, NULL},
        {"content", FIELD_CUSTOM, 0, 0, 0, parse_prediction_content, NULL, NULL, NULL},
        {0},
    };
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object with 'type' and 'content'", v);
    }
    if (json_is_null(json_get(v, "type")) || json_is_null(json_get(v, "content"))) {
        const char *param = json_is_null(json_get(v, "type")) ? "prediction.type" : "prediction.content";
        return field_missing_error(err, param);
    }
    return fields_decode_members(d, v, name, members, err);
}

static bool expect_string(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    return json_type(v) == JSON_STRING || field_type_error(err, name, "a string", v);
}

static bool parse_kwargs(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    request_of(d)->template_kwargs = v;
    return true;
}

static bool parse_messages(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of messages", v);
    }
    if (!request_check_messages(v, err)) {
        return false;
    }
    request_of(d)->messages = openai_modern_messages(v, d->arena, err);
    return request_of(d)->messages != NULL;
}

static bool add_prompt(struct decoding *d, const struct json *v, const char *name, struct gen_prompt *p,
                       struct error *err)
{
    if (json_type(v) == JSON_STRING) {
        p->text = json_str(v);
        return true;
    }
    if (json_type(v) == JSON_ARRAY) {
        return add_ids(d, v, name, LIMIT_CONTEXT, &p->ids, &p->n_ids, err);
    }
    return field_type_error(
        err, name, "a string, an array of strings, an array of token ids, or an array of arrays of token ids", v);
}

static bool parse_prompt(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    bool one = json_type(v) != JSON_ARRAY || json_type(json_at(v, 0)) == JSON_INT;
    size_t n = one ? 1 : json_len(v);
    if (n == 0 || n > LIMIT_PROMPTS) {
        return error_set_param(err, ERR_INVALID, name,
                               "Invalid value for '%s': 1 to %d prompts are allowed, but got %zu.", name, LIMIT_PROMPTS,
                               n);
    }
    r->prompts = arena_alloc_array(d->arena, n, sizeof r->prompts[0]);
    if (!r->prompts) {
        return out_of_memory(d, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (!add_prompt(d, one ? v : json_at(v, i), name, &r->prompts[i], err)) {
            return false;
        }
    }
    r->n_prompts = n;
    return true;
}

static bool parse_suffix(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return field_type_error(err, name, "a string", v);
    }
    request_of(d)->suffix = json_str(v);
    request_of(d)->has_suffix = json_str(v).len > 0;
    return true;
}

static bool parse_extra(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of objects with 'filename' and 'text'", v);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        const struct json *file = json_at(v, i);
        if (json_type(json_get(file, "filename")) != JSON_STRING || json_type(json_get(file, "text")) != JSON_STRING) {
            return field_type_error(err, name, "an array of objects with 'filename' and 'text'", file);
        }
    }
    request_of(d)->infill_extra = v;
    return true;
}

/* ---- the tables ---- */

#define KIND_float   FIELD_FLOAT
#define KIND_int32_t FIELD_I32

const struct field api__house_fields[] = {
#define X(name, type, fallback, low, high, what) \
    {#name, KIND_##type, SAMPLING_AT(name), low, high, NULL, NULL, NULL, what},
    SAMPLING_TABLE(X)
#undef X
        {"seed", FIELD_CUSTOM, 0, 0, 0, parse_seed, NULL, "integer", "equal seeds and fingerprints give equal answers"},
    {"min_tokens", FIELD_U32, AT(min_tokens), 0, LIMIT_CONTEXT, NULL, NULL, NULL,
     "no end of text and no stop before so many tokens"},
    {"cache_prompt", FIELD_BOOL, AT(cache_prompt), 0, 0, NULL, NULL, NULL, "use the prefix cache"},
    {"cache_salt", FIELD_CUSTOM, 0, 0, 0, parse_cache_salt, NULL, "string",
     "prefix-cache hits do not cross different ones"},
    {"priority", FIELD_I32, AT(priority), -1000000, 1000000, NULL, NULL, NULL, "lower first"},
    {"speculation", FIELD_CUSTOM, 0, 0, 0, parse_speculation, NULL, "string",
     "auto, off or on: guess tokens and check several at a time; the answer does not depend on it"},
    {"timeout", FIELD_SECONDS, AT(timeout_ms), 0.001, 86400, NULL, NULL, NULL,
     "seconds until the request fails with 504"},
    {"stream_interval_ms", FIELD_I64, AT(interval_ms), 0, 60000, NULL, NULL, NULL,
     "gather tokens for so long before they are sent"},
    {"stream_interval_tokens", FIELD_I64, AT(interval_tokens), 1, 4096, NULL, NULL, NULL,
     "gather so many tokens before they are sent"},
    {"background", FIELD_BOOL, AT(background), 0, 0, NULL, NULL, NULL,
     "answer 202 with an id at once; the answer is had from /v1/requests/{id}; needs --journal (RELIABILITY.md)"},
    {"detach", FIELD_BOOL, AT(detach), 0, 0, NULL, NULL, NULL,
     "go on when the client leaves; the answer is had from /v1/requests/{id}; needs --journal"},
    {0},
};

const struct field api__common_fields[] = {
    {"model", FIELD_STR, AT(model), 0, 512, NULL, NULL, NULL, "name of a served model; may be left out"},
    {"dry_sequence_breakers", FIELD_CUSTOM, 0, 0, 0, parse_dry_breakers, NULL, "string or array of strings",
     "strings across which DRY does not look"},
    {"logit_bias", FIELD_CUSTOM, 0, 0, 0, parse_logit_bias, NULL, "object", "token id to a bias from -100 to 100"},
    {"prompt_logprobs", FIELD_U32, AT(n_prompt_top), 0, LIMIT_TOP_LOGPROBS, NULL, NULL, NULL,
     "logprobs of the prompt's tokens, with so many alternatives; not with stream"},
    {"n", FIELD_U32, AT(n), 1, LIMIT_CHOICES, NULL, NULL, NULL, "choices per prompt"},
    {"stop", FIELD_CUSTOM, 0, 0, 0, openai_parse_stop, NULL, "string or array of strings",
     "up to 16 strings that end the answer"},
    {"stop_token_ids", FIELD_CUSTOM, 0, 0, 0, parse_stop_ids, NULL, "array of integers",
     "up to 64 token ids that end the answer"},
    {"include_stop_str_in_output", FIELD_BOOL, AT(include_stop), 0, 0, NULL, NULL, NULL, "keep what ended the answer"},
    {"ignore_eos", FIELD_BOOL, AT(ignore_eos), 0, 0, NULL, NULL, NULL, "go on after the model's end of text"},
    {"skip_special_tokens", FIELD_BOOL, AT(skip_special_tokens), 0, 0, NULL, NULL, NULL,
     "leave control tokens out of the text"},
    {"truncate_prompt_tokens", FIELD_I64, AT(truncate_prompt_tokens), -1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "keep only the last so many prompt tokens; -1: what the context holds; reported in usage"},
    {"response_format", FIELD_CUSTOM, 0, 0, 0, openai_parse_response_format, NULL, "object",
     "text, json_object, json_schema or structural_tag: the answer is bound to it (STRUCTURED.md)"},
    {"structured_outputs", FIELD_CUSTOM, 0, 0, 0, openai_parse_structured, NULL, "object",
     "one of json, regex, choice, grammar, json_object, structural_tag"},
    {"guided_json", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "object or string",
     "a JSON schema that the answer obeys"},
    {"guided_regex", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "string",
     "a regular expression that the whole answer matches"},
    {"guided_choice", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "array of strings",
     "the answer is one of them"},
    {"guided_grammar", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "string", "a grammar in Lark or GBNF"},
    {"guided_decoding_backend", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string", "accepted; there is only one"},
    {"json_schema", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "object", "as guided_json"},
    {"grammar", FIELD_CUSTOM, 0, 0, 0, openai_parse_guided, NULL, "string", "a grammar in GBNF"},
    {"stream", FIELD_BOOL, AT(stream), 0, 0, NULL, NULL, NULL, "server-sent events"},
    {"stream_options", FIELD_CUSTOM, 0, 0, 0, parse_stream_options, NULL, "object",
     "include_usage; continuous_usage_stats: usage in every chunk; include_obfuscation: only false"},
    {"return_progress", FIELD_BOOL, AT(return_progress), 0, 0, NULL, NULL, NULL,
     "events while the prompt is prefilled; with stream"},
    {"return_token_ids", FIELD_BOOL, AT(return_token_ids), 0, 0, NULL, NULL, NULL, "token ids of prompt and answer"},
    {"timings", FIELD_BOOL, AT(timings), 0, 0, NULL, NULL, NULL,
     "where the time went, in `timings` of the answer or of the last chunk of a stream"},
    {"timings_per_token", FIELD_BOOL, AT(timings_per_token), 0, 0, NULL, NULL, NULL,
     "likewise, and so far in every chunk"},
    {"user", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string", "accepted; not used"},
    {"safety_identifier", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string", "accepted; not used"},
    {"prompt_cache_key", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string",
     "accepted; prefixes are found by themselves"},
    {"metadata", FIELD_HINT, 0, 0, 0, parse_metadata, NULL, "object of strings", "accepted; not stored"},
    {"service_tier", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\" \"default\"", NULL, "only one tier"},
    {"tandem_digest", FIELD_BOOL, AT(digest), 0, 0, NULL, NULL, NULL,
     "test builds: digest of each sampled row's logits"},
    {0},
};

const struct field api__chat_fields[] = {
    {"messages", FIELD_CUSTOM, 0, 0, 0, parse_messages, NULL, "array", "the conversation; required"},
    {"max_completion_tokens", FIELD_I64, AT(max_completion_tokens), 1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of the answer"},
    {"max_tokens", FIELD_I64, AT(max_tokens), 1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "the older name of max_completion_tokens, which counts where both are given"},
    {"logprobs", FIELD_BOOL, AT(logprobs), 0, 0, NULL, NULL, NULL, "logprobs of the answer's tokens"},
    {"top_logprobs", FIELD_U32, AT(n_top), 0, LIMIT_TOP_LOGPROBS, NULL, NULL, NULL,
     "alternatives per token; needs logprobs"},
    {"chat_template_kwargs", FIELD_CUSTOM, 0, 0, 0, parse_kwargs, NULL, "object", "variables of the chat template"},
    {"add_generation_prompt", FIELD_BOOL, AT(add_generation_prompt), 0, 0, NULL, NULL, NULL,
     "open the assistant's turn"},
    {"continue_final_message", FIELD_BOOL, AT(continue_final_message), 0, 0, NULL, NULL, NULL,
     "go on with the last message"},
    {"tools", FIELD_CUSTOM, 0, 0, 0, openai_parse_tools, NULL, "array", "functions that the model may call"},
    {"tool_choice", FIELD_CUSTOM, 0, 0, 0, openai_parse_tool_choice, NULL, "string or object",
     "auto, none, required, one function, or allowed_tools"},
    {"parallel_tool_calls", FIELD_BOOL, AT(parallel_tool_calls), 0, 0, NULL, NULL, NULL,
     "false: no more than one call"},
    {"mcp", FIELD_CUSTOM, 0, 0, 0, api__parse_mcp, NULL, "boolean or array of strings",
     "tools of the MCP servers that are configured here, of all or of those named, called by this server (MCP.md)"},
    {"functions", FIELD_CUSTOM, 0, 0, 0, openai_parse_functions, NULL, "array",
     "the older form of tools; answered with function_call"},
    {"function_call", FIELD_CUSTOM, 0, 0, 0, openai_parse_function_call, NULL, "string or object",
     "the older form of tool_choice"},
    {"raw_output", FIELD_BOOL, AT(raw_output), 0, 0, NULL, NULL, NULL,
     "content is what the model writes, markers and all: no tool calls, no reasoning"},
    {"reasoning_effort", FIELD_CUSTOM, 0, 0, 0, openai_parse_effort, NULL, "string",
     "none, minimal, low, medium, high or xhigh: for the chat template; none: enable_thinking false too"},
    {"enable_thinking", FIELD_CUSTOM, 0, 0, 0, openai_parse_thinking, NULL, "boolean",
     "for the chat template: whether the model reasons"},
    {"thinking_budget", FIELD_I64, AT(thinking_budget), -1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of reasoning at most; -1: no limit"},
    {"thinking_token_budget", FIELD_I64, AT(thinking_budget), -1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "the same; two of these names with different values are refused"},
    {"thinking_budget_tokens", FIELD_I64, AT(thinking_budget), -1, LIMIT_CONTEXT, NULL, NULL, NULL, "the same"},
    {"reasoning_budget_tokens", FIELD_I64, AT(thinking_budget), -1, LIMIT_CONTEXT, NULL, NULL, NULL, "the same"},
    {"include_reasoning", FIELD_BOOL, AT(include_reasoning), 0, 0, NULL, NULL, NULL,
     "the answer shows the reasoning; default true"},
    {"modalities", FIELD_DEFAULT, 0, 0, 0, NULL, "[\"text\"]", NULL, "only text"},
    {"audio", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"prediction", FIELD_CUSTOM, 0, 0, 0, parse_prediction, NULL, "object",
     "expected text of the answer (type \"content\"; content: a string or text parts); saves time where it is right"},
    {"web_search_options", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"moderation", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"prompt_cache_retention", FIELD_DEFAULT, 0, 0, 0, NULL, "\"in_memory\"", NULL,
     "prefixes stay as long as there is room"},
    {"prompt_cache_options", FIELD_DEFAULT, 0, 0, 0, NULL, "{} {\"mode\":\"implicit\"}", NULL,
     "prefixes are found by themselves"},
    {"verbosity", FIELD_DEFAULT, 0, 0, 0, NULL, "\"medium\"", NULL, "only the default"},
    {"store", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, "nothing is stored"},
    {0},
};

const struct field api__completion_fields[] = {
    {"prompt", FIELD_CUSTOM, 0, 0, 0, parse_prompt, NULL, "string, strings, token ids, or lists of those", "required"},
    {"suffix", FIELD_CUSTOM, 0, 0, 0, parse_suffix, NULL, "string",
     "text after the completion; needs fill-in-the-middle tokens"},
    {"max_tokens", FIELD_I64, AT(max_tokens), 0, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of the answer; 16 by default; 0 with echo"},
    {"logprobs", FIELD_U32, AT(n_top), 0, LIMIT_TOP_LOGPROBS, NULL, NULL, NULL, "logprobs, with so many alternatives"},
    {"echo", FIELD_BOOL, AT(echo), 0, 0, NULL, NULL, NULL, "the prompt comes first in the text"},
    {"best_of", FIELD_U32, AT(best_of), 1, LIMIT_CHOICES, NULL, NULL, NULL,
     "generate so many and give the n best; not with stream"},
    {"add_special_tokens", FIELD_BOOL, AT(add_special_tokens), 0, 0, NULL, NULL, NULL,
     "begin-of-text token, where the model has one"},
    {0},
};

const struct field api__infill_fields[] = {
    {"input_prefix", FIELD_STR, AT(infill_prefix), 0, 0, NULL, NULL, NULL, "text before the cursor"},
    {"input_suffix", FIELD_STR, AT(infill_suffix), 0, 0, NULL, NULL, NULL, "text after the cursor"},
    {"prompt", FIELD_STR, AT(infill_prompt), 0, 0, NULL, NULL, NULL, "text already typed at the cursor"},
    {"input_extra", FIELD_CUSTOM, 0, 0, 0, parse_extra, NULL, "array", "other files: filename and text"},
    {"n_predict", FIELD_I64, AT(max_tokens), -1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of the answer; -1: as many as fit"},
    {"max_tokens", FIELD_I64, AT(max_tokens), 1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "the same; both with different values are refused"},
    {"logprobs", FIELD_U32, AT(n_top), 0, LIMIT_TOP_LOGPROBS, NULL, NULL, NULL, "logprobs, with so many alternatives"},
    {0},
};
