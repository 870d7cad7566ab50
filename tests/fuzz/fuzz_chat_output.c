/* Any text as an output, in any pair of formats. Input: the tool format, the reasoning format (whose high bit says that
 * the prompt opened it), a seed for how the text is cut, then the text. However it is cut, the same comes out; what
 * ends a call is complete only where its arguments are JSON; and where no call was found, no byte is lost but white
 * space and markers of the reasoning. */
#include "base/utf8.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"
#include "tests/support/output_log.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char definitions_json[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"},\"n\":{\"type\":"
    "\"integer\"},\"o\":{\"type\":\"object\"},\"x\":{\"type\":[\"string\",\"null\"]}}}}},{\"function\":{\"name\":\"g\"}"
    "}]";

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

struct seen { /* of one run */
    struct output_log log;
    struct buf plain, arguments;
    size_t n_calls;
};

static void take(struct seen *s, struct output_parser *p)
{
    struct output_piece piece;
    struct error err = {0};
    while (output_parser_next(p, &piece)) {
        output_log_add(&s->log, &piece);
        if (piece.kind == OUTPUT_TEXT || piece.kind == OUTPUT_REASONING) {
            buf_append(&s->plain, piece.text);
        } else if (piece.kind == OUTPUT_CALL) {
            require(piece.text.len > 0);
            buf_clear(&s->arguments);
            s->n_calls++;
        } else if (piece.kind == OUTPUT_ARGUMENTS) {
            buf_append(&s->arguments, piece.text);
        } else if (piece.complete && utf8_valid(buf_view(&s->arguments))) {
            /* duplicate keys, lone surrogates and numbers out of range are JSON all the same; json.c refuses them */
            struct json *v = json_parse(buf_view(&s->arguments), 200, &err);
            require(!v || json_type(v) == JSON_OBJECT);
            require(s->arguments.len >= 2 && s->arguments.data[0] == '{' &&
                    s->arguments.data[s->arguments.len - 1] == '}');
            json_free(v);
        }
    }
}

static void run(struct seen *s, const struct output_options *o, struct str text, uint32_t cuts)
{
    struct error err = {0};
    *s = (struct seen){.log = {.ordered = true}};
    buf_init(&s->log.text, (size_t)1 << 28);
    buf_init(&s->plain, (size_t)1 << 26);
    buf_init(&s->arguments, (size_t)1 << 28);
    struct output_parser *p = output_parser_create(o, &err);
    require(p != NULL);
    while (text.len) {
        cuts = cuts * 1664525u + 1013904223u;
        size_t n = cuts ? 1 + (cuts >> 24) % 9 : text.len;
        require(output_parser_feed(p, str_slice(text, 0, n), &err));
        take(s, p);
        text = str_slice(text, n, text.len);
    }
    require(output_parser_end(p, &err));
    take(s, p);
    require(s->log.ordered);
    output_parser_free(p);
}

static void release(struct seen *s)
{
    buf_release(&s->log.text);
    buf_release(&s->plain);
    buf_release(&s->arguments);
}

static bool space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Without calls and reasoning, all that may be missing is white space. */
static void nothing_lost(const struct seen *s, struct str text)
{
    size_t i = 0;
    for (size_t k = 0; k < text.len; k++) {
        if (i < s->plain.len && s->plain.data[i] == text.ptr[k]) {
            i++;
        } else {
            require(space(text.ptr[k]));
        }
    }
    require(i == s->plain.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t whole = 0x9e3779b9u;
    struct error err = {0};
    if (size < 3) {
        return 0;
    }
    struct json *definitions = json_parse(str_of(definitions_json), 0, &err);
    struct output_options o = {.definitions = definitions, .in_reasoning = data[1] >> 7};
    size_t reasoning = data[1] & 0x7f;
    o.tools = data[0] < 255 ? tool_format_at(data[0] % tool_format_count()) : NULL;
    o.reasoning = reasoning < reasoning_format_count() ? reasoning_format_at(reasoning) : NULL;
    struct str text = {(const char *)data + 3, size - 3};
    struct seen one, two, three;
    run(&one, &o, text, data[2] + 1u);
    run(&two, &o, text, whole);
    require(str_eq(buf_view(&one.log.text), buf_view(&two.log.text)));
    struct output_options plain = {.tools = o.tools, .definitions = definitions};
    run(&three, &plain, text, data[2] + 1u);
    bool channels = o.tools && str_eq(str_of(tool_format_name(o.tools)), STR("harmony"));
    bool recipients = o.tools && str_eq(str_of(tool_format_name(o.tools)), STR("functionary-v3.2"));
    if (three.n_calls == 0 && !channels && !recipients) {
        nothing_lost(&three, text);
    }
    release(&one);
    release(&two);
    release(&three);
    json_free(definitions);
    return 0;
}
