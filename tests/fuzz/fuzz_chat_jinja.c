/* Chat templates over arbitrary text: one is compiled, and rendered within a small budget of steps, output and memory.
 * Whatever it says, it ends in text that keeps the budget and is valid UTF-8, or in an error that names its line.
 * Input: a template, or a first line that is a JSON object (the variables) and a template behind it. */
#include "base/utf8.h"
#include "chat/jinja.h"

#include <stdlib.h>

#define MAX_STEPS     100000
#define MAX_OUTPUT    ((size_t)256 << 10)
#define MAX_MEMORY    ((size_t)8 << 20)
#define CONTEXT_DEPTH 64
#define NOW_S         1700000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char default_context[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": [{\"type\": "
    "\"text\", \"text\": \"h\\u00e9llo \\ud83d\\ude00\"}]}, {\"role\": \"assistant\", \"content\": null, "
    "\"tool_calls\": [{\"id\": \"a1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": "
    "[1, 2.5, true, null]}}}]}, {\"role\": \"tool\", \"content\": \"42\"}], \"tools\": [{\"type\": \"function\", "
    "\"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": "
    "\"array\"}}}}}], \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_generation_prompt\": true, \"n\": 7, "
    "\"f\": -2.5, \"s\": \"Hello <b>W\\u00f6rld</b>\", \"xs\": [3, 1, 2], \"d\": {\"b\": 2, \"a\": 1}}";

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_error(const struct error *err)
{
    require(err->code == ERR_INVALID || err->code == ERR_TOO_LARGE);
    require(err->msg[0] != '\0' && utf8_valid(str_of(err->msg)));
}

static void render(const struct jinja_template *t, const struct json *context)
{
    const struct jinja_limits limits = {MAX_STEPS, MAX_OUTPUT, MAX_MEMORY};
    struct error err = {0};
    struct buf out;
    buf_init(&out, 2 * MAX_OUTPUT);
    buf_puts(&out, "before");
    if (!jinja_render(t, context, NOW_S, &limits, &out, &err)) {
        check_error(&err);
    }
    require(str_starts(buf_view(&out), STR("before")) && out.len <= MAX_OUTPUT + strlen("before"));
    require(utf8_valid(buf_view(&out)));
    buf_release(&out);
}

/* The variables of the first line, which is taken off the text; NULL when it is no object. */
static struct json *take_context(struct str *text)
{
    struct error ignored = {0};
    size_t end = str_find_char(*text, '\n');
    struct json *context = end == STR_NPOS ? NULL : json_parse(str_slice(*text, 0, end), CONTEXT_DEPTH, &ignored);
    if (json_type(context) != JSON_OBJECT) {
        json_free(context);
        return NULL;
    }
    *text = str_slice(*text, end + 1, text->len);
    return context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    char *copy = malloc(size ? size : 1); /* no NUL behind it */
    require(copy != NULL);
    if (size) {
        memcpy(copy, data, size);
    }
    struct str text = {copy, size};
    struct json *context = take_context(&text);
    context = context ? context : json_parse(str_of(default_context), 0, &err);
    require(context != NULL);
    struct jinja_template *t = jinja_compile(text, &err);
    free(copy); /* the template has its own */
    if (t) {
        render(t, context);
    } else {
        check_error(&err);
    }
    jinja_free(t);
    json_free(context);
    return 0;
}
