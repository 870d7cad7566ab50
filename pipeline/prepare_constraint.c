/* The constraint spec of a request: what its answer may look like, or how the tools are called that it must or may
 * call; where it begins to hold; and how long the model may reason before.
 *
 *     format | tools                          constraint
 *     -------+------------------------------+---------------------------------------------------------------
 *     yes    | none, or "none"              | the format
 *     any    | "required", a named one      | calls, nothing else: there is no answer for a format
 *     yes    | "auto"                       | the format or calls; JSON formats only
 *     no     | "auto"                       | lazy: calls, behind a marker of theirs; without markers nothing
 *
 * What the client asked to be bound by is enforced or refused with the field's name: formats, "required", a named tool,
 * strict schemas. Schemas that are not strict are enforced as far as that is possible, and so are automatic calls; what
 * was left out is in the log and in r->widened. */
#include "base/array.h"
#include "base/log.h"
#include "grammar/gbnf.h"
#include "grammar/schema_widen.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/structural_tag.h"

#include <stdio.h>

#define MAX_TOKENS 64 /* markers of a tool format that are tokens */

struct making {
    const struct pipeline *p;
    struct gen_request *r;
    struct constraint_spec spec;
    const char *field; /* that asked for it; NULL: nobody did, so that it may as well be left out */
    struct buf grammar;
    struct str triggers[LIMIT_TRIGGERS];
    struct error *err;
};

static bool unsupported(struct making *m, const char *param, const char *why)
{
    return error_set_param(m->err, ERR_UNSUPPORTED, param, "Unsupported value for '%s': %s", param, why);
}

static bool must_call(const struct gen_request *r)
{
    return r->tool_choice == GEN_TOOLS_REQUIRED || r->tool_choice == GEN_TOOLS_NAMED;
}

static bool is_harmony(const struct reasoning_format *f)
{
    return f && str_eq(str_of(reasoning_format_name(f)), STR("harmony"));
}

/* The model writes in channels: what binds its answer begins with a header. */
static bool in_channels(const struct making *m)
{
    return m->r->input == GEN_CHAT && is_harmony(m->p->options.formats.reasoning);
}

static bool has_strict(const struct gen_request *r, size_t *first)
{
    for (*first = 0; *first < json_len(r->tools); ++*first) {
        if (pipeline__is_strict(r, *first)) {
            return true;
        }
    }
    return false;
}

/* ---- channels ----
 *
 * Harmony (chat/output_harmony.c). The prompt ends with "<|start|>assistant"; behind the reasoning, which ends with
 * "<|end|>", the model writes that itself. Its own markers are tokens, which text in a grammar would not match. */

static void put_special(struct making *m, const char *marker)
{
    int32_t id = output_formats_marker_id(m->p->options.tokenizer, marker);
    if (id >= 0) {
        buf_printf(&m->grammar, " <[%d]>", (int)id);
    } else {
        buf_printf(&m->grammar, " \"%s\"", marker);
    }
}

/* The rules channel_lead, what may be before a message's channel, and channel_final, the header of a JSON answer. */
static void put_channel_rules(struct making *m)
{
    buf_puts(&m->grammar, "channel_lead:");
    put_special(m, "<|start|>");
    buf_puts(&m->grammar, " \"assistant\"\nchannel_final:");
    put_special(m, "<|channel|>");
    buf_puts(&m->grammar, " \"final\" (\" \"?");
    put_special(m, "<|constrain|>");
    buf_puts(&m->grammar, " \"json\")?");
    put_special(m, "<|message|>");
    buf_puts(&m->grammar, "\n");
}

/* ---- formats ---- */

static bool put_schema(struct making *m, const struct json *schema, bool binding)
{
    struct schema_drops drops = {0};
    struct schema_widen_options o = {
        .binding = binding, .field = m->field, .vocab = grammar_check_vocab(m->p->grammars, m->err)};
    return o.vocab && schema_widen(schema, &o, m->r->arena, &m->grammar, &drops, m->err) &&
           pipeline__note_drops(m->r, str_of(m->field), &drops, m->err);
}

static bool put_object(struct making *m)
{
    struct json *schema = json_parse(STR("{\"type\":\"object\"}"), 2, m->err);
    bool ok = schema && put_schema(m, schema, true);
    json_free(schema);
    return ok;
}

static bool put_json_format(struct making *m)
{
    const struct gen_answer_format *f = &m->r->format;
    return f->kind == GEN_FORMAT_JSON ? put_object(m) : put_schema(m, f->schema, f->strict);
}

