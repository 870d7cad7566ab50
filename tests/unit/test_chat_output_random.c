/* Random outputs in every syntax of every format: random calls with nested, quoted and non-ASCII arguments, and text
 * around them. They are written by the rows of the table, and what has to come out is written down beside them. Cut at
 * every byte, fed byte by byte and broken off at every byte. */
#include "base/array.h"
#include "chat/output_internal.h"
#include "tests/support/output_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define ROUNDS 12

struct writer {
    uint64_t seed;
    struct buf text, log;
    const struct call_syntax *s;
};

static uint32_t draw(struct writer *w, uint32_t n)
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->seed >> 33) % n;
}

static void put(struct writer *w, const char *text)
{
    buf_puts(&w->text, text ? text : "");
}

/* ---- tools ---- */

static const char definitions_json[] =
    "[{\"function\":{\"name\":\"find\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"text\":{\"type\":\"string\"},\"count\":{\"type\":\"integer\"},\"list\":{\"type\":\"array\"},\"any\":{}}}}},"
    "{\"function\":{\"name\":\"a-b_2\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"text\":{\"type\":[\"string\",\"null\"]},\"count\":{\"type\":\"number\"},\"list\":{\"type\":\"array\"}}}}}]";

static const char *const names[] = {"find", "a-b_2"};

/* ---- values ---- */

static void random_string(struct writer *w, struct buf *out)
{
    static const char *const parts[] = {"a", "xyz", " ", "\"",   "\\",      "\n", "é",  "日本", "😀",
                                        "<", "</",  ">", "{",    "}",       "[",  "]",  ":",    ",",
                                        "'", "\t",  "5", "name", "</param", "<|", "|>", "``"};
    for (uint32_t n = draw(w, 7); n > 0; n--) {
        buf_puts(out, parts[draw(w, ARRAY_LEN(parts))]);
    }
}

static void random_quoted(struct writer *w, struct buf *out)
{
    struct buf s;
    buf_init(&s, 1 << 16);
    random_string(w, &s);
    json_quote(out, buf_view(&s));
    buf_release(&s);
}

static void random_json(struct writer *w, struct buf *out, int depth)
{
    static const char *const plain[] = {"true", "false", "null", "0", "-1", "12.5e3", "1E-2"};
    uint32_t kind = draw(w, depth < 3 ? 5 : 3);
    if (kind == 0) {
        buf_puts(out, plain[draw(w, ARRAY_LEN(plain))]);
        return;
    }
    if (kind < 3) {
        random_quoted(w, out);
        return;
    }
    buf_putc(out, kind == 3 ? '[' : '{');
    for (uint32_t i = 0, n = draw(w, 3); i < n; i++) {
        buf_puts(out, i ? ", " : draw(w, 2) ? "" : "\n ");
        if (kind == 4) {
            buf_printf(out, "\"k%u\": ", i);
        }
        random_json(w, out, depth + 1);
    }
    buf_putc(out, kind == 3 ? ']' : '}');
}

static void random_object(struct writer *w, struct buf *out)
{
    buf_putc(out, '{');
    for (uint32_t i = 0, n = draw(w, 4); i < n; i++) {
        buf_printf(out, "%s\"key%u\":", i ? "," : "", i);
        random_json(w, out, 0);
    }
    buf_putc(out, '}');
}

/* ---- calls ---- */

static void log_call(struct writer *w, const char *name, const char *id)
{
    buf_printf(&w->log, "%sC %s", w->log.len ? "|" : "", name);
    if (id[0]) {
        buf_printf(&w->log, "#%s", id);
    }
    buf_puts(&w->log, "|A ");
}

static void json_call(struct writer *w, const char *name)
{
    struct buf args;
    bool keyed = !w->s->name_key, first = draw(w, 4) == 0, id = draw(w, 3) == 0, string = draw(w, 4) == 0;
    buf_init(&args, 1 << 20);
    id = id && !keyed;
    random_object(w, &args);
    log_call(w, name, id ? "id9" : "");
    buf_append(&w->log, buf_view(&args));
    put(w, id ? "{\"id\": \"id9\", " : "{ ");
    if (keyed) {
        buf_printf(&w->text, "\"%s\": " STR_FMT, name, STR_ARG(buf_view(&args)));
    }
    for (int i = 0; i < 2 && !keyed; i++) {
        put(w, i ? ", " : "");
        if ((i == 0) == first) {
            buf_printf(&w->text, "\"%s\": ", w->s->arguments_key);
            if (string) {
                json_quote(&w->text, buf_view(&args));
            } else {
                buf_append(&w->text, buf_view(&args));
            }
        } else {
            buf_printf(&w->text, "\"%s\":\"%s\"", w->s->name_key, name);
        }
    }
    put(w, "}");
    buf_release(&args);
}

