/* The library's requests as the pipeline takes them. Everything is copied into the request's arena. */
#include "lib/tandem_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "pipeline/request_check.h"

#include <stdio.h>

#define BIAS_MAX     100
#define PRIORITY_MAX (JOB_PRIORITY_IDLE - 1)

struct reading {
    const struct tandem_request *from;
    struct gen_request *r;
    struct error *err;
};

static bool is_full(struct reading *w)
{
    return arena_full(w->r->arena, "the request", w->err);
}

/* NULL is fine, and gives {NULL,0}. */
static bool copy_text(struct reading *w, const char *text, const char *name, struct str *out)
{
    if (!text) {
        return true;
    }
    struct str given = str_of(text);
    if (given.len > LIMIT_HTTP_BODY) {
        return error_set_param(w->err, ERR_TOO_LARGE, name, "'%s' has %zu bytes, and the limit is %zu.", name,
                               given.len, LIMIT_HTTP_BODY);
    }
    *out = (struct str){arena_strdup(w->r->arena, given), given.len};
    return out->ptr || is_full(w);
}

/* what: "tokens". */
static bool check_array(struct reading *w, const void *items, size_t n, size_t max, const char *name, const char *what)
{
    if (n > max) {
        return error_set_param(w->err, ERR_INVALID, name, "'%s' has %zu %s, and at most %zu are allowed.", name, n,
                               what, max);
    }
    return !n || items ||
           error_set_param(w->err, ERR_INVALID, name, "'%s' is NULL, but is said to have %zu %s.", name, n, what);
}

static bool copy_ids(struct reading *w, const int32_t *ids, size_t n, size_t max, const char *name, const int32_t **out)
{
    if (!check_array(w, ids, n, max, name, "tokens")) {
        return false;
    }
    int32_t *copy = arena_alloc_array(w->r->arena, n ? n : 1, sizeof *copy);
    if (!copy) {
        return is_full(w);
    }
    if (n) {
        memcpy(copy, ids, n * sizeof *copy);
    }
    *out = copy;
    return true;
}

/* JSON text as a value that lives as long as the request. */
static const struct json *parse(struct reading *w, const char *text, const char *name, enum json_type type)
{
    struct error why = {0};
    if (strlen(text) > LIMIT_HTTP_BODY) {
        error_set_param(w->err, ERR_TOO_LARGE, name, "'%s' is larger than %zu bytes.", name, LIMIT_HTTP_BODY);
        return NULL;
    }
    struct json *root = json_parse(str_of(text), LIMIT_JSON_DEPTH, &why);
    if (!root) {
        error_set_param(w->err, why.code, name, "'%s': %s", name, why.msg);
        return NULL;
    }
    if (json_type(root) != type) {
        field_type_error(w->err, name, type == JSON_ARRAY ? "a JSON array" : "a JSON object", root);
        json_free(root);
        return NULL;
    }
    return json_keep(root, w->r->arena, "the request", w->err);
}

/* ---- what the model reads ---- */

static bool read_prompt(struct reading *w)
{
    struct gen_prompt *p = arena_alloc(w->r->arena, sizeof *p);
    if (!p) {
        return is_full(w);
    }
    w->r->prompts = p;
    w->r->n_prompts = 1;
    if (w->from->prompt) {
        return copy_text(w, w->from->prompt, "prompt", &p->text);
    }
    p->n_ids = w->from->n_prompt_ids;
    return copy_ids(w, w->from->prompt_ids, p->n_ids, LIMIT_CONTEXT, "prompt_ids", &p->ids);
}

static bool put_messages(struct reading *w, struct buf *text)
{
    struct json_writer out = json_writer(text);
    json_begin_array(&out);
    for (size_t i = 0; i < w->from->n_messages; i++) {
        const struct tandem_message *m = &w->from->messages[i];
        if (!m->role || !m->content) {
            char param[64];
            snprintf(param, sizeof param, "messages[%zu].%s", i, m->role ? "content" : "role");
            return field_missing_error(w->err, param);
        }
        json_begin_object(&out);
        json_member_cstr(&out, "role", m->role);
        json_member_cstr(&out, "content", m->content);
        json_end_object(&out);
    }
    json_end_array(&out);
    return buf_ok(text, "'messages'", w->err);
}

