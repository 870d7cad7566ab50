/* Messages on their way into a template: roles, content, arguments of tool calls and reasoning, as each kind of
 * template takes them. A template that writes its messages as JSON shows what it got. */
#include "chat/chat_template.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ALL       "{{ messages | tojson }}"
#define ARGUMENTS "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }} "

struct row {
    const char *messages, *text;
};

static bool render(const char *template, const char *messages_json, struct buf *out, struct error *err)
{
    struct json *messages = json_parse(str_of(messages_json), 0, err);
    assert_non_null(messages);
    struct chat_template *t = chat_template_create(str_of(template), NULL, err);
    assert_non_null(t);
    bool ok = chat_template_render(t, &(struct chat_render){.messages = messages}, out, err);
    chat_template_free(t);
    json_free(messages);
    return ok;
}

static void expect(const char *template, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct error err = {0};
        struct buf out;
        buf_init(&out, 1 << 20);
        if (!render(template, rows[i].messages, &out, &err)) {
            fail_msg("%s\n  failed: %s", rows[i].messages, err.msg);
        }
        buf_putc(&out, '\0');
        if (strcmp(out.data, rows[i].text) != 0) {
            fail_msg("%s\n  want %s\n  got  %s", rows[i].messages, rows[i].text, out.data);
        }
        buf_release(&out);
    }
}

static void test_roles(void **state)
{
    (void)state;
    static const struct row unknown[] = {
        {"[{\"role\": \"developer\", \"content\": \"x\"}]", "[{\"role\": \"system\", \"content\": \"x\"}]"},
        {"[{\"role\": \"critic\", \"content\": \"developer\", \"name\": \"developer\"}]",
         "[{\"role\": \"critic\", \"content\": \"developer\", \"name\": \"developer\"}]"}};
    static const struct row known[] = {
        {"[{\"role\": \"developer\", \"content\": \"x\"}]", "[{\"role\": \"developer\", \"content\": \"x\"}]"}};
    expect(ALL, unknown, ARRAY_LEN(unknown));
    expect("{# developer #}" ALL, unknown, ARRAY_LEN(unknown));
    expect("{# 'developer' #}" ALL, known, ARRAY_LEN(known));
}

static void test_members_stay(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[]", "[]"},
        {"[{\"role\": \"user\", \"content\": \"a\", \"name\": \"n\", \"x\": {\"y\": [1, 2.5, null, true]}}]",
         "[{\"role\": \"user\", \"content\": \"a\", \"name\": \"n\", \"x\": {\"y\": [1, 2.5, null, true]}}]"},
        {"[{\"content\": \"a\", \"role\": \"user\"}]", "[{\"content\": \"a\", \"role\": \"user\"}]"},
        /* what is null is absent, and a list without calls */
        {"[{\"role\": \"assistant\", \"content\": \"a\", \"refusal\": null, \"tool_calls\": null, \"name\": null}]",
         "[{\"role\": \"assistant\", \"content\": \"a\"}]"},
        {"[{\"role\": \"assistant\", \"content\": \"a\", \"tool_calls\": []}]",
         "[{\"role\": \"assistant\", \"content\": \"a\"}]"}};
    expect(ALL, rows, ARRAY_LEN(rows));
}

static void test_content_as_string(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", \"text\": "
         "\"b\"}]}]",
         "[{\"role\": \"user\", \"content\": \"a\\nb\"}]"},
        {"[{\"role\": \"user\", \"content\": [\"a\", {\"text\": \"b\"}]}]",
         "[{\"role\": \"user\", \"content\": \"a\\nb\"}]"},
        {"[{\"role\": \"user\", \"content\": []}]", "[{\"role\": \"user\", \"content\": \"\"}]"},
        {"[{\"role\": \"user\", \"content\": null}]", "[{\"role\": \"user\", \"content\": \"\"}]"},
        {"[{\"role\": \"user\"}]", "[{\"role\": \"user\", \"content\": \"\"}]"},
        {"[{\"role\": \"tool\", \"content\": {\"t\": 1}}]", "[{\"role\": \"tool\", \"content\": {\"t\": 1}}]"}};
    expect(ALL, rows, ARRAY_LEN(rows));
}

