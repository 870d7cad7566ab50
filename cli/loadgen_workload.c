#include "cli/loadgen_workload.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <math.h>
#include <stdlib.h>

#define WORKLOAD_ARENA GIB(1)
#define LINE_DEPTH     64 /* schemas of tools lie deep */
#define LINE_VALUES    (1u << 20)
#define AT_MS_MAX      1e9

struct line {
    struct str fields; /* of the body, but for model and stream: "\"messages\":[...],\"max_tokens\":8" */
    double at_ms;
    const struct loadgen_check *check;
};

struct loadgen_workload {
    struct arena *arena;
    enum loadgen_api api;
    struct loadgen_prompts prompts;
    bool stream, timed;
    struct str set_fields; /* behind the prompt of a set: ",\"max_tokens\":64" */
    struct line *lines;    /* [n_lines] */
    size_t n_lines, lines_cap;
};

/* Everything that the fields of a request come from. */
struct sources {
    const struct loadgen_workload_options *options;
    const struct json *body; /* --body; NULL: none */
    int64_t set_max_tokens;  /* 0: there is no set */
};

/* ---- fields ---- */

static bool is_one_of(struct str key, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(key, str_of(names[i]))) {
            return true;
        }
    }
    return false;
}

static bool is_reserved(struct str key)
{
    static const char *const names[] = {"model", "stream", "stream_options"};
    return is_one_of(key, names, ARRAY_LEN(names));
}

static bool is_prompt(struct str key)
{
    static const char *const names[] = {"messages", "prompt"};
    return is_one_of(key, names, ARRAY_LEN(names));
}

static bool is_max_tokens(struct str key)
{
    static const char *const names[] = {"max_tokens", "max_completion_tokens"};
    return is_one_of(key, names, ARRAY_LEN(names));
}

static bool is_ours(struct str key) /* of a line, and not sent */
{
    static const char *const names[] = {"at_ms", "check"};
    return is_one_of(key, names, ARRAY_LEN(names));
}

static bool check_names(const struct json *object, bool is_body, struct error *err)
{
    for (struct json_iter it = json_members(object); json_next(&it);) {
        if (is_reserved(it.key) || (is_body && (is_prompt(it.key) || is_ours(it.key)))) {
            return error_set(err, ERR_INVALID, "'%.40s' cannot be given here: the command sets it.", it.key.ptr);
        }
    }
    return true;
}

/* Also where its value is null, which json_get does not tell from an absent one. */
static bool has(const struct json *object, struct str name)
{
    for (struct json_iter it = json_members(object); json_next(&it);) {
        if (str_eq(it.key, name)) {
            return true;
        }
    }
    return false;
}

static bool names_max_tokens(const struct json *object)
{
    return has(object, STR("max_tokens")) || has(object, STR("max_completion_tokens"));
}

/* The members of `from` that neither the command line nor the object `over` has. */
static void put_members(struct json_writer *w, const struct json *from, const struct json *over,
                        const struct loadgen_workload_options *o)
{
    for (struct json_iter it = json_members(from); json_next(&it);) {
        bool replaced = is_max_tokens(it.key)
                            ? o->max_tokens || names_max_tokens(over)
                            : (o->ignore_eos && str_eq(it.key, STR("ignore_eos"))) || has(over, it.key);
        if (!replaced && !is_ours(it.key) && !is_prompt(it.key)) {
            json_member_json(w, it.key.ptr, it.value);
        }
    }
}

/* All fields but the prompt, model and stream, each with a comma before it. line NULL: of a set. */
static void put_fields(const struct sources *s, const struct json *line, struct buf *out)
{
    const struct loadgen_workload_options *o = s->options;
    struct json_writer w = {.out = out, .need_comma = true};
    bool given = names_max_tokens(line) || names_max_tokens(s->body);
    int64_t max_tokens = o->max_tokens ? o->max_tokens : given ? 0 : s->set_max_tokens;
    put_members(&w, line, NULL, o);
    put_members(&w, s->body, line, o);
    if (max_tokens) {
        json_member_int(&w, "max_tokens", max_tokens);
    }
    if (o->ignore_eos) {
        json_member_bool(&w, "ignore_eos", true);
    }
}

/* ---- a file's lines ---- */