static const struct json *make_messages(struct reading *w)
{
    struct buf text;
    if (!check_array(w, w->from->messages, w->from->n_messages, LIMIT_MESSAGES, "messages", "messages")) {
        return NULL;
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    const struct json *messages = put_messages(w, &text) ? parse(w, text.data, "messages", JSON_ARRAY) : NULL;
    buf_release(&text);
    return messages;
}

static bool read_tool_choice(struct reading *w)
{
    static const struct {
        const char *name;
        enum gen_tool_choice choice;
    } modes[] = {{"auto", GEN_TOOLS_AUTO}, {"none", GEN_TOOLS_NONE}, {"required", GEN_TOOLS_REQUIRED}};
    struct gen_request *r = w->r;
    const char *given = w->from->tool_choice ? w->from->tool_choice : "auto";
    size_t i = 0;
    while (i < ARRAY_LEN(modes) && strcmp(modes[i].name, given) != 0) {
        i++;
    }
    if (i == ARRAY_LEN(modes)) {
        return error_set_param(w->err, ERR_INVALID, "tool_choice",
                               "'tool_choice' is '%.40s', and none of auto, none, required.", given);
    }
    r->tool_choice = modes[i].choice;
    if (!w->from->tool_name) {
        return r->tools || r->tool_choice != GEN_TOOLS_REQUIRED ||
               error_set_param(w->err, ERR_INVALID, "tool_choice",
                               "'tool_choice' asks for a tool, but the request has none.");
    }
    r->tool_choice = GEN_TOOLS_NAMED;
    return copy_text(w, w->from->tool_name, "tool_name", &r->tool_name) &&
           (gen_tool_find(r->tools, r->tool_name) ||
            error_set_param(w->err, ERR_INVALID, "tool_name", "The request has no tool '%.80s'.", r->tool_name.ptr));
}

static bool read_chat(struct reading *w)
{
    const struct tandem_request *from = w->from;
    struct gen_request *r = w->r;
    r->messages = from->messages_json ? parse(w, from->messages_json, "messages", JSON_ARRAY) : make_messages(w);
    if (!r->messages || !request_check_messages(r->messages, w->err)) {
        return false;
    }
    if (from->tools_json) {
        const struct json *tools = parse(w, from->tools_json, "tools", JSON_ARRAY);
        if (!tools || !request_check_tools(tools, "tools", w->err)) {
            return false;
        }
        r->tools = json_len(tools) ? tools : NULL;
    }
    if (from->template_variables_json &&
        !(r->template_kwargs = parse(w, from->template_variables_json, "template_variables", JSON_OBJECT))) {
        return false;
    }
    r->parallel_tool_calls = from->parallel_tool_calls;
    r->thinking = from->thinking < 0 ? -1 : from->thinking > 0;
    r->thinking_budget = from->thinking_budget < 0 ? -1 : from->thinking_budget;
    r->continue_final_message = from->continue_final_message;
    r->add_generation_prompt = !from->continue_final_message;
    return read_tool_choice(w) && copy_text(w, from->reasoning_effort, "reasoning_effort", &r->reasoning_effort);
}

/* ---- what the answer has to be ---- */

static bool read_schema(struct reading *w, struct gen_answer_format *f)
{
    f->schema = parse(w, w->from->json_schema, "json_schema", JSON_OBJECT);
    f->strict = true;
    return f->schema && request_check_schema(f->schema, "json_schema", w->err);
}

static bool read_choices(struct reading *w, struct gen_answer_format *f)
{
    f->schema = parse(w, w->from->choices_json, "choices", JSON_ARRAY);
    size_t n = json_len(f->schema);
    for (size_t i = 0; i < n; i++) {
        if (json_type(json_at(f->schema, i)) != JSON_STRING) {
            return field_type_error(w->err, "choices", "an array of strings", json_at(f->schema, i));
        }
    }
    return f->schema &&
           ((n > 0 && n <= LIMIT_CHOICE_STRINGS) ||
            error_set_param(w->err, ERR_INVALID, "choices", "'choices' has %zu strings, and 1 to %d are allowed.", n,
                            LIMIT_CHOICE_STRINGS));
}

static bool read_language(struct reading *w, const char *text, struct gen_answer_format *f)
{
    return copy_text(w, text, f->field, &f->text) &&
           ((f->text.len > 0 && f->text.len <= LIMIT_GRAMMAR_SIZE) ||
            error_set_param(w->err, ERR_INVALID, f->field, "'%s' has %zu bytes, and 1 to %zu are allowed.", f->field,
                            f->text.len, LIMIT_GRAMMAR_SIZE));
}

/* Only GBNF's rules have "::=". */
static enum gen_format grammar_kind(const char *grammar)
{
    return grammar && strstr(grammar, "::=") ? GEN_FORMAT_GBNF : GEN_FORMAT_LARK;
}

static bool read_format(struct reading *w)
{
    const struct tandem_request *from = w->from;
    const struct {
        bool given;
        enum gen_format kind;
        const char *field;
    } formats[] = {{from->json_object, GEN_FORMAT_JSON, "json_object"},
                   {from->json_schema, GEN_FORMAT_SCHEMA, "json_schema"},
                   {from->regex, GEN_FORMAT_REGEX, "regex"},
                   {from->grammar, grammar_kind(from->grammar), "grammar"},
                   {from->choices_json, GEN_FORMAT_CHOICE, "choices"}};
    struct gen_answer_format *f = &w->r->format;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (!formats[i].given) {
            continue;
        }
        if (f->field) {
            return error_set_param(w->err, ERR_INVALID, formats[i].field,
                                   "'%s' and '%s' both say what the answer has to be; give one.", formats[i].field,
                                   f->field);
        }
        f->kind = formats[i].kind;
        f->field = formats[i].field;
    }
    switch (f->kind) {
    case GEN_FORMAT_SCHEMA:
        return read_schema(w, f);
    case GEN_FORMAT_CHOICE:
        return read_choices(w, f);
    case GEN_FORMAT_REGEX:
        return read_language(w, from->regex, f);
    case GEN_FORMAT_LARK:
    case GEN_FORMAT_GBNF:
        return read_language(w, from->grammar, f);
    default:
        return true;
    }
}

