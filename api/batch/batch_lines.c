#include "api/batch/batch_lines.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/rng.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- lines ---- */

void batch_lines_init(struct batch_lines *l, size_t max)
{
    *l = (struct batch_lines){.max = max};
    buf_init(&l->rest, max);
}

void batch_lines_release(struct batch_lines *l)
{
    buf_release(&l->rest);
}

/* Memory that fails counts as a line that is too long: it is told, and the others go on. */
static void keep(struct batch_lines *l, struct str bytes)
{
    if (!l->too_long) {
        buf_append(&l->rest, bytes);
        l->too_long = l->rest.failed;
    }
}

/* A whole line has come, its last bytes being `bytes`. */
static enum batch_line finish(struct batch_lines *l, struct str bytes, struct str *line)
{
    struct str whole = bytes;
    l->number++;
    if (l->rest.len || l->too_long) {
        keep(l, bytes);
        whole = buf_view(&l->rest);
        l->given = true;
    }
    bool too_long = l->too_long || whole.len > l->max;
    l->too_long = false;
    *line = str_trim(whole);
    return too_long ? BATCH_LINE_TOO_LONG : line->len ? BATCH_LINE : BATCH_LINE_NONE;
}

enum batch_line batch_lines_next(struct batch_lines *l, struct str *input, struct str *line)
{
    while (input->len) {
        if (l->given) {
            buf_clear(&l->rest);
            l->given = false;
        }
        size_t end = str_find_char(*input, '\n');
        struct str bytes = str_slice(*input, 0, end);
        if (end == STR_NPOS) {
            keep(l, bytes);
            *input = str_slice(*input, input->len, input->len);
            break;
        }
        *input = str_slice(*input, end + 1, input->len);
        enum batch_line what = finish(l, bytes, line);
        if (what != BATCH_LINE_NONE) {
            return what;
        }
    }
    return BATCH_LINE_NONE;
}

enum batch_line batch_lines_end(struct batch_lines *l, struct str *line)
{
    if (l->given) {
        buf_clear(&l->rest);
        l->given = false;
    }
    return l->rest.len || l->too_long ? finish(l, (struct str){0}, line) : BATCH_LINE_NONE;
}

/* ---- what a line says ---- */

static bool wrong(struct batch_fault *f, const char *code, const char *param, const char *format, ...)
    PRINTF_FORMAT(4, 5);