static void test_content_as_parts(void **state)
{
    (void)state;
    static const char both[] =
        "{% for m in messages %}{% if m.content is string %}<{{ m.content }}>{% else %}{% for p in "
        "m.content %}<{{ p.text if p.type == 'text' else p.type }}>{% endfor %}{% endif %}{% endfor "
        "%}",
                      only[] = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}";
    static const struct row rows[] = {
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", \"text\": "
         "\"b\"}]}]",
         "<a><b>"},
        {"[{\"role\": \"user\", \"content\": \"ab\"}]", "<ab>"}};
    static const struct row image[] = {
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"b\"}]}]",
         "<image><b>"}};
    expect(both, rows, ARRAY_LEN(rows));
    expect(only, rows, ARRAY_LEN(rows)); /* strings become one part */
    expect(both, image, ARRAY_LEN(image));
}

/* Each role is asked of its own: this template shows all parts of a user, the first of the system, none of the others.
 */
static void test_parts_of_roles(void **state)
{
    (void)state;
    static const char template[] =
        "{% for m in messages %}{% if m.content is string %}<{{ m.content }}>{% elif m.role == 'user' %}{% for p in "
        "m.content %}<{{ p.text }}>{% endfor %}{% elif m.role == 'system' %}<{{ m.content[0].text }}>{% else %}{{ "
        "raise_exception('no parts') }}{% endif %}{% endfor %}";
#define PARTS(role)                                                                                        \
    "[{\"role\": \"" role "\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", " \
    "\"text\": \"b\"}]}]"
    static const struct row rows[] = {{PARTS("user"), "<a><b>"},
                                      {PARTS("system"), "<a\nb>"},
                                      {PARTS("developer"), "<a\nb>"},
                                      {PARTS("assistant"), "<a\nb>"},
                                      {PARTS("tool"), "<a\nb>"}};
    expect(template, rows, ARRAY_LEN(rows));
}