/* ---- how long, and how tokens are chosen ---- */

static bool read_stops(struct reading *w)
{
    size_t n = w->from->n_stops;
    if (!check_array(w, w->from->stops, n, LIMIT_STOPS, "stops", "texts")) {
        return false;
    }
    struct str *stops = arena_alloc_array(w->r->arena, n ? n : 1, sizeof *stops);
    if (!stops) {
        return is_full(w);
    }
    for (size_t i = 0; i < n; i++) {
        if (!copy_text(w, w->from->stops[i], "stops", &stops[i])) {
            return false;
        }
        if (stops[i].len == 0 || stops[i].len > LIMIT_STOP_SIZE) {
            return error_set_param(w->err, ERR_INVALID, "stops", "A stop has %zu bytes, and 1 to %d are allowed.",
                                   stops[i].len, LIMIT_STOP_SIZE);
        }
    }
    w->r->stops = stops;
    w->r->n_stops = n;
    return true;
}

static bool read_bias(struct reading *w)
{
    size_t n = w->from->n_bias;
    if (!check_array(w, w->from->bias, n, JOB_MAX_BIAS, "bias", "tokens")) {
        return false;
    }
    struct job_bias *bias = arena_alloc_array(w->r->arena, n ? n : 1, sizeof *bias);
    if (!bias) {
        return is_full(w);
    }
    for (size_t i = 0; i < n; i++) {
        bias[i] = (struct job_bias){w->from->bias[i].id, w->from->bias[i].bias};
        if (!(bias[i].bias >= -BIAS_MAX && bias[i].bias <= BIAS_MAX)) { /* also what is no number */
            return error_set_param(w->err, ERR_INVALID, "bias", "'bias' of token %d is %g, and has to be %d to %d.",
                                   bias[i].id, (double)bias[i].bias, -BIAS_MAX, BIAS_MAX);
        }
    }
    w->r->bias = bias;
    w->r->n_bias = n;
    return true;
}