static bool check_prompt(enum loadgen_api api, const struct json *messages, const struct json *prompt,
                         struct error *err)
{
    bool is_text = json_type(prompt) == JSON_STRING;
    if (!messages == !prompt) {
        return error_set(err, ERR_INVALID, "expected 'messages' or 'prompt', and not both.");
    }
    if (messages && api == LOADGEN_COMPLETIONS) {
        return error_set(err, ERR_INVALID, "'messages' are for --api chat, not for completions.");
    }
    if (messages && (json_type(messages) != JSON_ARRAY || json_len(messages) == 0)) {
        return error_set(err, ERR_INVALID, "'messages': expected a list that is not empty.");
    }
    if (prompt && !is_text && !(api == LOADGEN_COMPLETIONS && json_type(prompt) == JSON_ARRAY)) {
        return error_set(err, ERR_INVALID, "'prompt': expected %s, but got %s.",
                         api == LOADGEN_CHAT ? "a string" : "a string or an array", json_type_name(json_type(prompt)));
    }
    return true;
}

static bool put_prompt(enum loadgen_api api, const struct json *line, struct buf *out, struct error *err)
{
    const struct json *messages = json_get(line, "messages"), *prompt = json_get(line, "prompt");
    struct json_writer w = json_writer(out);
    if (!check_prompt(api, messages, prompt, err)) {
        return false;
    }
    json_key(&w, api == LOADGEN_CHAT ? "messages" : "prompt");
    if (prompt && api == LOADGEN_CHAT) {
        buf_puts(out, "[{\"role\":\"user\",\"content\":");
        json_quote(out, json_str(prompt));
        buf_puts(out, "}]");
    } else {
        json_put_json(&w, messages ? messages : prompt);
    }
    return true;
}

static bool read_at_ms(struct loadgen_workload *w, const struct json *v, double *out, struct error *err)
{
    const struct line *before = w->n_lines ? &w->lines[w->n_lines - 1] : NULL;
    bool is_number = json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE;
    if (!v) {
        return !w->timed || error_set(err, ERR_INVALID, "'at_ms' is missing, and lines before have it.");
    }
    *out = is_number ? json_double(v) : -1;
    if (!(*out >= 0 && *out <= AT_MS_MAX)) {
        return error_set(err, ERR_INVALID, "'at_ms': expected a number from 0 to %.0f.", AT_MS_MAX);
    }
    if (before && !w->timed) {
        return error_set(err, ERR_INVALID, "'at_ms' is here, but lines before do not have it.");
    }
    if (before && *out < before->at_ms) {
        return error_set(err, ERR_INVALID, "'at_ms': %.10g is earlier than %.10g of the line before.", *out,
                         before->at_ms);
    }
    w->timed = true;
    return true;
}

static bool add_line(struct loadgen_workload *w, const struct sources *s, const struct json *json, struct error *err)
{
    struct line line = {.at_ms = 0};
    struct buf fields;
    const struct json *check = json_get(json, "check");
    if (json_type(json) != JSON_OBJECT) {
        return error_set(err, ERR_INVALID, "expected an object, but got %s.", json_type_name(json_type(json)));
    }
    if (!array_reserve(&w->lines, &w->lines_cap, w->n_lines + 1, LOADGEN_WORKLOAD_LINES, "lines of the workload",
                       err) ||
        !check_names(json, false, err) || !read_at_ms(w, json_get(json, "at_ms"), &line.at_ms, err) ||
        (check && !(line.check = loadgen_check_create(check, w->arena, err)))) {
        return false;
    }
    buf_init(&fields, LOADGEN_BODY_MAX);
    bool ok = put_prompt(w->api, json, &fields, err);
    if (ok) {
        put_fields(s, json, &fields);
        ok = buf_ok(&fields, "the line", err);
    }
    line.fields = ok ? arena_str(w->arena, buf_view(&fields)) : line.fields;
    buf_release(&fields);
    if (!ok || !line.fields.ptr) {
        return ok ? arena_full(w->arena, "the workload", err) : false;
    }
    w->lines[w->n_lines++] = line;
    return true;
}

static bool read_lines(struct loadgen_workload *w, const struct sources *s, struct str text, struct error *err)
{
    struct str rest = text.len ? text : STR(""), line;
    for (int number = 1; str_split(&rest, '\n', &line); number++) {
        if (str_trim(line).len == 0) {
            continue;
        }
        struct json *json = json_parse_bounded(str_trim(line), LINE_DEPTH, LINE_VALUES, err);
        bool ok = json && add_line(w, s, json, err);
        json_free(json);
        if (!ok) {
            return error_wrap(err, "line %d", number);
        }
    }
    return w->n_lines > 0 || error_set(err, ERR_INVALID, "there is no request in it.");
}

/* ---- life ---- */

