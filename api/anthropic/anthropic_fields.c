/* The fields of Anthropic's Messages API, each by itself. What the house adds has its names of the other routes. */
#include "api/anthropic/anthropic.h"

#include "api/mcp/mcp_api.h"
#include "api/openai/openai_tools.h"
#include "base/array.h"

#include <stdio.h>

#define AT(member) offsetof(struct gen_request, member)

static struct messages_request *request_of(struct decoding *d)
{
    return d->target;
}

/* ---- values that are looked at later, when all fields are known ---- */

static bool parse_messages(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->messages = v;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of messages", v);
}

static bool parse_system(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->system = v;
    return json_type(v) == JSON_STRING || json_type(v) == JSON_ARRAY ||
           field_type_error(err, name, "a string or an array of text blocks", v);
}

static bool parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->tools = v;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of tools", v);
}

static bool parse_mcp_servers(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->mcp_servers = v;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of servers", v);
}

/* ---- small ones ---- */

bool anthropic__check_cache_control(struct messages_request *m, const struct json *v, const char *where,
                                    struct error *err)
{
    struct str type = json_str(json_get(v, "type")), ttl = json_str(json_get(v, "ttl"));
    bool known_ttl = json_is_null(json_get(v, "ttl")) || str_eq(ttl, STR("5m")) || str_eq(ttl, STR("1h"));
    if (json_is_null(v)) {
        return true;
    }
    m->marks_cache = true;
    return (json_type(v) == JSON_OBJECT && str_eq(type, STR("ephemeral")) && known_ttl) ||
           error_set_param(
               err, ERR_INVALID, where,
               "%s: an object with 'type': 'ephemeral' and, if at all, a 'ttl' of '5m' or '1h' is expected.", where);
}

static bool parse_cache_control(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    return anthropic__check_cache_control(request_of(d), v, name, err);
}

static bool expect_object(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

static bool parse_metadata(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    const struct json *id = json_get(v, "user_id");
    if (!expect_object(d, v, name, err)) {
        return false;
    }
    return json_is_null(id) || json_type(id) == JSON_STRING ||
           field_type_error(err, "metadata.user_id", "a string", id);
}

static bool parse_betas(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    bool strings = json_type(v) == JSON_ARRAY;
    for (size_t i = 0; strings && i < json_len(v); i++) {
        strings = json_type(json_at(v, i)) == JSON_STRING;
    }
    return strings || field_type_error(err, name, "an array of strings", v);
}

static bool expect_string(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    return json_type(v) == JSON_STRING || field_type_error(err, name, "a string", v);
}

static bool parse_stops(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    return json_type(v) == JSON_ARRAY ? openai_parse_stop(d, v, name, err)
                                      : field_type_error(err, name, "an array of strings", v);
}

/* ---- thinking ---- */

struct thinking {
    struct str type, display;
    int64_t budget_tokens;
};

static bool unsupported(struct error *err, const char *name, struct str value, const char *supported)
{
    return error_set_param(err, ERR_UNSUPPORTED, name,
                           "Unsupported value for '%s': '" STR_FMT "'; this server supports %s.", name,
                           STR_ARG(str_slice(value, 0, 60)), supported);
}

static bool apply_thinking(struct messages_request *m, const struct thinking *t, struct error *err)
{
    bool enabled = str_eq(t->type, STR("enabled")), adaptive = str_eq(t->type, STR("adaptive"));
    if (!enabled && !adaptive && !str_eq(t->type, STR("disabled"))) {
        return unsupported(err, "thinking.type", t->type, "'enabled', 'adaptive' and 'disabled'");
    }
    if (enabled && t->budget_tokens < 0) {
        return field_missing_error(err, "thinking.budget_tokens");
    }
    if (!enabled && t->budget_tokens >= 0) {
        return error_set_param(err, ERR_INVALID, "thinking.budget_tokens",
                               "thinking.budget_tokens is only allowed with the type 'enabled'.");
    }
    if (t->display.len && !str_eq(t->display, STR("summarized")) && !str_eq(t->display, STR("omitted"))) {
        return unsupported(err, "thinking.display", t->display, "'summarized' and 'omitted'");
    }
    m->request.thinking = enabled || adaptive;
    m->request.thinking_budget = t->budget_tokens;
    m->omit_thinking = str_eq(t->display, STR("omitted"));
    return true;
}

static bool parse_thinking(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"type", FIELD_STR, offsetof(struct thinking, type), 0, 0, NULL, NULL, NULL, NULL},
        {"budget_tokens", FIELD_I64, offsetof(struct thinking, budget_tokens), 1, LIMIT_CONTEXT, NULL, NULL, NULL,
         NULL},
        {"display", FIELD_STR, offsetof(struct thinking, display), 0, 0, NULL, NULL, NULL, NULL},
        {"block_binding", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
        {0},
    };
    struct thinking t = {.budget_tokens = -1};
    struct decoding inner = *d;
    inner.target = &t;
    return fields_decode_members(&inner, v, name, members, err) && apply_thinking(request_of(d), &t, err);
}

/* ---- tool_choice ---- */