static bool check_numbers(struct reading *w)
{
    const struct tandem_request *from = w->from;
    if (from->max_tokens == 0 || from->max_tokens < -1 || from->max_tokens > LIMIT_CONTEXT) {
        return error_set_param(w->err, ERR_INVALID, "max_tokens", "'max_tokens' is %lld, and has to be -1, or 1 to %u.",
                               (long long)from->max_tokens, LIMIT_CONTEXT);
    }
    if (from->n_choices == 0 || from->n_choices > LIMIT_CHOICES) {
        return error_set_param(w->err, ERR_INVALID, "n_choices", "'n_choices' is %u, and has to be 1 to %d.",
                               from->n_choices, LIMIT_CHOICES);
    }
    if (from->thinking_budget > LIMIT_CONTEXT) {
        return error_set_param(w->err, ERR_INVALID, "thinking_budget",
                               "'thinking_budget' is %lld, and has to be -1, or 0 to %u.",
                               (long long)from->thinking_budget, LIMIT_CONTEXT);
    }
    if (from->priority < -PRIORITY_MAX || from->priority > PRIORITY_MAX) {
        return error_set_param(w->err, ERR_INVALID, "priority", "'priority' is %d, and has to be %d to %d.",
                               from->priority, -PRIORITY_MAX, PRIORITY_MAX);
    }
    return (from->timeout_ms >= 0 && from->timeout_ms < UINT32_MAX) ||
           error_set_param(w->err, ERR_INVALID, "timeout_ms", "'timeout_ms' is %lld, and has to be 0 to %u.",
                           (long long)from->timeout_ms, UINT32_MAX - 1);
}

static bool read_rest(struct reading *w)
{
    const struct tandem_request *from = w->from;
    struct gen_request *r = w->r;
#define X(name, type, fallback, min, max, help) r->sampling.name = from->name;
    SAMPLING_TABLE(X)
#undef X
    r->has_seed = from->has_seed;
    r->seed = from->seed;
    r->max_tokens = from->max_tokens;
    r->min_tokens = from->min_tokens;
    r->n = from->n_choices;
    r->ignore_eos = from->ignore_eos;
    r->timeout_ms = from->timeout_ms;
    r->priority = from->priority;
    r->cache_prompt = from->cache_prompt;
    r->add_special_tokens = from->add_special_tokens;
    r->n_stop_ids = from->n_stop_ids;
    return check_numbers(w) && read_stops(w) && read_bias(w) &&
           copy_ids(w, from->stop_ids, from->n_stop_ids, JOB_MAX_STOP_IDS, "stop_ids", &r->stop_ids);
}

/* Exactly one of the four ways to say what the model reads. */
static bool check_input(const struct tandem_request *from, bool *chat, struct error *err)
{
    bool plain = from->prompt || from->n_prompt_ids;
    int n = (from->prompt != NULL) + (from->n_prompt_ids > 0) + (from->n_messages > 0) + (from->messages_json != NULL);
    *chat = !plain;
    if (n != 1) {
        return error_set_param(err, ERR_INVALID, "prompt",
                               "A request needs one of 'prompt', 'prompt_ids', 'messages' and 'messages_json', but "
                               "has %d of them.",
                               n);
    }
    if (plain && from->tools_json) {
        return error_set_param(err, ERR_INVALID, "tools", "'tools_json' goes with messages, not with a prompt.");
    }
    return true;
}

bool request__read(const struct tandem_model *m, const struct tandem_request *from, struct gen_request *r,
                   struct error *err)
{
    struct tandem_request known;
    bool chat = false;
    *r = (struct gen_request){0};
    tandem_request_init(&known, sizeof known);
    if (!options__take(&known, sizeof known, from, from->size, "The request", err) ||
        !check_input(&known, &chat, err)) {
        return false;
    }
    struct arena *arena = arena_create(LIMIT_REQUEST_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a request.");
    }
    gen_request_init(r, arena, chat ? GEN_CHAT : GEN_PROMPTS);
    snprintf(r->id, sizeof r->id, "generation");
    struct reading w = {.from = &known, .r = r, .err = err};
    return (chat ? read_chat(&w) : read_prompt(&w)) && read_format(&w) && read_rest(&w) &&
           adapter__hold(m, known.adapter, r, err);
}
