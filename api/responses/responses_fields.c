/* The fields of a response's request, each by itself. */
#include "api/mcp/mcp_api.h"
#include "api/openai/openai_tools.h"
#include "api/responses/responses.h"

#include "base/array.h"

#include <stdio.h>

#define AT(member)         offsetof(struct responses_request, member)
#define REQUEST_AT(member) offsetof(struct responses_request, request.member)
#define MAX_METADATA       16 /* as OpenAI documents it: pairs, bytes of a key and of a value */
#define MAX_METADATA_KEY   64
#define MAX_METADATA_VALUE 512
#define MAX_TOOL_CALLS     1000000000

static struct responses_request *request_of(struct decoding *d)
{
    return d->target;
}

static bool unsupported(struct error *err, const char *name, const char *why)
{
    return error_set_param(err, ERR_UNSUPPORTED, name, "Unsupported value for '%s': %s", name, why);
}

/* ---- input, and what it follows ---- */

static bool parse_input(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->input = v;
    if (json_type(v) == JSON_STRING) {
        return true;
    }
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "a string or an array of items", v);
    }
    return responses_check_items(v, err);
}

static bool parse_metadata(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->metadata = v;
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object of strings", v);
    }
    if (json_len(v) > MAX_METADATA) {
        return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': at most %d pairs, but got %zu.", name,
                               MAX_METADATA, json_len(v));
    }
    for (struct json_iter it = json_members(v); json_next(&it);) {
        if (json_type(it.value) != JSON_STRING) {
            return field_type_error(err, name, "an object of strings", it.value);
        }
        if (it.key.len > MAX_METADATA_KEY || json_str(it.value).len > MAX_METADATA_VALUE) {
            return error_set_param(err, ERR_INVALID, name,
                                   "Invalid value for '%s': keys of at most %d bytes and values of at most %d.", name,
                                   MAX_METADATA_KEY, MAX_METADATA_VALUE);
        }
    }
    return true;
}

/* What asks for more of something that never occurs here (results of built-in tools) asks for nothing. Reasoning comes
 * as text, which may be sent back; so nothing needs to be hidden in encrypted_content. */
static bool parse_include(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const char *const idle[] = {"reasoning.encrypted_content",   "file_search_call.results",
                                       "web_search_call.results",       "web_search_call.action.sources",
                                       "message.input_image.image_url", "computer_call_output.output.image_url",
                                       "code_interpreter_call.outputs"};
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of strings", v);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        struct str item = json_str(json_at(v, i));
        bool known = str_eq(item, STR("message.output_text.logprobs"));
        request_of(d)->with_logprobs |= known;
        for (size_t k = 0; k < ARRAY_LEN(idle); k++) {
            known = known || str_eq(item, str_of(idle[k]));
        }
        if (!known) {
            return error_set_param(err, ERR_INVALID, name, "Invalid value in '%s': '" STR_FMT "' is not known.", name,
                                   STR_ARG(str_slice(item, 0, 60)));
        }
    }
    return true;
}

/* ---- tools ---- */

struct tool { /* a function as the Responses API describes it */
    struct str type, name, description;
    const struct json *parameters;
    bool strict;
};

static bool parse_parameters(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct tool *t = d->target;
    t->parameters = v;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "a JSON Schema", v);
}