struct tool_choice {
    struct str type, name;
    bool one_at_a_time;
};

static const struct {
    const char *type;
    enum gen_tool_choice choice;
} tool_choices[] = {
    {"auto", GEN_TOOLS_AUTO}, {"any", GEN_TOOLS_REQUIRED}, {"tool", GEN_TOOLS_NAMED}, {"none", GEN_TOOLS_NONE}};

static bool parse_tool_choice(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"type", FIELD_STR, offsetof(struct tool_choice, type), 0, 0, NULL, NULL, NULL, NULL},
        {"name", FIELD_STR, offsetof(struct tool_choice, name), 0, LIMIT_TOOL_NAME, NULL, NULL, NULL, NULL},
        {"disable_parallel_tool_use", FIELD_BOOL, offsetof(struct tool_choice, one_at_a_time), 0, 0, NULL, NULL, NULL,
         NULL},
        {0},
    };
    struct gen_request *r = &request_of(d)->request;
    struct tool_choice t = {0};
    struct decoding inner = *d;
    inner.target = &t;
    if (!fields_decode_members(&inner, v, name, members, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(tool_choices); i++) {
        if (str_eq(t.type, str_of(tool_choices[i].type))) {
            r->tool_choice = tool_choices[i].choice;
            r->tool_name = t.name;
            r->parallel_tool_calls = !t.one_at_a_time;
            return r->tool_choice != GEN_TOOLS_NAMED || t.name.len || field_missing_error(err, "tool_choice.name");
        }
    }
    return error_set_param(err, ERR_INVALID, "tool_choice.type",
                           "tool_choice.type: 'auto', 'any', 'tool' or 'none' is expected, but got '" STR_FMT "'.",
                           STR_ARG(str_slice(t.type, 0, 60)));
}

/* ---- output_config ---- */

/* Efforts above "high" are those of Anthropic's models; templates know none above it. */
static const struct {
    const char *effort, *reasoning_effort;
} efforts[] = {{"low", "low"}, {"medium", "medium"}, {"high", "high"}, {"xhigh", "high"}, {"max", "high"}};

static bool parse_effort(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct str effort = json_str(v);
    for (size_t i = 0; json_type(v) == JSON_STRING && i < ARRAY_LEN(efforts); i++) {
        if (str_eq(effort, str_of(efforts[i].effort))) {
            request_of(d)->request.reasoning_effort = str_of(efforts[i].reasoning_effort);
            return true;
        }
    }
    return field_type_error(err, name, "\"low\", \"medium\", \"high\", \"xhigh\" or \"max\"", v);
}

static bool parse_format(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_answer_format *format = &request_of(d)->request.format;
    struct str type = json_str(json_get(v, "type"));
    const struct json *schema = json_get(v, "schema");
    if (!str_eq(type, STR("json_schema"))) {
        return json_type(v) == JSON_OBJECT ? unsupported(err, name, type, "the type 'json_schema'")
                                           : field_type_error(err, name, "an object", v);
    }
    if (json_type(schema) != JSON_OBJECT) {
        return field_type_error(err, name, "a 'schema' that is an object", schema);
    }
    *format = (struct gen_answer_format){
        .kind = GEN_FORMAT_SCHEMA, .schema = schema, .strict = true, .field = "output_config"};
    return request_check_schema(schema, name, err);
}

static bool parse_output_config(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"effort", FIELD_CUSTOM, 0, 0, 0, parse_effort, NULL, NULL, NULL},
        {"format", FIELD_CUSTOM, 0, 0, 0, parse_format, NULL, NULL, NULL},
        {"task_budget", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
        {0},
    };
    return fields_decode_members(d, v, name, members, err);
}

/* ---- context_management: of its edits, the one that leaves out the thinking of earlier turns ---- */

static bool parse_keep(struct messages_request *m, const struct json *keep, const char *where, struct error *err)
{
    struct str type = json_type(keep) == JSON_STRING ? json_str(keep) : json_str(json_get(keep, "type"));
    const struct json *value = json_get(keep, "value");
    m->keep_thinking = 1; /* as documented */
    if (json_is_null(keep)) {
        return true;
    }
    if (str_eq(type, STR("all"))) {
        m->keep_thinking = -1;
        return true;
    }
    if (str_eq(type, STR("thinking_turns")) && json_type(value) == JSON_INT && json_int(value) >= 1) {
        m->keep_thinking = json_int(value);
        return true;
    }
    return error_set_param(err, ERR_INVALID, where,
                           "%s: 'keep' has to be \"all\" or {\"type\": \"thinking_turns\", \"value\": 1 or more}.",
                           where);
}

static bool parse_edits(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", v);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        const struct json *edit = json_at(v, i);
        struct str type = json_str(json_get(edit, "type"));
        char where[64];
        snprintf(where, sizeof where, "%s[%zu]", name, i);
        if (!str_eq(type, STR("clear_thinking_20251015"))) {
            return unsupported(err, where, type, "the type 'clear_thinking_20251015'");
        }
        if (!parse_keep(request_of(d), json_get(edit, "keep"), where, err)) {
            return false;
        }
    }
    return true;
}