static bool read_body(const char *text, struct json **out, struct error *err)
{
    *out = text ? json_parse(str_of(text), LINE_DEPTH, err) : NULL;
    if (!text) {
        return true;
    }
    if (*out && json_type(*out) != JSON_OBJECT) {
        return error_set(err, ERR_INVALID, "--body: expected an object, but got %s.", json_type_name(json_type(*out)));
    }
    return (*out && check_names(*out, true, err)) || error_wrap(err, "--body");
}

static bool fill(struct loadgen_workload *w, const struct loadgen_workload_options *o, const struct str *text,
                 struct error *err)
{
    struct json *body = NULL;
    struct buf fields;
    bool ok = read_body(o->body, &body, err);
    struct sources s = {.options = o, .body = body};
    if (ok && text) {
        ok = read_lines(w, &s, *text, err);
    } else if (ok) {
        s.set_max_tokens = loadgen_prompt_set_max_tokens(o->prompts.set);
        buf_init(&fields, LOADGEN_BODY_MAX);
        put_fields(&s, NULL, &fields);
        w->set_fields = arena_str(w->arena, buf_view(&fields)); /* never empty: max_tokens */
        ok = w->set_fields.ptr || arena_full(w->arena, "the workload", err);
        buf_release(&fields);
    }
    json_free(body);
    return ok;
}

/* text NULL: a prompt set. */
static struct loadgen_workload *create(const struct loadgen_workload_options *o, const struct str *text,
                                       struct error *err)
{
    struct loadgen_workload *w = calloc(1, sizeof *w);
    if (!w || !(w->arena = arena_create(WORKLOAD_ARENA))) {
        free(w);
        error_set(err, ERR_NO_MEMORY, "no memory for the workload.");
        return NULL;
    }
    w->api = o->api;
    w->stream = o->stream;
    w->prompts = o->prompts;
    if (w->prompts.prompt_tokens == 0) {
        w->prompts.prompt_tokens = loadgen_prompt_set_tokens(o->prompts.set);
    }
    if (!fill(w, o, text, err)) {
        loadgen_workload_free(w);
        return NULL;
    }
    return w;
}

struct loadgen_workload *loadgen_workload_parse(const struct loadgen_workload_options *options, struct str text,
                                                struct error *err)
{
    return create(options, &text, err);
}

struct loadgen_workload *loadgen_workload_create(const struct loadgen_workload_options *options, struct error *err)
{
    struct buf text = {0};
    struct loadgen_workload *w = NULL;
    if (!options->path) {
        return create(options, NULL, err);
    }
    if (!file_read(options->path, LOADGEN_WORKLOAD_FILE_MAX, &text, err)) {
        error_wrap(err, "--workload");
    } else if (!(w = loadgen_workload_parse(options, buf_view(&text), err))) {
        error_wrap(err, "--workload '%.100s'", options->path);
    }
    buf_release(&text);
    return w;
}

void loadgen_workload_free(struct loadgen_workload *w)
{
    if (w) {
        arena_free(w->arena);
        free(w->lines);
        free(w);
    }
}

/* ---- use ---- */

size_t loadgen_workload_lines(const struct loadgen_workload *w)
{
    return w->n_lines;
}

bool loadgen_workload_timed(const struct loadgen_workload *w)
{
    return w->timed;
}

double loadgen_workload_at_ms(const struct loadgen_workload *w, uint64_t index)
{
    return w->lines[index].at_ms;
}

const struct loadgen_check *loadgen_workload_check(const struct loadgen_workload *w, uint64_t index)
{
    return w->n_lines ? w->lines[index % w->n_lines].check : NULL;
}

static void put_set_prompt(const struct loadgen_workload *w, uint64_t index, struct buf *out)
{
    if (w->api == LOADGEN_CHAT) {
        buf_puts(out, "\"messages\":");
        loadgen_prompt_messages(&w->prompts, index, out);
    } else {
        buf_puts(out, "\"prompt\":");
        loadgen_prompt_text(&w->prompts, index, out);
    }
    buf_append(out, w->set_fields);
}

void loadgen_workload_body(const struct loadgen_workload *w, uint64_t index, const char *model, struct buf *out)
{
    buf_puts(out, "{\"model\":");
    json_quote(out, str_of(model));
    buf_putc(out, ',');
    if (w->n_lines) {
        buf_append(out, w->lines[index % w->n_lines].fields);
    } else {
        put_set_prompt(w, index, out);
    }
    buf_puts(out, w->stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}" : "}");
}