static const struct field tool_fields[] = {
    {"type", FIELD_STR, offsetof(struct tool, type), 0, 0, NULL, NULL, NULL, NULL},
    {"name", FIELD_STR, offsetof(struct tool, name), 0, LIMIT_TOOL_NAME, NULL, NULL, NULL, NULL},
    {"description", FIELD_STR, offsetof(struct tool, description), 0, 0, NULL, NULL, NULL, NULL},
    {"parameters", FIELD_CUSTOM, 0, 0, 0, parse_parameters, NULL, NULL, NULL},
    {"strict", FIELD_BOOL, offsetof(struct tool, strict), 0, 0, NULL, NULL, NULL, NULL},
    {"async", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
    {"defer_loading", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
    {"allowed_callers", FIELD_DEFAULT, 0, 0, 0, NULL, "[\"direct\"]", NULL, NULL},
    {"output_schema", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {0},
};

static bool read_tool(struct decoding *d, const struct json *v, size_t i, struct json_writer *w, struct error *err)
{
    char where[64];
    struct tool t = {0};
    struct decoding members = *d;
    snprintf(where, sizeof where, "tools[%zu]", i);
    members.target = &t;
    struct str type = json_str(json_get(v, "type"));
    if (responses_is_mcp(v)) {
        return responses_take_mcp(d, v, where, err);
    }
    if (type.len && !str_eq(type, STR("function"))) {
        return error_set_param(err, ERR_UNSUPPORTED, where,
                               "Unsupported value for '%s.type': this server runs no tool '" STR_FMT
                               "'; only 'function' tools, which the client runs, and 'mcp' are supported.",
                               where, STR_ARG(str_slice(type, 0, 40)));
    }
    if (!fields_decode_members(&members, v, where, tool_fields, err)) {
        return false;
    }
    if (!t.type.len || !t.name.len) {
        snprintf(where, sizeof where, "tools[%zu].%s", i, t.type.len ? "name" : "type");
        return field_missing_error(err, where);
    }
    snprintf(where, sizeof where, "tools[%zu].name", i);
    if (!request_check_name(json_get(v, "name"), where, err)) { /* by its place here, not that of chat completions */
        return false;
    }
    openai_put_tool(w, &(struct openai_tool){t.name, t.description, t.parameters, t.strict});
    return true;
}

static bool parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct responses_request *r = request_of(d);
    struct buf out;
    bool ok = true;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of tools", v);
    }
    if (json_len(v) > LIMIT_TOOLS) {
        return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': at most %d tools, but got %zu.", name,
                               LIMIT_TOOLS, json_len(v));
    }
    r->tools = v;
    buf_init(&out, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&out);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(v); i++) {
        ok = read_tool(d, json_at(v, i), i, &w, err);
    }
    json_end_array(&w);
    if (ok && json_len(v)) {
        const struct json *tools =
            buf_ok(&out, "the tools", err) ? responses_keep_json(d->arena, buf_view(&out), err) : NULL;
        ok = tools && (openai_parse_tools(d, tools, name, err) || responses_bare_param(err));
    }
    buf_release(&out);
    return ok;
}

/* "none", "auto", "required"; false: another word. */
static bool choice_word(struct responses_request *r, struct str word)
{
    static const struct {
        const char *name;
        enum gen_tool_choice choice;
    } words[] = {{"auto", GEN_TOOLS_AUTO}, {"none", GEN_TOOLS_NONE}, {"required", GEN_TOOLS_REQUIRED}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_eq(word, str_of(words[i].name))) {
            r->request.tool_choice = words[i].choice;
            return true;
        }
    }
    return false;
}

static bool choose_function(struct responses_request *r, const struct json *v, const char *name, struct error *err)
{
    const struct json *function = json_get(v, "name");
    if (json_type(function) != JSON_STRING || json_str(function).len == 0) {
        return field_missing_error(err, "tool_choice.name");
    }
    (void)name;
    r->request.tool_choice = GEN_TOOLS_NAMED;
    r->request.tool_name = json_str(function);
    return true;
}

/* The tools that may be called are the tools: those of the list by name, once all fields are known. */
static bool choose_allowed(struct responses_request *r, const struct json *v, const char *name, struct error *err)
{
    struct str mode = json_str(json_get(v, "mode"));
    if (!choice_word(r, mode) || r->request.tool_choice == GEN_TOOLS_NONE) {
        return error_set_param(err, ERR_INVALID, "tool_choice.mode",
                               "Invalid value for 'tool_choice.mode': expected \"auto\" or \"required\".");
    }
    if (json_type(json_get(v, "tools")) != JSON_ARRAY) {
        return field_missing_error(err, "tool_choice.tools");
    }
    (void)name;
    r->request.only_allowed = true;
    return true;
}