static void named_call(struct writer *w, const char *name, uint32_t index)
{
    const struct call_syntax *s = w->s;
    char id[64] = "";
    size_t from = w->text.len;
    if (s->qualified) {
        snprintf(id, sizeof id, "functions.%s:%u", name, index);
    }
    put(w, s->item);
    put(w, id[0] ? id : name);
    put(w, s->name_ends[0].text);
    put(w, s->layout.after_name);
    log_call(w, name, id);
    from = w->text.len;
    random_object(w, &w->text);
    buf_append(&w->log, str_slice(buf_view(&w->text), from, w->text.len));
    put(w, s->layout.before_end);
    put(w, s->end[0]);
    put(w, s->end[1]);
}

static void tagged_value(struct writer *w, uint32_t i, struct buf *json)
{
    struct buf v;
    buf_init(&v, 1 << 20);
    put(w, w->s->newlines ? "\n" : "");
    if (i == 0) {
        do {
            buf_clear(&v);
            random_string(w, &v);
        } while (str_find(buf_view(&v), str_of(w->s->value_end)) != STR_NPOS);
        json_quote(json, buf_view(&v));
    } else if (i == 1) {
        buf_printf(&v, "%d", (int)draw(w, 2000) - 1000);
        buf_append(json, buf_view(&v));
    } else {
        buf_putc(&v, '[');
        random_json(w, &v, 1);
        buf_putc(&v, ']');
        buf_append(json, buf_view(&v));
    }
    buf_append(&w->text, buf_view(&v));
    put(w, w->s->newlines ? "\n" : "");
    buf_release(&v);
}

static const char *const keys[] = {"text", "count", "list"};

static void tagged_call(struct writer *w, const char *name)
{
    const struct call_syntax *s = w->s;
    bool any = false;
    put(w, s->item);
    put(w, name);
    put(w, s->name_ends[0].text);
    put(w, s->layout.after_name);
    log_call(w, name, "");
    buf_puts(&w->log, "{");
    for (uint32_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (draw(w, 3) == 0) {
            continue;
        }
        bool json = s->key_ends[0].use == MARK_STRING && i > 0;
        put(w, s->key);
        put(w, keys[i]);
        put(w, s->key_ends[json].text);
        put(w, s->layout.after_key);
        put(w, s->value);
        buf_printf(&w->log, "%s\"%s\":", any ? "," : "", keys[i]);
        tagged_value(w, i, &w->log);
        put(w, s->value_end);
        put(w, s->layout.after_value);
        any = true;
    }
    buf_puts(&w->log, "}");
    put(w, s->layout.before_end);
    put(w, s->end[0]);
    put(w, s->end[1]);
}

/* A string in the syntax's notation and in JSON. */
static void expression_string(struct writer *w)
{
    static const char escaped[] = "\\\"\n\t'", escapes[] = "\\\"nt'";
    struct buf v;
    buf_init(&v, 1 << 16);
    random_string(w, &v);
    json_quote(&w->log, buf_view(&v));
    put(w, w->s->quote ? w->s->quote : "\"");
    for (size_t i = 0; i < v.len; i++) {
        const char *e = strchr(escaped, v.data[i]);
        if (!w->s->quote && e && v.data[i]) {
            buf_putc(&w->text, '\\');
            buf_putc(&w->text, escapes[e - escaped]);
        } else {
            buf_putc(&w->text, v.data[i]);
        }
    }
    put(w, w->s->quote ? w->s->quote : "\"");
    buf_release(&v);
}

