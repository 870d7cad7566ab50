/* The response object. What a request did not say is there as what it means. */
#include "api/responses/responses.h"

#include <stdio.h>
#include <stdlib.h>

static void put_str(struct json_writer *w, const char *key, struct str value)
{
    json_key(w, key);
    if (value.ptr) {
        json_put_str(w, value);
    } else {
        json_put_null(w);
    }
}

static void put_json(struct json_writer *w, const char *key, const struct json *value, const char *fallback)
{
    json_key(w, key);
    if (value) {
        json_put_json(w, value);
    } else {
        json_put_raw(w, str_of(fallback));
    }
}

/* The shortest text that means the same float: 0.7, not 0.699999988. */
static void put_float(struct json_writer *w, const char *key, float value)
{
    char text[32];
    int digits = 6;
    do {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
    } while (strtof(text, NULL) != value && ++digits <= 9);
    json_member_raw(w, key, str_of(text));
}

static void put_limit(struct json_writer *w, const char *key, int64_t value)
{
    json_key(w, key);
    if (value > 0) {
        json_put_int(w, value);
    } else {
        json_put_null(w);
    }
}

void responses_put_error(struct json_writer *w, const struct error *err)
{
    int status = error_info(err->code)->http_status;
    json_begin_object(w);
    json_member_cstr(w, "code",
                     status == 429   ? "rate_limit_exceeded"
                     : status >= 500 ? "server_error"
                                     : "invalid_prompt");
    json_member_cstr(w, "message", err->msg);
    json_end_object(w);
}

/* Nothing is written to the cache for a price; pages enter it by themselves. */
static void put_usage(struct json_writer *w, const struct gen_usage *usage)
{
    json_begin_object(w);
    json_member_uint(w, "input_tokens", usage->prompt_tokens);
    json_key(w, "input_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "cached_tokens", usage->cached_tokens);
    json_member_uint(w, "cache_write_tokens", 0);
    json_end_object(w);
    json_member_uint(w, "output_tokens", usage->completion_tokens);
    json_key(w, "output_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "reasoning_tokens", usage->n_reasoning);
    json_end_object(w);
    json_member_uint(w, "total_tokens", usage->prompt_tokens + usage->completion_tokens);
    json_end_object(w);
}

static void put_head(struct json_writer *w, const struct responses_view *v)
{
    const struct gen_request *request = &v->call->request;
    json_member_cstr(w, "id", request->id);
    json_member_cstr(w, "object", "response");
    json_member_int(w, "created_at", request->created_s);
    json_member_cstr(w, "status", v->status);
    json_member_bool(w, "background", request->background);
    put_limit(w, "completed_at", v->completed_s);
    json_key(w, "error");
    if (v->error) {
        responses_put_error(w, v->error);
    } else {
        json_put_null(w);
    }
    json_key(w, "incomplete_details");
    if (v->incomplete) {
        json_begin_object(w);
        json_member_cstr(w, "reason", v->incomplete);
        json_end_object(w);
    } else {
        json_put_null(w);
    }
}

static void put_request(struct json_writer *w, const struct responses_view *v)
{
    const struct responses_request *r = responses_of(v->call);
    const struct gen_request *request = &v->call->request;
    put_str(w, "instructions", r->instructions);
    put_limit(w, "max_output_tokens", request->max_tokens);
    put_limit(w, "max_tool_calls", r->max_tool_calls);
    json_member_cstr(w, "model", v->model);
    json_key(w, "output");
    json_begin_array(w);
    buf_append(w->out, v->output);
    json_end_array(w);
    json_member_bool(w, "parallel_tool_calls", request->parallel_tool_calls);
    put_str(w, "previous_response_id", r->previous_id);
    put_str(w, "prompt_cache_key", r->cache_key);
    put_json(w, "reasoning", r->reasoning, "{\"effort\":null,\"summary\":null}");
    put_str(w, "safety_identifier", r->safety_identifier);
    json_member_cstr(w, "service_tier", "default");
    json_member_bool(w, "store", r->store == 1);
    put_float(w, "temperature", request->sampling.temperature);
    put_json(w, "text", r->text, "{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}");
    put_json(w, "tool_choice", r->tool_choice, "\"auto\"");
    put_json(w, "tools", r->tools, "[]");
    json_member_uint(w, "top_logprobs", request->n_top);
    put_float(w, "top_p", request->sampling.top_p);
    json_member_cstr(w, "truncation", r->truncate ? "auto" : "disabled");
}

static void put_fingerprint(struct json_writer *w, const char *key, const char *fingerprint)
{
    char text[32];
    if (fingerprint && fingerprint[0]) {
        snprintf(text, sizeof text, "fp_%s", fingerprint);
        json_member_cstr(w, key, text);
    }
}

void responses_put_object(struct json_writer *w, const struct responses_view *v)
{
    const struct responses_request *r = responses_of(v->call);
    json_begin_object(w);
    put_head(w, v);
    put_request(w, v);
    json_key(w, "usage");
    if (v->usage) {
        put_usage(w, v->usage);
    } else {
        json_put_null(w);
    }
    put_str(w, "user", r->user);
    put_json(w, "metadata", r->metadata, "{}");
    put_fingerprint(w, "system_fingerprint", v->fingerprint);
    put_fingerprint(w, "resumed_from_fingerprint", v->resumed_from);
    json_end_object(w);
}