static bool parse_tool_choice(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct responses_request *r = request_of(d);
    struct str type = json_str(json_get(v, "type"));
    r->tool_choice = v;
    if (json_type(v) == JSON_STRING) {
        return choice_word(r, json_str(v)) ||
               error_set_param(err, ERR_INVALID, name,
                               "Invalid value for '%s': expected \"none\", \"auto\" or \"required\".", name);
    }
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "a string or an object", v);
    }
    if (str_eq(type, STR("function"))) {
        return choose_function(r, v, name, err);
    }
    if (str_eq(type, STR("allowed_tools"))) {
        return choose_allowed(r, v, name, err);
    }
    return unsupported(err, name, "only functions can be chosen.");
}

/* ---- text, reasoning ---- */

static bool parse_format(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_answer_format *format = &request_of(d)->request.format;
    struct str type = json_str(json_get(v, "type"));
    *format = (struct gen_answer_format){.field = "text.format"};
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    if (str_eq(type, STR("text"))) {
        return true;
    }
    if (str_eq(type, STR("json_object"))) {
        format->kind = GEN_FORMAT_JSON;
        return true;
    }
    if (!str_eq(type, STR("json_schema"))) {
        return error_set_param(err, ERR_INVALID, name,
                               "Invalid value for '%s.type': expected \"text\", \"json_object\" or \"json_schema\".",
                               name);
    }
    format->kind = GEN_FORMAT_SCHEMA;
    return openai_take_json_schema(format, v, name, err);
}

static bool parse_text(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"format", FIELD_CUSTOM, 0, 0, 0, parse_format, NULL, NULL, NULL},
        {"verbosity", FIELD_DEFAULT, 0, 0, 0, NULL, "\"medium\"", NULL, NULL},
        {0},
    };
    request_of(d)->text = v;
    return fields_decode_members(d, v, name, members, err);
}

static bool parse_reasoning(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"effort", FIELD_CUSTOM, 0, 0, 0, openai_parse_effort, NULL, NULL, NULL},
        {"summary", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\"", NULL, NULL}, /* what there is, and there is none */
        {"generate_summary", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\"", NULL, NULL},
        {"context", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\"", NULL, NULL},
        {"mode", FIELD_DEFAULT, 0, 0, 0, NULL, "\"standard\"", NULL, NULL},
        {0},
    };
    request_of(d)->reasoning = v;
    return fields_decode_members(d, v, name, members, err);
}

/* ---- keeping, delivery ---- */

static bool parse_store(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_BOOL) {
        return field_type_error(err, name, "a boolean", v);
    }
    request_of(d)->store = json_bool(v);
    return true;
}

static bool parse_truncation(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->truncate = str_eq(json_str(v), STR("auto"));
    return request_of(d)->truncate || str_eq(json_str(v), STR("disabled")) ||
           error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': expected \"auto\" or \"disabled\".", name);
}

static bool parse_stream_options(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"include_obfuscation", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
        {0},
    };
    request_of(d)->request.has_stream_options = true;
    return fields_decode_members(d, v, name, members, err);
}

/* ---- the table ---- */

#define REFUSED(name, accepts, help)                            \
    {                                                           \
        name, FIELD_DEFAULT, 0, 0, 0, NULL, accepts, NULL, help \
    }

