/* The walk: schemas applied to parts of a value. It recurses, at most LIMIT_SCHEMA_NESTED deep. */
#include "grammar/json_schema_run_internal.h"

#include "base/utf8.h"
#include "grammar/json_pointer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD_BITS 64

/* ---- giving up ---- */

bool json_schema__stop(struct run *r, enum error_code code, const char *fmt, ...)
{
    va_list args;
    if (!json_schema__stopped(r)) { /* the first reason counts */
        char why[160];
        va_start(args, fmt);
        vsnprintf(why, sizeof why, fmt, args);
        va_end(args);
        error_set(&r->stop, code, "%s", why);
    }
    return false;
}

bool json_schema__spend(struct run *r, size_t steps)
{
    if (r->steps < steps) {
        r->steps = 0;
        return json_schema__stop(r, ERR_TOO_LARGE, "validation was given up: it takes more than %llu steps.",
                                 (unsigned long long)r->schema->max_steps);
    }
    r->steps -= steps;
    return !json_schema__stopped(r);
}

/* ---- what has been evaluated ---- */

static size_t n_words(size_t n_parts)
{
    return (n_parts + WORD_BITS - 1) / WORD_BITS;
}

static bool push_marks(struct run *r, struct frame *f)
{
    bool container = f->type == JSON_ARRAY || f->type == JSON_OBJECT;
    f->n_parts = r->schema->tracks && container ? json_len(f->subject.value) : 0;
    f->marks = r->n_marks;
    size_t need = n_words(f->n_parts);
    if (!need) {
        return true;
    }
    if (!json_schema__spend(r, need) ||
        !array_reserve(&r->marks, &r->marks_cap, r->n_marks + need, LIMIT_SCHEMA_SCRATCH / sizeof *r->marks,
                       "words of a JSON Schema's validation", &r->stop)) {
        return false;
    }
    memset(r->marks + r->n_marks, 0, need * sizeof *r->marks);
    r->n_marks += need;
    return true;
}

void json_schema__mark(struct run *r, const struct frame *f, size_t i)
{
    if (i < f->n_parts) {
        r->marks[f->marks + i / WORD_BITS] |= (uint64_t)1 << i % WORD_BITS;
    }
}

void json_schema__mark_all(struct run *r, const struct frame *f)
{
    if (f->n_parts) {
        memset(r->marks + f->marks, 0xff, n_words(f->n_parts) * sizeof *r->marks);
    }
}

bool json_schema__is_marked(const struct run *r, const struct frame *f, size_t i)
{
    return i < f->n_parts && (r->marks[f->marks + i / WORD_BITS] >> i % WORD_BITS & 1);
}

static void merge_marks(struct run *r, const struct frame *from)
{
    const struct frame *to = from->marks_of;
    for (size_t i = 0; to && i < n_words(from->n_parts); i++) {
        r->marks[to->marks + i] |= r->marks[from->marks + i];
    }
}

/* ---- problems ---- */

static int depth_of(const struct path *p)
{
    int depth = 0;
    for (; p; p = p->up) {
        depth++;
    }
    return depth;
}

/* The JSON Pointer; depth steps are known to be there. Deep paths are rare and short: quadratic, without recursion. */
static void put_path(struct buf *out, const struct path *path, int depth)
{
    for (int level = depth; level > 0; level--) {
        const struct path *p = path;
        for (int i = 1; i < level; i++) {
            p = p->up;
        }
        if (p->key.ptr) {
            json_pointer_put(out, p->key);
        } else {
            buf_printf(out, "/%zu", p->index);
        }
    }
}

static void copy_cut(char *to, size_t size, struct str s)
{
    bool fits = s.len < size;
    size_t n = fits ? s.len : utf8_cut(s, size - sizeof "...");
    memcpy(to, s.ptr ? s.ptr : "", n);
    memcpy(to + n, fits ? "" : "...", fits ? 1 : sizeof "...");
}