static void test_parts_without_text(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1000);
    assert_false(render(ALL,
                        "[{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": [{\"type\": "
                        "\"image_url\", \"image_url\": {\"url\": \"u\"}}]}]",
                        &out, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.param, "messages[1].content");
    assert_string_equal(err.msg, "messages[1].content has a part that is no text; this model takes text only.");
    buf_release(&out);
}

#define CALL_WITH(content, arguments)                                                                         \
    "[{\"role\": \"assistant\", " content "\"tool_calls\": [{\"id\": \"c\", \"function\": {\"name\": \"f\", " \
    "\"arguments\": " arguments "}}]}]"
#define CALL(arguments) CALL_WITH("\"content\": \"t\", ", arguments)

static void test_arguments(void **state)
{
    (void)state;
    static const struct row objects[] = {
        {CALL("\"{\\\"a\\\": [1]}\""), CALL("{\"a\": [1]}")},
        {CALL("{\"a\": 1}"), CALL("{\"a\": 1}")},
        {CALL("\"\""), CALL("{}")},
        {CALL("\" \\n\""), CALL("{}")},
        {CALL("\"[1]\""), CALL("\"[1]\"")}, /* no object: stays as it is */
        {CALL("\"{broken\""), CALL("\"{broken\"")},
        {CALL("null"), CALL("null")},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": [{\"name\": \"f\", \"arguments\": \"{}\"}]}]",
         "[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": [{\"name\": \"f\", \"arguments\": "
         "\"{}\"}]}]"}};
    expect(ALL, objects, ARRAY_LEN(objects));
    /* A template that joins them to a string gets a string. */
    static const struct row strings[] = {{CALL("\"{\\\"a\\\": [1]}\""), "tf {\"a\": [1]}"}, {CALL("\"\""), "tf "}};
    expect(ARGUMENTS "{{ c.function.arguments + '' }}{% endfor %}{% endfor %}", strings, ARRAY_LEN(strings));
}

/* Content that says nothing beside tool calls, in each way to say it. */
#define EMPTY_ROWS(text)                                                                                    \
    {                                                                                                       \
        {CALL_WITH("", "{}"), text}, {CALL_WITH("\"content\": null, ", "{}"), text},                        \
            {CALL_WITH("\"content\": \"\", ", "{}"), text}, {CALL("{}"), "[t]f"},                           \
            {"[{\"role\": \"assistant\", \"content\": null}]", "[]"}, /* no calls: an empty text, always */ \
    }

static void test_empty_content(void **state)
{
    (void)state;
#define NAMES "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments.probe_name }}{% endfor %}"
    /* The first form that shows the calls: absent, null, an empty text. */
    static const struct row absent[] = EMPTY_ROWS("f"), null[] = EMPTY_ROWS("nonef"), empty[] = EMPTY_ROWS("[]f");
    expect("{% for m in messages %}{% if m.content is defined %}[{{ m.content }}]{% endif %}" NAMES "{% endfor %}",
           absent, ARRAY_LEN(absent));
    expect("{% for m in messages %}{{ 'none' if m.content is none else '[' + m.content + ']' }}" NAMES "{% endfor %}",
           null, ARRAY_LEN(null));
    expect("{% for m in messages %}{{ '[' + m.content + ']' }}" NAMES "{% endfor %}", empty, ARRAY_LEN(empty));
}

/* ---- results ---- */

#define CALLED(id)   "{\"id\": \"" id "\", \"function\": {\"name\": \"f_" id "\", \"arguments\": {}}}"
#define ANSWERED(id) "{\"role\": \"tool\", \"tool_call_id\": \"" id "\", \"content\": \"r\"}"
#define ROUND(results) \
    "[{\"role\": \"assistant\", \"tool_calls\": [" CALLED("call_1") ", " CALLED("call_2") "]}, " results "]"
#define RESULTS \
    "{% for m in messages if m.role == 'tool' %}<{{ m.tool_call_id }} {{ m.name }}>{{ m.content }}{% endfor %}"
#define IDS                                                                                                         \
    "{% for m in messages %}{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.arguments.probe_name }}]{% " \
    "endfor %}{% endfor %}" RESULTS

static void test_names_of_results(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {ROUND(ANSWERED("call_1") ", " ANSWERED("call_2")), "<call_1 f_call_1>r<call_2 f_call_2>r"},
        {ROUND(ANSWERED("call_2") ", " ANSWERED("call_1")), "<call_2 f_call_2>r<call_1 f_call_1>r"},
        {ROUND(ANSWERED("call_1") ", " ANSWERED("call_1")), "<call_1 f_call_1>r<call_1 f_call_1>r"},
        {ROUND(ANSWERED("other")), "<other >r"},
        {"[" ANSWERED("call_1") "]", "<call_1 >r"},
        {ROUND("{\"role\": \"tool\", \"name\": \"own\", \"tool_call_id\": \"call_1\", \"content\": \"r\"}"),
         "<call_1 own>r"},
        {ROUND("{\"role\": \"tool\", \"name\": null, \"tool_call_id\": \"call_1\", \"content\": \"r\"}"),
         "<call_1 f_call_1>r"},
        {ROUND("{\"role\": \"tool\", \"content\": \"r\"}"), "< >r"}};
    expect(RESULTS, rows, ARRAY_LEN(rows));
}

/* Ids of nine letters or digits where the template insists on them, the same for call and result. */
static void test_ids(void **state)
{
    (void)state;
    static const char nine[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id|length != 9 %}{{ raise_exception('nine') "
        "}}{% endif %}{{ c.function.name if 'probe' in c.function.name }}{% endfor %}{% endfor %}" IDS;
    static const struct row adapted[] = {
        {ROUND(ANSWERED("call_1") ", " ANSWERED("call_2")),
         "[74196fe72 ][1b68f83fa ]<74196fe72 f_call_1>r<1b68f83fa f_call_2>r"},
        {"[{\"role\": \"assistant\", \"tool_calls\": [" CALLED("abcDEF123") "]}, " ANSWERED("abcDEF123") "]",
         "[abcDEF123 ]<abcDEF123 f_abcDEF123>r"},
        {"[{\"role\": \"assistant\", \"tool_calls\": [" CALLED("call-1234") "]}, " ANSWERED("call-1234") "]",
         "[c9cec3876 ]<c9cec3876 f_call-1234>r"}};
    expect(nine, adapted, ARRAY_LEN(adapted));
    static const struct row given[] = {{ROUND(ANSWERED("call_2")), "[call_1 ][call_2 ]<call_2 f_call_2>r"}};
    expect(
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name if 'probe' in c.function.name }}{% "
        "endfor %}{% endfor %}" IDS,
        given, ARRAY_LEN(given));
    /* A template with ids of its own for calls. */
    static const struct row own[] = {
        {ROUND(ANSWERED("call_2") ", " ANSWERED("call_1") ", " ANSWERED("other")),
         "[functions.f_call_1:0 ][functions.f_call_2:1 ]<functions.f_call_2:1 f_call_2>r<functions.f_call_1:0 "
         "f_call_1>r<other >r"}};
    expect(
        "{% for m in messages %}{% for c in m.tool_calls or [] %}[functions.{{ c.function.name }}:{{ loop.index0 }} {{ "
        "c.function.arguments.probe_name }}]{% endfor %}{% endfor %}" RESULTS,
        own, ARRAY_LEN(own));
}

/* More calls in one message than are searched through: in their order, their results still find them. */
static void test_many_calls(void **state)
{
    (void)state;
    enum { N = 1000 };
    struct error err = {0};
    struct buf messages, out;
    buf_init(&messages, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_puts(&messages, "[{\"role\": \"assistant\", \"tool_calls\": [");
    for (int i = 0; i < N; i++) {
        buf_printf(&messages, "%s{\"id\": \"c%d\", \"function\": {\"name\": \"f%d\"}}", i ? "," : "", i, i);
    }
    buf_puts(&messages, "]}");
    for (int i = 0; i < N; i++) {
        buf_printf(&messages, ", {\"role\": \"tool\", \"tool_call_id\": \"c%d\", \"content\": \"\"}", i);
    }
    buf_puts(&messages, "]");
    assert_true(render("{% for m in messages if m.role == 'tool' and m.name[1:] == m.tool_call_id[1:] %}.{% endfor %}",
                       messages.data, &out, &err));
    assert_int_equal(out.len, N);
    buf_release(&messages);
    buf_release(&out);
}

static void test_reasoning(void **state)
{
    (void)state;
    static const char shown[] = "[{\"thinking\": \"t\", \"role\": \"assistant\", \"content\": \"x\", "
                                "\"reasoning_content\": \"t\"}]";
    static const struct row rows[] = {
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning_content\": \"t\"}]", shown},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"thinking\": \"t\"}]",
         "[{\"role\": \"assistant\", \"content\": \"x\", \"thinking\": \"t\", \"reasoning_content\": \"t\"}]"},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning\": \"t\"}]",
         "[{\"thinking\": \"t\", \"role\": \"assistant\", \"content\": \"x\", \"reasoning\": \"t\", "
         "\"reasoning_content\": \"t\"}]"},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning_content\": null}]",
         "[{\"role\": \"assistant\", \"content\": \"x\"}]"},
        {"[{\"role\": \"assistant\", \"thinking\": null, \"content\": \"x\", \"reasoning_content\": \"t\"}]", shown}};
    expect(ALL, rows, ARRAY_LEN(rows));
}