const struct field api__responses_fields[] = {
    {"input", FIELD_CUSTOM, 0, 0, 0, parse_input, NULL, "string or array of items",
     "messages (input_text, output_text), function_call, function_call_output, mcp_call, mcp_list_tools, reasoning, "
     "item_reference; required "
     "unless previous_response_id is given"},
    {"instructions", FIELD_STR, AT(instructions), 0, 0, NULL, NULL, NULL,
     "a system message before everything; not carried over by previous_response_id"},
    {"previous_response_id", FIELD_STR, AT(previous_id), 0, 64, NULL, NULL, NULL,
     "a stored response of the same key: its input and output come before this input"},
    {"max_output_tokens", FIELD_I64, REQUEST_AT(max_tokens), 1, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of the answer, reasoning included"},
    {"top_logprobs", FIELD_U32, REQUEST_AT(n_top), 0, LIMIT_TOP_LOGPROBS, NULL, NULL, NULL,
     "alternatives per token; needs message.output_text.logprobs in include"},
    {"include", FIELD_CUSTOM, 0, 0, 0, parse_include, NULL, "array of strings",
     "message.output_text.logprobs; the others are accepted and have nothing to include (reasoning comes as text)"},
    {"tools", FIELD_CUSTOM, 0, 0, 0, parse_tools, NULL, "array",
     "function tools, strict binds calls to the schema; mcp: server_label, allowed_tools, require_approval never"},
    {"tool_choice", FIELD_CUSTOM, 0, 0, 0, parse_tool_choice, NULL, "string or object",
     "auto, none, required, a function, or allowed_tools"},
    {"parallel_tool_calls", FIELD_BOOL, REQUEST_AT(parallel_tool_calls), 0, 0, NULL, NULL, NULL,
     "false: at most one call"},
    {"max_tool_calls", FIELD_I64, AT(max_tool_calls), 1, MAX_TOOL_CALLS, NULL, NULL, NULL,
     "calls of MCP tools at most; others get an error as their result"},
    {"mcp", FIELD_CUSTOM, 0, 0, 0, api__parse_mcp, NULL, "boolean or array of strings",
     "tools of the MCP servers that are configured here, of all or of those named (MCP.md)"},
    {"text", FIELD_CUSTOM, 0, 0, 0, parse_text, NULL, "object",
     "format: text, json_object or json_schema; verbosity: only medium"},
    {"reasoning", FIELD_CUSTOM, 0, 0, 0, parse_reasoning, NULL, "object",
     "effort: none, minimal, low, medium, high, xhigh, for the chat template; summary: only auto, since no summaries "
     "are made"},
    {"truncation", FIELD_CUSTOM, 0, 0, 0, parse_truncation, NULL, "string",
     "disabled: a 400 when the input is too long; auto: the oldest items are dropped, never instructions, system "
     "messages or what follows the last user message"},
    {"store", FIELD_CUSTOM, 0, 0, 0, parse_store, NULL, "boolean",
     "keep the response for GET, previous_response_id and a restart; default true with --journal, else false"},
    {"background", FIELD_BOOL, REQUEST_AT(background), 0, 0, NULL, NULL, NULL,
     "answer with status queued at once; needs --journal (RELIABILITY.md)"},
    {"metadata", FIELD_CUSTOM, 0, 0, 0, parse_metadata, NULL, "object of strings", "up to 16 pairs; come back with it"},
    {"stream_options", FIELD_CUSTOM, 0, 0, 0, parse_stream_options, NULL, "object", "include_obfuscation: only false"},
    {"user", FIELD_STR, AT(user), 0, 0, NULL, NULL, NULL, "comes back with it; not used"},
    {"safety_identifier", FIELD_STR, AT(safety_identifier), 0, 0, NULL, NULL, NULL, "comes back with it; not used"},
    {"prompt_cache_key", FIELD_STR, AT(cache_key), 0, 0, NULL, NULL, NULL,
     "comes back with it; prefixes are found by themselves"},
    REFUSED("prompt_cache_retention", "\"in_memory\"", "prefixes stay as long as there is room"),
    REFUSED("prompt_cache_options", "{} {\"mode\":\"implicit\"}", "prefixes are found by themselves"),
    REFUSED("prompt", "", "no prompt templates"),
    REFUSED("conversation", "", "no conversations; use previous_response_id"),
    REFUSED("context_management", "[]", "not supported"),
    REFUSED("background_options", "{}", "not supported"),
    REFUSED("moderation", "", "not supported"),
    REFUSED("access_programs", "{}", "not supported"),
    REFUSED("image", "{}", "not supported"),
    REFUSED("n", "1", "one answer"),
    REFUSED("prompt_logprobs", "", "not available here"),
    REFUSED("truncate_prompt_tokens", "", "use truncation"),
    REFUSED("return_progress", "false", "not available here"),
    REFUSED("return_token_ids", "false", "not available here"),
    REFUSED("stream_interval_tokens", "1", "each token is an event"),
    REFUSED("timings", "false", "not available here"),
    REFUSED("timings_per_token", "false", "not available here"),
    REFUSED("tandem_digest", "false", "not available here"),
    {0},
};