static void expression_value(struct writer *w, int depth)
{
    static const char *const python[] = {"True", "False", "None", "-7", "1.5"};
    static const char *const json[] = {"true", "false", "null", "-7", "1.5"};
    uint32_t kind = draw(w, depth < 2 ? 4 : 2), plain = draw(w, ARRAY_LEN(json));
    if (kind == 0) {
        put(w, w->s->quote ? json[plain] : python[plain]);
        buf_puts(&w->log, json[plain]);
        return;
    }
    if (kind == 1) {
        expression_string(w);
        return;
    }
    put(w, kind == 2 ? "[" : "{");
    buf_puts(&w->log, kind == 2 ? "[" : "{");
    for (uint32_t i = 0, n = draw(w, 3); i < n; i++) {
        put(w, i ? "," : "");
        buf_puts(&w->log, i ? "," : "");
        if (kind == 3) {
            buf_printf(&w->text, w->s->quote ? "k%u:" : "'k%u': ", i);
            buf_printf(&w->log, "\"k%u\":", i);
        }
        expression_value(w, depth + 1);
    }
    put(w, kind == 2 ? "]" : "}");
    buf_puts(&w->log, kind == 2 ? "]" : "}");
}

static void expression_call(struct writer *w, const char *name)
{
    put(w, w->s->item);
    put(w, name);
    put(w, w->s->name_ends[0].text);
    log_call(w, name, "");
    buf_puts(&w->log, "{");
    for (uint32_t i = 0, n = draw(w, 4); i < n; i++) {
        buf_printf(&w->text, "%skey%u%c", i ? (w->s->quote ? "," : ", ") : "", i, w->s->assign);
        buf_printf(&w->log, "%s\"key%u\":", i ? "," : "", i);
        expression_value(w, 0);
    }
    buf_printf(&w->text, "%c", w->s->closer);
    buf_puts(&w->log, "}");
}

static void call(struct writer *w, uint32_t index)
{
    const char *name = names[draw(w, 2)];
    switch (w->s->shape) {
    case CALL_JSON:
        json_call(w, name);
        break;
    case CALL_TAGGED:
        tagged_call(w, name);
        break;
    case CALL_EXPRESSION:
        expression_call(w, name);
        break;
    default:
        named_call(w, name, index);
    }
    buf_puts(&w->log, "|E ok");
}

static void block(struct writer *w, uint32_t index)
{
    const struct call_syntax *s = w->s;
    bool list = s->list || (s->shape == CALL_JSON && draw(w, 4) == 0);
    uint32_t n = s->layout.single && !list ? 1 : 1 + draw(w, 3);
    put(w, s->open);
    put(w, s->layout.after_open);
    put(w, list ? "[" : "");
    for (uint32_t i = 0; i < n; i++) {
        put(w, i ? (list ? ", " : s->layout.between ? s->layout.between : "") : "");
        call(w, index + i);
    }
    put(w, list ? "]" : "");
    put(w, s->layout.before_close);
    put(w, s->close);
}

/* Text in the answer before or after calls: no white space at its ends. */
static void text(struct writer *w)
{
    struct buf t;
    buf_init(&t, 1 << 16);
    buf_puts(&t, "It is ");
    random_string(w, &t);
    buf_puts(&t, ".");
    buf_append(&w->text, buf_view(&t));
    buf_printf(&w->log, "%sT " STR_FMT, w->log.len ? "|" : "", STR_ARG(buf_view(&t)));
    buf_release(&t);
}

static void reasoning(struct writer *w)
{
    put(w, draw(w, 2) ? "<think>\n" : "<think>");
    text(w);
    w->log.data[0] = 'R';
    put(w, draw(w, 2) ? "\n</think>\n\n" : "</think>");
}

static void write_output(struct writer *w)
{
    buf_clear(&w->text);
    buf_clear(&w->log);
    if (draw(w, 3) == 0) {
        reasoning(w);
    }
    if (w->s->open[0] && draw(w, 2)) {
        text(w);
        put(w, draw(w, 2) ? "\n" : "");
    }
    block(w, 0);
    if (w->s->layout.single && w->s->open[0]) {
        for (uint32_t n = draw(w, 3); n > 0; n--) {
            put(w, draw(w, 2) ? "\n" : "");
            block(w, 7);
        }
    }
    if (draw(w, 2)) {
        put(w, "\n\n");
        text(w);
    }
}