/* A template that takes reasoning as a part of the content. */
static void test_thinking_parts(void **state)
{
    (void)state;
    static const char template[] =
        "{% for m in messages %}{% if m.content is string %}[{{ m.content }}]{% else %}{% for p in m.content or [] "
        "%}{% if "
        "p.type == 'thinking' %}<{{ p.thinking }}>{% else %}[{{ p.text }}]{% endif %}{% endfor %}{% endif %}{% for c "
        "in "
        "m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments.probe_name }}{% endfor %}{% endfor %}";
    static const struct row rows[] = {
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning_content\": \"t\"}]", "<t>[x]"},
        {"[{\"role\": \"assistant\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"u\", \"reasoning\": "
         "\"t\"}]",
         "[x][u]"},
        {"[{\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", "
         "\"text\": "
         "\"b\"}], \"reasoning\": \"t\"}]",
         "<t>[a][b]"},
        {"[{\"role\": \"assistant\", \"content\": [{\"type\": \"thinking\", \"thinking\": \"own\"}], \"thinking\": "
         "\"t\"}]",
         "<own>"},
        {"[{\"role\": \"assistant\", \"content\": null, \"reasoning_content\": \"t\", \"tool_calls\": [{\"id\": \"c\", "
         "\"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}]",
         "<t>f"},
        {"[{\"role\": \"assistant\", \"reasoning_content\": \"t\"}]", "<t>"}};
    expect(template, rows, ARRAY_LEN(rows));
    /* One that writes down what it does not know gets none. */
    static const struct row unknown[] = {
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning_content\": \"t\"}]", "x"}};
    expect(
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content or [] %}{{ "
        "p.text or p | tojson }}{% endfor %}{% endif %}{% endfor %}",
        unknown, ARRAY_LEN(unknown));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_members_stay),
        cmocka_unit_test(test_content_as_string),
        cmocka_unit_test(test_content_as_parts),
        cmocka_unit_test(test_parts_of_roles),
        cmocka_unit_test(test_parts_without_text),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_empty_content),
        cmocka_unit_test(test_names_of_results),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_many_calls),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_thinking_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
