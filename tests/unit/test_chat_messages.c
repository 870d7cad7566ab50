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
    expect("{# developer #}" ALL, known, ARRAY_LEN(known));
}

static void test_members_stay(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[]", "[]"},
        {"[{\"role\": \"user\", \"content\": \"a\", \"name\": \"n\", \"x\": {\"y\": [1, 2.5, null, true]}}]",
         "[{\"role\": \"user\", \"content\": \"a\", \"name\": \"n\", \"x\": {\"y\": [1, 2.5, null, true]}}]"},
        {"[{\"content\": \"a\", \"role\": \"user\"}]", "[{\"content\": \"a\", \"role\": \"user\"}]"}};
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

#define CALL(content, arguments)                                                                                      \
    "[{\"role\": \"assistant\", \"content\": " content ", \"tool_calls\": [{\"id\": \"c\", \"function\": {\"name\": " \
    "\"f\", \"arguments\": " arguments "}}]}]"

static void test_arguments(void **state)
{
    (void)state;
    static const struct row objects[] = {
        {CALL("null", "\"{\\\"a\\\": [1]}\""), CALL("null", "{\"a\": [1]}")},
        {CALL("\"\"", "{\"a\": 1}"), CALL("\"\"", "{\"a\": 1}")},
        {CALL("\"t\"", "\"\""), CALL("\"t\"", "{}")},
        {CALL("\"t\"", "\" \\n\""), CALL("\"t\"", "{}")},
        {CALL("\"t\"", "\"[1]\""), CALL("\"t\"", "\"[1]\"")}, /* no object: stays as it is */
        {CALL("\"t\"", "\"{broken\""), CALL("\"t\"", "\"{broken\"")},
        {CALL("\"t\"", "null"), CALL("\"t\"", "null")},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": null}]",
         "[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": null}]"},
        {"[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": [{\"name\": \"f\", \"arguments\": \"{}\"}]}]",
         "[{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": [{\"name\": \"f\", \"arguments\": "
         "\"{}\"}]}]"}};
    expect(ALL, objects, ARRAY_LEN(objects));
    /* A template that joins them to a string gets a string. */
    static const struct row strings[] = {{CALL("\"t\"", "\"{\\\"a\\\": [1]}\""), "tf {\"a\": [1]}"},
                                         {CALL("\"t\"", "\"\""), "tf "}};
    expect(ARGUMENTS "{{ c.function.arguments + '' }}{% endfor %}{% endfor %}", strings, ARRAY_LEN(strings));
}

/* Content null beside tool calls stays null only for templates that do not print it. */
static void test_null_content(void **state)
{
    (void)state;
    static const struct row prints[] = {{CALL("null", "{}"), "f {}"}};
    static const struct row asks[] = {{CALL("null", "{}"), "none"}, {CALL("\"x\"", "{}"), "f {}"}};
    expect(ARGUMENTS "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}", prints, ARRAY_LEN(prints));
    expect("{% for m in messages %}{% if m.content is none and messages|length == 1 %}none{% elif m.tool_calls %}{% "
           "for c in "
           "m.tool_calls %}{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}{% else %}{{ m.content "
           "}}{% endif %}{% endfor %}",
           asks, ARRAY_LEN(asks));
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
         "[{\"role\": \"assistant\", \"content\": \"x\", \"reasoning_content\": null}]"}};
    expect(ALL, rows, ARRAY_LEN(rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_members_stay),
        cmocka_unit_test(test_content_as_string),
        cmocka_unit_test(test_content_as_parts),
        cmocka_unit_test(test_parts_without_text),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_null_content),
        cmocka_unit_test(test_reasoning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