static bool parse_context_management(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"edits", FIELD_CUSTOM, 0, 0, 0, parse_edits, NULL, NULL, NULL},
        {0},
    };
    request_of(d)->has_edits = true;
    return fields_decode_members(d, v, name, members, err);
}

/* ---- diagnostics: what earlier requests looked like is not kept, and the answer says so ---- */

static bool parse_diagnostics(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    const struct json *id = json_get(v, "previous_message_id");
    request_of(d)->asks_diagnostics = json_type(id) == JSON_STRING;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

/* ---- the tables ---- */

/* Of a prompt: what count_tokens has too. */
const struct field api__count_fields[] = {
    {"model", FIELD_STR, AT(model), 0, 512, NULL, NULL, NULL,
     "name of a served model, or one that a pattern of --served-model-name fits; may be left out"},
    {"messages", FIELD_CUSTOM, 0, 0, 0, parse_messages, NULL, "array",
     "the conversation: user, assistant, system; strings or blocks of the types text, thinking, "
     "redacted_thinking, tool_use, tool_result, mcp_tool_use, mcp_tool_result; an assistant's last message is gone on "
     "with; required"},
    {"system", FIELD_CUSTOM, 0, 0, 0, parse_system, NULL, "string or array of text blocks",
     "the system prompt; lines that change with each request are left out (--drop-volatile-lines)"},
    {"tools", FIELD_CUSTOM, 0, 0, 0, parse_tools, NULL, "array",
     "custom tools: name, description, input_schema, strict; mcp_toolset: mcp_server_name, default_config, configs"},
    {"tool_choice", FIELD_CUSTOM, 0, 0, 0, parse_tool_choice, NULL, "object",
     "type auto, any, tool (with name) or none; disable_parallel_tool_use"},
    {"thinking", FIELD_CUSTOM, 0, 0, 0, parse_thinking, NULL, "object",
     "type enabled (with budget_tokens), adaptive or disabled; display summarized or omitted; without it, what "
     "the template does"},
    {"output_config", FIELD_CUSTOM, 0, 0, 0, parse_output_config, NULL, "object",
     "effort (low, medium, high; xhigh and max count as high); format: a json_schema"},
    {"output_format", FIELD_CUSTOM, 0, 0, 0, parse_format, NULL, "object", "the older place of that format"},
    {"cache_control", FIELD_CUSTOM, 0, 0, 0, parse_cache_control, NULL, "object",
     "accepted here and in blocks and tools; prefixes are cached anyway, and with it usage says how many tokens "
     "were"},
    {"context_management", FIELD_CUSTOM, 0, 0, 0, parse_context_management, NULL, "object",
     "edits of the type clear_thinking_20251015"},
    {"mcp_servers", FIELD_CUSTOM, 0, 0, 0, parse_mcp_servers, NULL, "array",
     "MCP servers that are configured here, by name, called by this server; each with a mcp_toolset in tools (MCP.md)"},
    {"mcp", FIELD_CUSTOM, 0, 0, 0, api__parse_mcp, NULL, "boolean or array of strings",
     "the same, of all such servers or of those named"},
    {"compaction", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"speed", FIELD_DEFAULT, 0, 0, 0, NULL, "\"standard\"", NULL, "only one"},
    {"billing_policy", FIELD_HINT, 0, 0, 0, expect_object, NULL, "object", "accepted; nothing is billed"},
    {"user_profile_id", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string", "accepted; not used"},
    {"workspace_id", FIELD_HINT, 0, 0, 0, expect_string, NULL, "string", "accepted; not used"},
    {"betas", FIELD_HINT, 0, 0, 0, parse_betas, NULL, "array of strings", "accepted, as is anthropic-beta; not used"},
    {0},
};

/* Of what is generated from it. */
const struct field api__messages_fields[] = {
    {"max_tokens", FIELD_I64, AT(max_tokens), 0, LIMIT_CONTEXT, NULL, NULL, NULL,
     "tokens of the answer at most; required; 0: the prompt goes into the cache, the answer is empty"},
    {"stop_sequences", FIELD_CUSTOM, 0, 0, 0, parse_stops, NULL, "array of strings",
     "up to 16 strings that end the answer"},
    {"stream", FIELD_BOOL, AT(stream), 0, 0, NULL, NULL, NULL, "server-sent events"},
    {"metadata", FIELD_HINT, 0, 0, 0, parse_metadata, NULL, "object", "user_id: accepted; not stored"},
    {"service_tier", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\" \"standard_only\"", NULL, "only one tier"},
    {"container", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"inference_geo", FIELD_DEFAULT, 0, 0, 0, NULL, "\"global\"", NULL, "not supported"},
    {"diagnostics", FIELD_CUSTOM, 0, 0, 0, parse_diagnostics, NULL, "object",
     "previous_message_id; the answer says that nothing is known of it"},
    {"fallbacks", FIELD_DEFAULT, 0, 0, 0, NULL, "[] \"default\"", NULL, "not supported"},
    {"fallback_credit_token", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported"},
    {"thread", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, "not supported, in a way on which clients send all messages"},
    {0},
};