/* m->grammar holds what is before it. */
static bool put_tagged_schema(void *arg, const struct json *schema, struct buf *out)
{
    (void)out; /* it is m->grammar */
    return put_schema(arg, schema, true);
}

static bool put_structural_tag(struct making *m)
{
    struct structural_tag_schemas schemas = {put_tagged_schema, m};
    return structural_tag_grammar(m->r->format.schema, &schemas, m->field, &m->grammar, m->err);
}

static bool put_gbnf(struct making *m)
{
    if (gbnf_to_lark(m->r->format.text, &m->grammar, m->err)) {
        return true;
    }
    snprintf(m->err->param, sizeof m->err->param, "%s", m->field);
    return error_wrap(m->err, "%s", m->field);
}

/* A JSON answer in its channel. */
static bool put_final(struct making *m)
{
    m->spec.kind = CONSTRAINT_LARK;
    buf_puts(&m->grammar, "%llguidance {}\nstart: channel_lead? channel_final answer\n");
    put_channel_rules(m);
    buf_puts(&m->grammar, "answer: %json ");
    bool ok = put_json_format(m);
    buf_puts(&m->grammar, "\n");
    return ok;
}

static bool put_format(struct making *m)
{
    const struct gen_answer_format *f = &m->r->format;
    struct json_writer w = json_writer(&m->grammar);
    bool json = f->kind == GEN_FORMAT_JSON || f->kind == GEN_FORMAT_SCHEMA;
    if (in_channels(m) && f->kind != GEN_FORMAT_TEXT) {
        return json ? put_final(m)
                    : unsupported(m, m->field, "of a model that writes in channels only JSON formats are available.");
    }
    switch (f->kind) {
    case GEN_FORMAT_TEXT:
        return true;
    case GEN_FORMAT_JSON:
    case GEN_FORMAT_SCHEMA:
        m->spec.kind = CONSTRAINT_JSON_SCHEMA;
        return put_json_format(m);
    case GEN_FORMAT_REGEX:
        m->spec.kind = CONSTRAINT_REGEX;
        buf_append(&m->grammar, f->text);
        return true;
    case GEN_FORMAT_CHOICE:
        m->spec.kind = CONSTRAINT_CHOICE;
        json_put_json(&w, f->schema);
        return true;
    case GEN_FORMAT_LARK:
        m->spec.kind = CONSTRAINT_LARK;
        buf_append(&m->grammar, f->text);
        return true;
    case GEN_FORMAT_GBNF:
        m->spec.kind = CONSTRAINT_LARK;
        return put_gbnf(m);
    case GEN_FORMAT_STRUCTURAL_TAG:
        m->spec.kind = CONSTRAINT_LARK;
        return put_structural_tag(m);
    }
    return true;
}

/* ---- calls ---- */

/* Markers of the format that are control tokens. */
static size_t marker_tokens(const struct making *m, struct tool_token out[MAX_TOKENS])
{
    size_t n_markers, n = 0;
    const struct tokenizer *t = m->p->options.tokenizer;
    const char *const *markers = tool_format_markers(m->p->options.formats.tools, &n_markers);
    for (size_t i = 0; i < n_markers && n < MAX_TOKENS; i++) {
        int32_t id = output_formats_marker_id(t, markers[i]);
        if (id >= 0) {
            out[n++] = (struct tool_token){markers[i], id};
        }
    }
    return n;
}

static bool put_calls(struct making *m, bool lazy, const char *rule)
{
    struct tool_token tokens[MAX_TOKENS];
    struct tool_grammar g = {.definitions = pipeline__enforced_tools(m->p, m->r, m->err),
                             .parallel = m->r->parallel_tool_calls,
                             .after_trigger = lazy,
                             .rule = rule,
                             .tokens = tokens,
                             .n_tokens = marker_tokens(m, tokens)};
    m->spec.kind = CONSTRAINT_LARK;
    if (!g.definitions) {
        return false;
    }
    if (tool_format_grammar(m->p->options.formats.tools, &g, &m->grammar, m->err)) {
        return true;
    }
    snprintf(m->err->param, sizeof m->err->param, "%s", m->r->legacy_functions ? "functions" : "tools");
    return false;
}

/* Calls, nothing else. */
static bool put_required_calls(struct making *m)
{
    bool channels = in_channels(m);
    if (!put_calls(m, false, channels ? "tool_calls" : NULL)) {
        return false;
    }
    if (channels) {
        buf_puts(&m->grammar, "\nstart: channel_lead? tool_calls\n");
        put_channel_rules(m);
    }
    return true;
}