bool json_schema__fail(struct run *r, const struct frame *f, const char *keyword, const char *fmt, ...)
{
    struct buf at, msg;
    va_list args;
    int depth = r->why ? depth_of(f->path) : 0;
    if (!r->why || depth <= r->why_depth || !json_schema__spend(r, 8 + (size_t)(depth * depth) / 64)) {
        return false;
    }
    r->why_depth = depth;
    r->why->code = ERR_INVALID;
    buf_init(&at, KIB(4));
    put_path(&at, f->path, depth);
    copy_cut(r->why->at, sizeof r->why->at, buf_view(&at));
    snprintf(r->why->keyword, sizeof r->why->keyword, "%s", keyword);
    buf_init(&msg, KIB(16));
    if (depth) {
        buf_printf(&msg, "'%s' ", r->why->at);
    } else {
        buf_puts(&msg, "the value ");
    }
    va_start(args, fmt);
    buf_vprintf(&msg, fmt, args);
    va_end(args);
    copy_cut(r->why->msg, sizeof r->why->msg, buf_view(&msg));
    buf_release(&at);
    buf_release(&msg);
    return false;
}

/* ---- the walk ---- */

static bool rules_hold(struct run *r, struct frame *f)
{
    const struct node *n = f->node;
    if (n->is_bool) {
        return n->allows || json_schema__fail(r, f, "false", "must not be here.");
    }
    for (size_t i = 0; i < n->n_rules; i++) {
        const struct rule *rule = &n->rules[i];
        if (!json_schema__spend(r, 1)) {
            return false;
        }
        if ((rule->keyword->applies & TYPE_BIT(f->type)) && !rule->keyword->check(r, f, rule)) {
            return false;
        }
    }
    return true;
}

static bool evaluate(struct run *r, struct frame *f)
{
    bool ok = false;
    if (r->nested >= LIMIT_SCHEMA_NESTED) {
        return json_schema__stop(r, ERR_TOO_LARGE,
                                 "validation was given up: more than %d schemas lie within each other, or refer to "
                                 "themselves.",
                                 LIMIT_SCHEMA_NESTED);
    }
    r->nested++;
    f->type = json_schema__type(&f->subject);
    size_t digits = 0;
    if (f->type == JSON_INT || f->type == JSON_DOUBLE) {
        digits = json_number_text(f->subject.value).len;
        if (!digits) { /* it is kept from now on: whoever asks later gets it */
            json_schema__stop(r, ERR_NO_MEMORY, "no memory for the text of a number.");
        }
    }
    if (json_schema__spend(r, 1 + digits / 64) && push_marks(r, f)) {
        ok = rules_hold(r, f) && !json_schema__stopped(r);
    }
    if (ok) {
        merge_marks(r, f);
    }
    r->n_marks = f->marks;
    r->nested--;
    return ok;
}

bool json_schema__apply(struct run *r, struct frame *f, const struct node *node)
{
    struct frame inner = {.node = node, .subject = f->subject, .path = f->path, .outer = f, .marks_of = f};
    return evaluate(r, &inner);
}

bool json_schema__apply_part(struct run *r, struct frame *f, const struct node *node, const struct subject *part,
                             const struct path *way)
{
    struct frame inner = {.node = node, .subject = *part, .path = way, .outer = f};
    return evaluate(r, &inner);
}

bool json_schema__test(struct run *r, struct frame *f, const struct node *node)
{
    struct json_schema_problem *why = r->why;
    r->why = NULL;
    bool ok = json_schema__apply(r, f, node);
    r->why = why;
    return ok;
}

bool json_schema__test_part(struct run *r, struct frame *f, const struct node *node, const struct subject *part,
                            const struct path *way)
{
    struct json_schema_problem *why = r->why;
    r->why = NULL;
    bool ok = json_schema__apply_part(r, f, node, part, way);
    r->why = why;
    return ok;
}

bool json_schema_validate(const struct json_schema *s, const struct json *value, struct json_schema_problem *why)
{
    struct run r = {.schema = s, .why = why, .why_depth = -1, .steps = s->max_steps};
    struct frame f = {.node = s->root, .subject = {.value = value}};
    if (why) {
        *why = (struct json_schema_problem){0};
    }
    bool ok = evaluate(&r, &f);
    if (why && json_schema__stopped(&r)) {
        *why = (struct json_schema_problem){.code = r.stop.code};
        copy_cut(why->msg, sizeof why->msg, str_of(r.stop.msg));
    }
    json_schema__matcher_free(&r);
    free(r.marks);
    return ok;
}
