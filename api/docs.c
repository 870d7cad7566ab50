/* docs/API.md from the tables. */
#include "api/api_internal.h"

#include "base/array.h"

static void write_type(struct buf *out, const struct field *f)
{
    static const char *const names[] = {"boolean", "integer", "integer", "integer", "number",
                                        "number",  "string",  "",        "",        ""};
    if (f->kind == FIELD_DEFAULT) {
        if (f->accepts[0]) {
            buf_printf(out, "only `%s` or null", f->accepts);
        } else {
            buf_puts(out, "only null");
        }
    } else if (f->type) {
        buf_puts(out, f->type);
    } else {
        buf_puts(out, names[f->kind]);
        if (f->max > f->min && f->kind != FIELD_STR) {
            buf_printf(out, ", %.10g to %.10g", f->min, f->max);
        }
    }
}

static void begin_table(struct buf *out)
{
    buf_puts(out, "\n| field | type | |\n| --- | --- | --- |\n");
}

static void write_rows(struct buf *out, const struct field *fields)
{
    for (const struct field *f = fields; f->name; f++) {
        buf_printf(out, "| `%s` | ", f->name);
        write_type(out, f);
        buf_printf(out, " | %s |\n", f->help ? f->help : "");
    }
}

/* Tables that routes share have a section of their own, "Fields of ..." */
static const struct {
    const struct field *fields;
    const char *of;
} shared[] = {{api__common_fields, "OpenAI's generations"}, {api__house_fields, "every generation"}};

static const char *shared_name(const struct field *fields)
{
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        if (shared[i].fields == fields) {
            return shared[i].of;
        }
    }
    return NULL;
}

static void write_fields(struct buf *out, const struct route *r)
{
    int n_shared = 0;
    begin_table(out);
    for (int i = 0; i < r->n_fields; i++) {
        if (!shared_name(r->fields[i])) {
            write_rows(out, r->fields[i]);
        }
    }
    for (int i = 0; i < r->n_fields; i++) {
        const char *of = shared_name(r->fields[i]);
        if (of) {
            buf_printf(out, n_shared++ ? ", and of %s" : "\nAnd the fields of %s", of);
        }
    }
    buf_puts(out, n_shared ? " (below).\n" : "");
}

void app_write_docs(struct buf *out)
{
    buf_puts(out,
             "# HTTP API\n\nGenerated from the program's tables by `make docs`; do not edit.\n\n"
             "A field that is `null` counts as absent. A field that this list does not name, even null, is accepted\n"
             "and named in the reply's `X-Tandem-Ignored-Fields` header; with `--strict-fields` it is refused. The\n"
             "same goes for members of most other objects, by their own names, but not for those of messages,\n"
             "content parts, formats, metadata and, in chat completions, tools, which templates may look at. A value\n"
             "out of bounds is a 400 whose `param` names the field.\n\n"
             "Every reply has an `X-Request-Id`: the request's own, if that is one of 1 to 128 letters, digits and\n"
             "`-_.:+=@~` that begins with a letter or a digit, or else a new one. It is not the `id` of an answer's\n"
             "object. Below `/v1/messages`, and wherever a request has `anthropic-version`, errors have Anthropic's\n"
             "shape and the same id is in `Request-Id` too.\n");
    for (int i = 0; i < api__n_routes; i++) {
        const struct route *r = &api__routes[i];
        buf_printf(out, "\n## %s %s\n\n%s\n", r->method, r->path, r->help);
        if (r->n_fields) {
            write_fields(out, r);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        buf_printf(out, "\n## Fields of %s\n", shared[i].of);
        begin_table(out);
        write_rows(out, shared[i].fields);
    }
}
