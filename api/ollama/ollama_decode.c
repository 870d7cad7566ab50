/* Bodies of /api/chat and /api/generate. */
#include "api/ollama/ollama.h"

#include "api/openai/openai_tools.h"
#include "base/array.h"
#include "base/duration.h"
#include "base/rng.h"

#include <stdio.h>

#define AT(member)          offsetof(struct ollama_request, member)
#define REQUEST_AT(member)  offsetof(struct ollama_request, request.member)
#define SAMPLING_AT(member) offsetof(struct ollama_request, request.sampling.member)

static struct ollama_request *request_of(struct decoding *d)
{
    return d->target;
}

static bool unsupported(struct error *err, const char *name, const char *why)
{
    return error_set_param(err, ERR_UNSUPPORTED, name, "Unsupported value for '%s': %s", name, why);
}

/* ---- options ---- */

static bool parse_seed(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->request.seed = (uint64_t)json_int(v);
    request_of(d)->request.has_seed = true;
    return json_type(v) == JSON_INT || field_type_error(err, name, "an integer", v);
}

static bool parse_stop(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = &request_of(d)->request;
    size_t n = json_type(v) == JSON_STRING ? 1 : json_len(v);
    if (json_type(v) != JSON_STRING && json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of strings", v);
    }
    struct str *stops = arena_alloc_array(d->arena, n + 1, sizeof *stops);
    if (n > LIMIT_STOPS || !stops) {
        return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': at most %d strings, but got %zu.", name,
                               LIMIT_STOPS, n);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *item = json_type(v) == JSON_STRING ? v : json_at(v, i);
        stops[i] = json_str(item);
        if (json_type(item) != JSON_STRING || stops[i].len == 0 || stops[i].len > LIMIT_STOP_SIZE) {
            return error_set_param(err, ERR_INVALID, name,
                                   "Invalid value for '%s': strings of 1 to %d bytes are expected.", name,
                                   LIMIT_STOP_SIZE);
        }
    }
    r->stops = stops;
    r->n_stops = n;
    return true;
}

#define NUMBER(name, member, low, high)                                           \
    {                                                                             \
        name, FIELD_FLOAT, SAMPLING_AT(member), low, high, NULL, NULL, NULL, NULL \
    }
#define ONLY(name, accepts)                                     \
    {                                                           \
        name, FIELD_DEFAULT, 0, 0, 0, NULL, accepts, NULL, NULL \
    }
#define IDLE(name)                                        \
    {                                                     \
        name, FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL \
    }

/* How a model is loaded was said when the server was started, and changes no answer: such options are taken as read. */
static const struct field option_fields[] = {
    {"num_predict", FIELD_I64, AT(num_predict), -2, LIMIT_CONTEXT, NULL, NULL, NULL, NULL},
    {"num_ctx", FIELD_I64, AT(num_ctx), 1, LIMIT_CONTEXT, NULL, NULL, NULL, NULL},
    NUMBER("temperature", temperature, 0, 100),
    {"top_k", FIELD_I32, SAMPLING_AT(top_k), -1, 1048576, NULL, NULL, NULL, NULL},
    NUMBER("top_p", top_p, 0, 1),
    NUMBER("min_p", min_p, 0, 1),
    NUMBER("typical_p", typical_p, 0, 1),
    NUMBER("repeat_penalty", repetition_penalty, 0.01, 10),
    {"repeat_last_n", FIELD_I64, AT(repeat_last_n), -1, LIMIT_CONTEXT, NULL, NULL, NULL, NULL},
    NUMBER("presence_penalty", presence_penalty, -2, 2),
    NUMBER("frequency_penalty", frequency_penalty, -2, 2),
    {"seed", FIELD_CUSTOM, 0, 0, 0, parse_seed, NULL, NULL, NULL},
    {"stop", FIELD_CUSTOM, 0, 0, 0, parse_stop, NULL, NULL, NULL},
    ONLY("mirostat", "0"),
    IDLE("mirostat_tau"),
    IDLE("mirostat_eta"),
    ONLY("tfs_z", "1 1.0"),
    ONLY("penalize_newline", "true"),
    IDLE("num_keep"), /* the context is never shifted */
    IDLE("numa"),
    IDLE("num_batch"),
    IDLE("num_gpu"),
    IDLE("main_gpu"),
    IDLE("num_thread"),
    IDLE("low_vram"),
    IDLE("use_mmap"),
    IDLE("use_mlock"),
    IDLE("f16_kv"),
    ONLY("logits_all", "false"),
    ONLY("vocab_only", "false"),
    ONLY("embedding_only", "false"),
    {0},
};

static bool parse_options(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    return fields_decode_members(d, v, name, option_fields, err);
}

/* ---- fields ---- */