static void put_triggers(struct making *m)
{
    size_t n;
    const char *const *triggers = tool_format_triggers(m->p->options.formats.tools, &n);
    for (size_t i = 0; i < n && i < LIMIT_TRIGGERS; i++) {
        m->triggers[m->spec.n_triggers++] = str_of(triggers[i]);
    }
    m->spec.triggers = m->triggers;
}

/* The answer or calls. */
static bool put_format_or_calls(struct making *m)
{
    if (!put_calls(m, false, "tool_calls")) {
        return false;
    }
    bool channels = in_channels(m);
    buf_puts(&m->grammar, "\nstart: ");
    buf_puts(&m->grammar, channels ? "channel_lead? (tool_calls | channel_final answer)\n" : "tool_calls | answer\n");
    if (channels) {
        put_channel_rules(m);
    }
    buf_puts(&m->grammar, "answer: %json ");
    bool ok = put_json_format(m);
    buf_puts(&m->grammar, "\n");
    return ok;
}

/* Tool i wants its calls bound; where they begin nobody could tell. */
static bool no_marker(struct making *m, size_t i)
{
    char param[64];
    snprintf(param, sizeof param, m->r->legacy_functions ? "functions[%zu].strict" : "tools[%zu].function.strict", i);
    return unsupported(m, param,
                       "this model's calls begin without a marker, so their arguments can be bound only with "
                       "tool_choice \"required\" or a named tool.");
}

static bool choose_auto(struct making *m)
{
    const struct gen_request *r = m->r;
    size_t n_triggers, first;
    bool strict = has_strict(r, &first);
    if (r->format.kind == GEN_FORMAT_JSON || r->format.kind == GEN_FORMAT_SCHEMA) {
        return put_format_or_calls(m);
    }
    if (r->format.kind != GEN_FORMAT_TEXT) {
        return unsupported(m, m->field, "with tools that the model may call, only JSON formats are available.");
    }
    (void)tool_format_triggers(m->p->options.formats.tools, &n_triggers);
    if (n_triggers == 0) {
        return !strict || no_marker(m, first);
    }
    m->field = !strict ? NULL : r->legacy_functions ? "functions" : "tools";
    put_triggers(m);
    return put_calls(m, true, NULL);
}

static bool choose_calls(struct making *m)
{
    const struct gen_request *r = m->r;
    if (must_call(r)) {
        m->field = r->legacy_functions ? "function_call" : "tool_choice";
        return m->p->options.formats.tools ? put_required_calls(m)
                                           : unsupported(m, m->field, "this model has no format for tool calls.");
    }
    return r->raw_output ? put_format(m) : choose_auto(m);
}

/* ---- reasoning ---- */

static bool put_marker(struct making *m, const char *text, struct constraint_ids *out)
{
    struct token_list ids = {0};
    struct encode_options options = {.parse_special = true};
    bool ok = tokenizer_encode(m->p->options.tokenizer, str_of(text), options, &ids, m->err);
    if (ok && ids.n > 0) {
        int32_t *copy = arena_alloc_array(m->r->arena, ids.n, sizeof *copy);
        ok = copy || arena_full(m->r->arena, "request", m->err);
        if (ok) {
            memcpy(copy, ids.ids, ids.n * sizeof *copy);
            *out = (struct constraint_ids){copy, (uint32_t)ids.n};
        }
    }
    token_list_release(&ids);
    return ok;
}

/* Of a chat: a binding grammar holds behind the reasoning. Where the client switched that off there is none. */
static bool put_reasoning(struct making *m)
{
    struct gen_request *r = m->r;
    const struct reasoning_format *f = m->p->options.formats.reasoning;
    bool bounded = r->thinking_budget >= 0, binding = m->spec.kind != CONSTRAINT_NONE && m->spec.n_triggers == 0;
    if (r->input != GEN_CHAT || !f) {
        return true;
    }
    m->spec.think_open = reasoning_format_is_open(f, r->rendered);
    if ((is_harmony(f) && !bounded && !binding) || (binding && !m->spec.think_open && pipeline__thinking(r) == 0)) {
        m->spec.think_open = false;
        return true;
    }
    m->spec.think_budget = bounded ? (int32_t)r->thinking_budget : -1;
    return put_marker(m, reasoning_format_start(f), &m->spec.think_start) &&
           put_marker(m, reasoning_format_end(f), &m->spec.think_end);
}

/* ---- the spec ---- */