/* ---- checks ---- */

static void expect(const struct writer *w, const struct tool_format *f, const struct output_log *log, size_t cut)
{
    if (!str_eq(buf_view(&log->text), buf_view(&w->log))) {
        fail_msg("%s, cut at %zu:\n" STR_FMT "\n  want " STR_FMT "\n  got  " STR_FMT, tool_format_name(f), cut,
                 STR_ARG(buf_view(&w->text)), STR_ARG(buf_view(&w->log)), STR_ARG(buf_view(&log->text)));
    }
    assert_true(log->ordered);
}

/* Broken off: what was said before is a beginning of what the whole says, but for how the last call ends; before the
 * first call, nothing is lost. */
static void expect_beginning(const struct writer *w, const struct output_log *log, struct str fed)
{
    struct str got = buf_view(&log->text);
    if (str_find(got, STR("C ")) == STR_NPOS) {
        struct str t = str_trim(str_slice(got, 2, got.len));
        assert_true(str_starts(fed, STR("<think>")) || str_eq(str_trim(fed), t));
        return;
    }
    struct str sure = got;
    if (str_ends(got, STR("|E cut"))) {
        sure = str_slice(got, 0, got.len - 6);
        sure = str_ends(sure, STR("|A ")) ? str_slice(sure, 0, sure.len - 3) : sure;
    } else {
        size_t last = str_find(got, STR("|E ok"));
        assert_true(last != STR_NPOS);
        sure = str_slice(got, 0, last);
    }
    if (!str_starts(buf_view(&w->log), sure)) {
        fail_msg("broken off:\n" STR_FMT "\n  whole " STR_FMT "\n  got   " STR_FMT, STR_ARG(fed),
                 STR_ARG(buf_view(&w->log)), STR_ARG(got));
    }
}

static void check_output(const struct writer *w, const struct tool_format *f, const struct output_options *o)
{
    struct str whole = buf_view(&w->text);
    struct output_log log;
    struct error err = {0};
    for (size_t cut = whole.len + 1; cut-- > 0;) {
        assert_true(output_log_run(&log, o, whole, cut, &err));
        expect(w, f, &log, cut);
        buf_release(&log.text);
        assert_true(output_log_run(&log, o, str_slice(whole, 0, cut), STR_NPOS, &err));
        expect_beginning(w, &log, str_slice(whole, 0, cut));
        buf_release(&log.text);
    }
    for (size_t n = 1; n < 5; n++) {
        assert_true(output_log_run_by(&log, o, whole, n, &err));
        expect(w, f, &log, n);
        buf_release(&log.text);
    }
}

static void every_syntax(void **state)
{
    (void)state;
    struct error err = {0};
    struct json *definitions = json_parse(str_of(definitions_json), 0, &err);
    assert_non_null(definitions);
    for (size_t i = 0; i < tool_format_count(); i++) {
        const struct tool_format *f = tool_format_at(i);
        struct output_options o = {
            .tools = f, .reasoning = reasoning_format_find(STR("think")), .definitions = definitions};
        for (size_t k = 0; k < CALL_SYNTAXES && f->syntaxes[k]; k++) {
            struct writer w = {.seed = i * 1000 + k, .s = f->syntaxes[k]};
            if (w.s->shape == CALL_HARMONY) {
                continue;
            }
            buf_init(&w.text, 1 << 20);
            buf_init(&w.log, 1 << 20);
            for (int round = 0; round < ROUNDS; round++) {
                write_output(&w);
                check_output(&w, f, &o);
            }
            buf_release(&w.text);
            buf_release(&w.log);
        }
    }
    json_free(definitions);
}

/* No opener begins another, and no text mark of a format is left out for want of room. */
static void openers(void **state)
{
    (void)state;
    struct error err = {0};
    for (size_t i = 0; i < tool_format_count(); i++) {
        for (size_t r = 0; r < reasoning_format_count(); r++) {
            struct output_options o = {.tools = tool_format_at(i), .reasoning = reasoning_format_at(r)};
            struct output_parser *p = output_parser_create(&o, &err);
            assert_non_null(p);
            assert_true(p->n_marks < TEXT_MARKS);
            output_parser_free(p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_syntax), cmocka_unit_test(openers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