static bool parse_format(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_answer_format *format = &request_of(d)->request.format;
    *format = (struct gen_answer_format){.field = "format"};
    if (json_type(v) == JSON_OBJECT) {
        format->kind = GEN_FORMAT_SCHEMA;
        format->schema = v;
        return true;
    }
    if (str_eq(json_str(v), STR("json"))) {
        format->kind = GEN_FORMAT_JSON;
        return true;
    }
    return (json_type(v) == JSON_STRING && json_str(v).len == 0) ||
           error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': expected \"json\" or a JSON Schema.", name);
}

static bool parse_think(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct ollama_request *r = request_of(d);
    struct str word = json_str(v);
    if (json_type(v) == JSON_BOOL) {
        r->request.thinking = json_bool(v);
        r->needs_thinking = json_bool(v);
        return true;
    }
    r->needs_thinking = true;
    r->request.reasoning_effort = word;
    return str_eq(word, STR("low")) || str_eq(word, STR("medium")) || str_eq(word, STR("high")) ||
           error_set_param(err, ERR_INVALID, name,
                           "Invalid value for '%s': expected a boolean, \"low\", \"medium\" or \"high\".", name);
}

static bool parse_keep_alive(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct ollama_request *r = request_of(d);
    bool number = json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE;
    if (!number && json_type(v) != JSON_STRING) {
        return field_type_error(err, name, "a number of seconds or a duration", v);
    }
    r->has_keep_alive = true;
    return duration_parse(number ? json_number_text(v) : json_str(v), &r->keep_alive_ms) ||
           error_set_param(err, ERR_INVALID, name,
                           "Invalid value for '%s': expected a number of seconds or a duration such as \"5m\".", name);
}

static bool parse_images(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", v);
    }
    return json_len(v) == 0 || unsupported(err, name, "this model reads text only.");
}

static bool parse_context(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", v);
    }
    return json_len(v) == 0 || unsupported(err, name, "send the conversation to /api/chat instead.");
}

static bool parse_messages(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->messages = v;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of messages", v);
}

#define SHARED_FIELDS                                                                                              \
    {                                                                                                              \
        "model", FIELD_STR, REQUEST_AT(model),                                                                     \
        0,       512,       NULL,                                                                                  \
        NULL,    NULL,      "name of a served model; \":latest\" may follow"},                                     \
        {"stream", FIELD_BOOL, REQUEST_AT(stream), 0, 0, NULL, NULL, NULL, "lines of JSON; default true"},         \
        {"options",                                                                                                \
         FIELD_CUSTOM,                                                                                             \
         0,                                                                                                        \
         0,                                                                                                        \
         0,                                                                                                        \
         parse_options,                                                                                            \
         NULL,                                                                                                     \
         "object",                                                                                                 \
         "num_predict, num_ctx (not larger than the context), temperature, top_k, top_p, min_p, typical_p, "       \
         "repeat_penalty, presence_penalty, frequency_penalty, seed, stop; what is about loading is accepted"},    \
        {"format",                                                                                                 \
         FIELD_CUSTOM,                                                                                             \
         0,                                                                                                        \
         0,                                                                                                        \
         0,                                                                                                        \
         parse_format,                                                                                             \
         NULL,                                                                                                     \
         "string or object",                                                                                       \
         "\"json\", or a JSON Schema that the answer must obey"},                                                  \
        {"think",                                                                                                  \
         FIELD_CUSTOM,                                                                                             \
         0,                                                                                                        \
         0,                                                                                                        \
         0,                                                                                                        \
         parse_think,                                                                                              \
         NULL,                                                                                                     \
         "boolean or string",                                                                                      \
         "reason, or not; low, medium, high: how much, for templates that know it"},                               \
        {"keep_alive",                                                                                             \
         FIELD_CUSTOM,                                                                                             \
         0,                                                                                                        \
         0,                                                                                                        \
         0,                                                                                                        \
         parse_keep_alive,                                                                                         \
         NULL,                                                                                                     \
         "number or string",                                                                                       \
         "how long the model stays after it: seconds, or 5m; 0: it goes, negative: it stays"},                     \
        {"logprobs", FIELD_BOOL, REQUEST_AT(logprobs), 0, 0, NULL, NULL, NULL, "logprobs of the answer's tokens"}, \
        {"top_logprobs",                                                                                           \
         FIELD_U32,                                                                                                \
         REQUEST_AT(n_top),                                                                                        \
         0,                                                                                                        \
         LIMIT_TOP_LOGPROBS,                                                                                       \
         NULL,                                                                                                     \
         NULL,                                                                                                     \
         NULL,                                                                                                     \
         "alternatives per token; needs logprobs"},                                                                \
        {"truncate", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, "what is too long is refused"},                  \
    {                                                                                                              \
        "shift", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, "the answer ends where the context does"             \
    }