/* Encoded in the arena, once it is known to compile. */
static bool finish(struct making *m, struct str *out)
{
    struct buf bytes;
    struct gen_request *r = m->r;
    buf_init(&bytes, LIMIT_CONSTRAINT);
    m->spec.grammar = buf_view(&m->grammar);
    bool ok = buf_ok(&m->grammar, m->field ? m->field : "a grammar of tool calls", m->err) &&
              constraint_spec_encode(&m->spec, &bytes, m->err) &&
              grammar_check_compile(m->p->grammars, buf_view(&bytes), m->field, m->err);
    if (ok) {
        *out = arena_str(r->arena, buf_view(&bytes));
        ok = out->ptr || arena_full(r->arena, "request", m->err);
    }
    buf_release(&bytes);
    return ok;
}

static bool make(struct making *m, struct str *out)
{
    const struct gen_request *r = m->r;
    bool bounded = r->thinking_budget >= 0 && r->input == GEN_CHAT && m->p->options.formats.reasoning;
    bool wants_calls = gen_request_has_tools(r);
    if (!(wants_calls ? choose_calls(m) : put_format(m))) {
        return false;
    }
    if (m->spec.kind == CONSTRAINT_NONE && (!bounded || r->raw_output)) {
        return true;
    }
    if (!m->field && bounded) {
        m->field = r->thinking_budget_field ? r->thinking_budget_field : "thinking_budget";
    }
    return put_reasoning(m) && finish(m, out);
}

/* What nobody asked for may fail: automatic calls are then what the model makes of them. */
static bool may_be_left_out(const struct making *m)
{
    return !m->field && m->spec.n_triggers > 0 &&
           (m->err->code == ERR_INVALID || m->err->code == ERR_UNSUPPORTED || m->err->code == ERR_TOO_LARGE);
}

/* ---- all of it ---- */

/* Of all that the spec depends on. False: no memory, so that it is not looked for. */
static bool digest_of(const struct pipeline *p, const struct gen_request *r, struct sha256 *out)
{
    const struct reasoning_format *f = p->options.formats.reasoning;
    const struct gen_answer_format *format = &r->format;
    struct error ignored = {0};
    struct buf text;
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    json_put_int(&w, r->input);
    json_put_int(&w, r->tool_choice);
    json_put_str(&w, r->tool_name);
    json_put_bool(&w, r->parallel_tool_calls);
    json_put_bool(&w, r->legacy_functions);
    json_put_bool(&w, r->raw_output);
    json_put_int(&w, pipeline__thinking(r));
    json_put_int(&w, r->thinking_budget);
    json_put_bool(&w, r->input == GEN_CHAT && f && reasoning_format_is_open(f, r->rendered));
    json_put_int(&w, format->kind);
    json_put_bool(&w, format->strict);
    json_put_cstr(&w, format->field);
    json_put_str(&w, format->text);
    json_put_json(&w, format->schema);
    pipeline__put_keys(r, &w);
    json_end_array(&w);
    bool ok = buf_ok(&text, "a request", &ignored);
    if (ok) {
        *out = sha256_of(text.data, text.len);
    }
    buf_release(&text);
    return ok;
}

static bool make_new(const struct pipeline *p, struct gen_request *r, struct str *out, struct error *err)
{
    struct error why = {0};
    struct making m = {.p = p, .r = r, .spec = constraint_spec_none(), .field = r->format.field, .err = &why};
    buf_init(&m.grammar, LIMIT_GRAMMAR_SIZE);
    bool ok = make(&m, out);
    buf_release(&m.grammar);
    if (!ok && may_be_left_out(&m)) {
        LOG_WARN("tool calls are not constrained", "request=%s reason=\"%s\"", r->id, why.msg);
        *out = (struct str){0};
        return true;
    }
    if (!ok) {
        *err = why;
    } else if (r->widened.len) {
        LOG_INFO("schemas are enforced in part", "request=%s without=\"" STR_FMT "\"", r->id, STR_ARG(r->widened));
    }
    return ok;
}

bool pipeline__constrain(const struct pipeline *p, struct gen_request *r, struct str *out, struct error *err)
{
    struct grammar_made made = {0};
    struct sha256 digest;
    *out = (struct str){0};
    if (r->max_tokens == 0 ||
        (!gen_request_has_tools(r) && r->format.kind == GEN_FORMAT_TEXT && r->thinking_budget < 0)) {
        return true; /* nothing is written, or nothing is bound */
    }
    bool known = digest_of(p, r, &digest);
    int found = known ? grammar_check_find(p->grammars, &digest, r->arena, &made, err) : 0;
    if (found) {
        *out = made.spec;
        r->widened = made.widened;
        return found > 0;
    }
    if (!make_new(p, r, out, err)) {
        return false;
    }
    if (known) {
        grammar_check_keep(p->grammars, &digest, &(struct grammar_made){*out, r->widened});
    }
    return true;
}