static bool wrong(struct batch_fault *f, const char *code, const char *param, const char *format, ...)
{
    struct error err = {0};
    char text[sizeof f->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(&err, ERR_INVALID, "%s", text); /* cut at a whole character */
    f->code = code;
    f->param = param;
    memcpy(f->message, err.msg, sizeof f->message);
    return false;
}

static bool check_id(struct str id, struct batch_fault *f)
{
    if (id.len == 0 || id.len > BATCH_CUSTOM_ID_MAX) {
        return wrong(f, "invalid_custom_id", "custom_id", "'custom_id' must have 1 to %d bytes, and has %zu.",
                     BATCH_CUSTOM_ID_MAX, id.len);
    }
    return true;
}

static bool need(const struct json *root, const char *name, enum json_type type, struct batch_fault *f)
{
    const struct json *v = json_get(root, name);
    if (!v) {
        return wrong(f, "missing_required_parameter", name, "The line has no '%s'.", name);
    }
    return json_type(v) == type ||
           wrong(f, "invalid_type", name, "'%s' must be %s %s, not %s.", name, type == JSON_OBJECT ? "an" : "a",
                 json_type_name(type), json_type_name(json_type(v)));
}

static bool read(const struct json *root, struct str endpoint, struct batch_line_view *out, struct batch_fault *f)
{
    if (json_type(root) != JSON_OBJECT) {
        return wrong(f, "invalid_json_line", NULL, "The line must be a JSON object, not %s.",
                     json_type_name(json_type(root)));
    }
    if (!need(root, "custom_id", JSON_STRING, f) || !need(root, "method", JSON_STRING, f) ||
        !need(root, "url", JSON_STRING, f) || !need(root, "body", JSON_OBJECT, f)) {
        return false;
    }
    struct str method = json_str(json_get(root, "method")), url = json_str(json_get(root, "url"));
    if (!str_eq(method, STR("POST"))) {
        return wrong(f, "invalid_method", "method", "'method' must be \"POST\", not '" STR_FMT "'.",
                     STR_ARG(str_slice(method, 0, 40)));
    }
    if (!str_eq(url, endpoint)) {
        return wrong(f, "mismatched_url", "url",
                     "'url' must be the batch's endpoint, '" STR_FMT "', not '" STR_FMT "'.", STR_ARG(endpoint),
                     STR_ARG(str_slice(url, 0, 100)));
    }
    out->custom_id = json_str(json_get(root, "custom_id"));
    out->body = json_get(root, "body");
    return check_id(out->custom_id, f);
}

bool batch_line_read(struct str line, struct str endpoint, struct batch_line_view *out, struct batch_fault *fault)
{
    struct error err = {0};
    *out = (struct batch_line_view){.root = json_parse(line, LIMIT_JSON_DEPTH + 1, &err)};
    if (!out->root) {
        return wrong(fault, "invalid_json_line", NULL, "%s", err.msg);
    }
    if (!read(out->root, endpoint, out, fault)) {
        json_free(out->root);
        out->root = NULL;
        return false;
    }
    return true;
}

/* ---- all of them ---- */

struct seen { /* an id; number 0: free */
    uint64_t hash, number;
};

struct batch_checker {
    uint64_t max_rows, n;
    size_t max_errors, n_errors;
    struct buf errors; /* JSON objects, separated by commas */
    struct seen *seen; /* [cap], at most half full; by the hash */
    size_t cap;
    uint64_t secret; /* of the hash: nobody can make ids that collide */
    char model[256];
    bool differs, has_model;
};

struct batch_checker *batch_checker_create(uint64_t max_rows, size_t max_errors)
{
    struct batch_checker *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    *c = (struct batch_checker){.max_rows = max_rows, .max_errors = max_errors, .secret = rng_entropy64()};
    buf_init(&c->errors, MIB(1));
    return c;
}

void batch_checker_free(struct batch_checker *c)
{
    if (c) {
        buf_release(&c->errors);
        free(c->seen);
        free(c);
    }
}

static void tell(struct batch_checker *c, uint64_t number, const struct batch_fault *f)
{
    if (c->n_errors++ >= c->max_errors) {
        return;
    }
    if (c->errors.len) {
        buf_putc(&c->errors, ',');
    }
    struct json_writer w = json_writer(&c->errors);
    json_begin_object(&w);
    json_member_cstr(&w, "code", f->code);
    json_key(&w, "line");
    if (number) {
        json_put_uint(&w, number);
    } else {
        json_put_null(&w);
    }
    json_member_cstr(&w, "message", f->message);
    json_member_cstr(&w, "param", f->param);
    json_end_object(&w);
}

static struct seen *place_of(struct seen *seen, size_t cap, uint64_t hash)
{
    size_t at = (size_t)hash & (cap - 1);
    while (seen[at].number && seen[at].hash != hash) {
        at = (at + 1) & (cap - 1);
    }
    return &seen[at];
}

static bool grow(struct batch_checker *c)
{
    size_t cap = c->cap ? 2 * c->cap : 256;
    struct seen *more = calloc(cap, sizeof *more);
    if (!more) {
        return false;
    }
    for (size_t i = 0; i < c->cap; i++) {
        if (c->seen[i].number) {
            *place_of(more, cap, c->seen[i].hash) = c->seen[i];
        }
    }
    free(c->seen);
    c->seen = more;
    c->cap = cap;
    return true;
}

static bool take_id(struct batch_checker *c, uint64_t number, struct str id, uint64_t *earlier)
{
    if (2 * c->n >= c->cap && !grow(c)) {
        return false;
    }
    uint64_t hash = xxh3(id.ptr, id.len, c->secret);
    struct seen *place = place_of(c->seen, c->cap, hash);
    *earlier = place->number;
    if (!place->number) {
        *place = (struct seen){hash, number};
    }
    return true;
}

bool batch_checker_take_id(struct batch_checker *c, uint64_t number, struct str id, uint64_t *earlier)
{
    c->n++;
    return take_id(c, number, id, earlier);
}

static bool note_id(struct batch_checker *c, uint64_t number, struct str id)
{
    struct batch_fault f;
    uint64_t earlier;
    if (!take_id(c, number, id, &earlier)) {
        return false;
    }
    if (earlier) {
        wrong(&f, "duplicate_custom_id", "custom_id", "The custom_id '" STR_FMT "' is that of line %llu too.",
              STR_ARG(str_slice(id, 0, 100)), (unsigned long long)earlier);
        tell(c, number, &f);
    }
    return true;
}

static void note_model(struct batch_checker *c, const struct json *body)
{
    struct str model = json_str(json_get(body, "model"));
    model = str_slice(model, 0, sizeof c->model - 1);
    c->differs |= c->has_model && !str_eq(model, str_of(c->model));
    c->has_model = true;
    snprintf(c->model, sizeof c->model, STR_FMT, STR_ARG(model));
}

/* One row more. False: that are too many. */
static bool count(struct batch_checker *c)
{
    struct batch_fault f;
    if (++c->n == c->max_rows + 1) {
        wrong(&f, "too_many_requests", NULL, "The file must have at most %llu requests (--batch-max-rows).",
              (unsigned long long)c->max_rows);
        tell(c, 0, &f);
    }
    return c->n <= c->max_rows;
}

bool batch_checker_add(struct batch_checker *c, uint64_t number, struct str line, struct str endpoint)
{
    struct batch_line_view view;
    struct batch_fault f;
    if (!count(c)) {
        return true;
    }
    if (!batch_line_read(line, endpoint, &view, &f)) {
        tell(c, number, &f);
        return true;
    }
    note_model(c, view.body);
    bool ok = note_id(c, number, view.custom_id);
    json_free(view.root);
    return ok;
}

void batch_checker_too_long(struct batch_checker *c, uint64_t number, size_t max)
{
    struct batch_fault f;
    if (count(c)) {
        wrong(&f, "line_too_long", NULL, "A line must have at most %zu bytes (--max-body).", max);
        tell(c, number, &f);
    }
}

uint64_t batch_checker_n(const struct batch_checker *c)
{
    return c->n;
}

struct str batch_checker_model(const struct batch_checker *c)
{
    return c->differs ? STR("") : str_of(c->model);
}

bool batch_checker_end(struct batch_checker *c, struct buf *out)
{
    struct batch_fault f;
    if (c->n == 0) {
        wrong(&f, "empty_file", NULL, "The file has no line with a request.");
        tell(c, 0, &f);
    }
    if (c->n_errors == 0) {
        return true;
    }
    buf_putc(out, '[');
    buf_append(out, buf_view(&c->errors));
    buf_putc(out, ']');
    return false;
}