const struct field api__ollama_chat_fields[] = {
    SHARED_FIELDS,
    {"messages", FIELD_CUSTOM, 0, 0, 0, parse_messages, NULL, "array",
     "role, content, thinking, tool_calls, tool_name; none: the model is loaded, or unloaded by keep_alive 0"},
    {"tools", FIELD_CUSTOM, 0, 0, 0, openai_parse_tools, NULL, "array", "functions that the model may call"},
    {0},
};

const struct field api__ollama_generate_fields[] = {
    SHARED_FIELDS,
    {"prompt", FIELD_STR, AT(prompt), 0, 0, NULL, NULL, NULL, "none: the model is loaded, or unloaded by keep_alive 0"},
    {"suffix", FIELD_STR, AT(suffix), 0, 0, NULL, NULL, NULL, "text after the answer; needs fill-in-the-middle tokens"},
    {"system", FIELD_STR, AT(system), 0, 0, NULL, NULL, NULL, "a system message before the prompt"},
    {"raw", FIELD_BOOL, AT(raw), 0, 0, NULL, NULL, NULL, "the prompt is all of it: no chat template"},
    {"images", FIELD_CUSTOM, 0, 0, 0, parse_images, NULL, "array", "only an empty list"},
    {"context", FIELD_CUSTOM, 0, 0, 0, parse_context, NULL, "array", "only an empty list; use /api/chat"},
    {"template", FIELD_DEFAULT, 0, 0, 0, NULL, "\"\"", NULL, "the model's own"},
    {"width", FIELD_DEFAULT, 0, 0, 0, NULL, "0", NULL, "no images"},
    {"height", FIELD_DEFAULT, 0, 0, 0, NULL, "0", NULL, "no images"},
    {"steps", FIELD_DEFAULT, 0, 0, 0, NULL, "0", NULL, "no images"},
    {0},
};

/* ---- messages ---- */

static struct str member(const struct json *object, const char *name)
{
    return json_str(json_get(object, name));
}

/* Their arguments are objects; those of chat completions are JSON text. */
static bool put_call(struct json_writer *w, const struct json *call, size_t message, size_t i, struct error *err)
{
    const struct json *function = json_get(call, "function"), *arguments = json_get(function, "arguments");
    char name[80], id[64];
    struct buf text;
    snprintf(name, sizeof name, "messages[%zu].tool_calls[%zu].function", message, i);
    if (json_type(json_get(function, "name")) != JSON_STRING ||
        (json_type(arguments) != JSON_OBJECT && !json_is_null(arguments))) {
        return error_set_param(err, ERR_INVALID, name, "'%s' needs a string 'name' and an object 'arguments'.", name);
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    if (arguments) {
        json_print(&text, arguments);
    } else {
        buf_puts(&text, "{}");
    }
    snprintf(id, sizeof id, "call_%zu_%zu", message, i);
    struct str given = member(call, "id");
    openai_put_call(w, given.len ? given : str_of(id), member(function, "name"), buf_view(&text));
    bool ok = buf_ok(&text, "the arguments of a tool call", err);
    buf_release(&text);
    return ok;
}

static bool put_calls(struct json_writer *w, const struct json *calls, size_t message, struct error *err)
{
    bool ok = true;
    json_key(w, "tool_calls");
    json_begin_array(w);
    for (size_t i = 0; ok && i < json_len(calls); i++) {
        ok = put_call(w, json_at(calls, i), message, i, err);
    }
    json_end_array(w);
    return ok;
}

static void put_renamed(struct json_writer *w, const struct json *message)
{
    static const struct {
        const char *from, *to;
    } names[] = {{"thinking", "reasoning_content"}, {"tool_name", "name"}, {"tool_call_id", "tool_call_id"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (member(message, names[i].from).len) {
            json_member_str(w, names[i].to, member(message, names[i].from));
        }
    }
}

static bool put_message(struct json_writer *w, const struct json *message, size_t i, struct error *err)
{
    char name[40];
    snprintf(name, sizeof name, "messages[%zu]", i);
    if (json_type(message) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", message);
    }
    if (json_len(json_get(message, "images"))) {
        snprintf(name, sizeof name, "messages[%zu].images", i);
        return unsupported(err, name, "this model reads text only.");
    }
    const struct json *content = json_get(message, "content"), *calls = json_get(message, "tool_calls");
    json_begin_object(w);
    json_member_json(w, "role", json_get(message, "role"));
    json_key(w, "content");
    if (json_is_null(content)) {
        json_put_cstr(w, "");
    } else {
        json_put_json(w, content);
    }
    put_renamed(w, message);
    bool ok = json_len(calls) == 0 || put_calls(w, calls, i, err);
    json_end_object(w);
    return ok;
}

static bool keep_messages(struct gen_request *r, const struct buf *text, struct error *err)
{
    struct json *root = buf_ok(text, "the messages", err) ? json_parse(buf_view(text), LIMIT_JSON_DEPTH, err) : NULL;
    r->messages = json_keep(root, r->arena, "the request", err);
    return r->messages && request_check_messages(r->messages, err);
}

static bool convert_messages(struct ollama_request *r, struct error *err)
{
    struct buf text;
    bool ok = true;
    buf_init(&text, 2 * LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(r->messages); i++) {
        ok = put_message(&w, json_at(r->messages, i), i, err);
    }
    json_end_array(&w);
    ok = ok && keep_messages(&r->request, &text, err);
    buf_release(&text);
    return ok;
}

static bool make_chat(struct ollama_request *r, struct error *err)
{
    struct buf text;
    buf_init(&text, 2 * LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    if (r->system.len) {
        openai_put_message(&w, STR("system"), r->system);
    }
    openai_put_message(&w, STR("user"), r->prompt);
    json_end_array(&w);
    bool ok = keep_messages(&r->request, &text, err);
    buf_release(&text);
    return ok;
}

static bool make_prompt(struct ollama_request *r, struct error *err)
{
    struct gen_request *g = &r->request;
    g->input = GEN_PROMPTS;
    g->prompts = arena_alloc(g->arena, sizeof *g->prompts);
    if (!g->prompts) {
        return arena_full(g->arena, "the request", err);
    }
    g->prompts->text = r->prompt;
    g->n_prompts = 1;
    g->suffix = r->suffix;
    g->has_suffix = r->suffix.len > 0;
    return true;
}

/* ---- bodies ---- */

static struct ollama_request *decode(struct call *c, struct error *err)
{
    struct ollama_request *r = arena_alloc(c->arena, sizeof *r);
    if (!r) {
        arena_full(c->arena, "the request", err);
        return NULL;
    }
    struct decoding d = api__decoding(c, r);
    *r = (struct ollama_request){.repeat_last_n = -1};
    struct gen_request *g = &r->request;
    api__init_request(c, g, GEN_CHAT, "ollama-");
    d.request = g;
    g->stream = true;
    if (!api__decode_body(c, &d, c->body, err)) {
        return NULL;
    }
    g->max_tokens = r->num_predict > 0 ? r->num_predict : -1;
    if (g->n_top && !g->logprobs) {
        error_set_param(err, ERR_INVALID, "top_logprobs", "'top_logprobs' is only allowed together with 'logprobs'.");
        return NULL;
    }
    return r;
}

static bool done(struct call *c, struct ollama_request *r)
{
    c->request = r->request;
    c->extra = r;
    c->load_only = r->load_only;
    c->has_keep_alive = r->has_keep_alive;
    c->keep_alive_ms = r->keep_alive_ms;
    return true;
}

bool api__decode_ollama_chat(struct call *c, struct error *err)
{
    struct ollama_request *r = decode(c, err);
    if (!r) {
        return false;
    }
    r->load_only = json_len(r->messages) == 0;
    return (r->load_only || convert_messages(r, err)) && done(c, r);
}

bool api__decode_ollama_generate(struct call *c, struct error *err)
{
    struct ollama_request *r = decode(c, err);
    if (!r) {
        return false;
    }
    if (r->raw && r->system.len) {
        return error_set_param(err, ERR_INVALID, "system", "'system' is not available together with 'raw'.");
    }
    r->load_only = r->prompt.len == 0 && r->suffix.len == 0;
    bool whole = r->raw || r->suffix.len;
    return (r->load_only || (whole ? make_prompt(r, err) : make_chat(r, err))) && done(c, r);
}

/* ---- work ---- */

bool api__work_ollama(struct call *c, struct error *err)
{
    const struct ollama_request *r = c->extra;
    const struct pipeline *p = served_model_pipeline(c->model);
    uint32_t n_context = pipeline_n_context(p);
    if (r->num_ctx > n_context) {
        return error_set_param(err, ERR_UNSUPPORTED, "options.num_ctx",
                               "Unsupported value for 'options.num_ctx': the context of this model has %u tokens.",
                               n_context);
    }
    if (c->request.sampling.repetition_penalty != 1 && r->repeat_last_n >= 0) {
        return error_set_param(err, ERR_UNSUPPORTED, "options.repeat_last_n",
                               "Unsupported value for 'options.repeat_last_n': 'repeat_penalty' looks at all tokens "
                               "(-1).");
    }
    if (r->needs_thinking && !pipeline_options(p)->formats.reasoning) {
        return error_set_param(err, ERR_UNSUPPORTED, "think", "\"%.100s\" does not support thinking.",
                               served_model_name(c->model));
    }
    if (r->load_only) {
        ollama_put_loaded(&c->reply, c);
        return buf_ok(&c->reply, "the reply", err);
    }
    return api__prepare(c, err);
}
