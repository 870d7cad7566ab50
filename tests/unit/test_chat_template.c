/* Chat templates: where they come from, what is found out about them, the variables they get, open last messages, and
 * errors that name the field. Equality with transformers is the business of tests/parity/check_templates.py. */
#include "chat/chat_template.h"

#include "base/array.h"
#include "tensor/gguf_writer.h"
#include "tests/support/vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW_S 1700000000

#define CHATML                                                                                       \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if " \
    "add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define USER "{\"role\": \"user\", \"content\": \"Hi\"}"

/* request: {"messages": [...], "tools": [...], "kwargs": {...}, "add_generation_prompt": true, "continue": true} */
static bool render(const char *template, const char *request, struct buf *out, struct error *err)
{
    struct json *r = json_parse(str_of(request), 0, err);
    assert_non_null(r);
    struct chat_template *t = chat_template_create(str_of(template), NULL, err);
    assert_non_null(t);
    bool ok = chat_template_render(
        t,
        &(struct chat_render){.messages = json_get(r, "messages"),
                              .tools = json_get(r, "tools"),
                              .kwargs = json_get(r, "kwargs"),
                              .add_generation_prompt = json_bool(json_get(r, "add_generation_prompt")),
                              .continue_final_message = json_bool(json_get(r, "continue")),
                              .now_s = NOW_S},
        out, err);
    chat_template_free(t);
    json_free(r);
    return ok;
}

static void expect_text(const char *template, const char *request, const char *text)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    if (!render(template, request, &out, &err)) {
        fail_msg("%s\n  failed: %s", request, err.msg);
    }
    buf_putc(&out, '\0');
    if (strcmp(out.data, text) != 0) {
        fail_msg("%s\n  want %s\n  got  %s", request, text, out.data);
    }
    buf_release(&out);
}

static void expect_error(const char *template, const char *request, const char *param, const char *message)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    if (render(template, request, &out, &err)) {
        fail_msg("%s\n  gave text, but should fail: %s", request, message);
    }
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, message);
    assert_string_equal(err.param, param);
    buf_release(&out);
}

/* ---- rendering ---- */

static void test_plain(void **state)
{
    (void)state;
    expect_text(CHATML, "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, " USER "]}",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    expect_text(CHATML, "{\"messages\": [" USER "], \"add_generation_prompt\": true}",
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    expect_text(CHATML, "{\"messages\": []}", "");
    expect_text(CHATML,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"{{ 1 }} {% if %} \\u0000 \\ud83d\\ude00\"}]}",
                "<|im_start|>user\n{{ 1 }} {% if %} "); /* a NUL is a character like others: compared up to it */
}

static void test_nul_in_content(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1000);
    assert_true(render("{% for m in messages %}[{{ m.content }}]{% endfor %}",
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u0000b\"}]}", &out, &err));
    assert_true(str_eq(buf_view(&out), STR("[a\0b]")));
    buf_release(&out);
}

static void test_appends(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1000);
    buf_puts(&out, "before|");
    assert_true(render(CHATML,
                       "{\"messages\": [" USER ", {\"role\": \"assistant\", \"content\": \"It is\"}], \"continue\": "
                       "true}",
                       &out, &err));
    assert_string_equal(out.data, "before|<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nIt is");
    buf_release(&out);
}

static void test_variables(void **state)
{
    (void)state;
    static const char template[] =
        "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token is defined }} {{ x }}";
    expect_text(template, "{\"messages\": []}", "True True False False ");
    expect_text(template,
                "{\"messages\": [], \"tools\": [{\"type\": \"function\"}], \"kwargs\": {\"x\": {\"a\": [1, null]}, "
                "\"documents\": [], \"bos_token\": \"<b>\"}, \"add_generation_prompt\": true}",
                "False False True True {'a': [1, None]}");
    expect_text("{{ enable_thinking is defined and enable_thinking is false }}",
                "{\"messages\": [], \"kwargs\": {\"enable_thinking\": false}}", "True");
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    expect_text("{{ strftime_now('%Y-%m-%d') }}", "{\"messages\": []}", "2023-11-14");
}

static void test_tools(void **state)
{
    (void)state;
    static const char template[] =
        "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content or "
        "'' }}{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor "
        "%}{% endfor %}";
    expect_text(template,
                "{\"messages\": [" USER
                ", {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"c1\", "
                "\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"b\\\": 1, \\\"a\\\": "
                "[2.50]}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"c1\", \"content\": \"42\"}], \"tools\": "
                "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]}",
                "{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n<user>Hi<assistant>[f {\"b\": 1, \"a\": "
                "[2.5]}]<tool>42");
}

/* Tools that are no more than a name, for templates that take these and for those that do not. */
static void test_whole_tools(void **state)
{
    (void)state;
#define TOOLS(tools)      "{\"messages\": [], \"tools\": [" tools "]}"
#define FUNCTION(members) TOOLS("{\"type\": \"function\", \"function\": {\"name\": \"f\"" members "}, \"x\": 1}")
    static const char any[] = "{% for t in tools %}{{ t | tojson }}{% endfor %}",
                      whole[] = "{% for t in tools %}{{ t | tojson }}{{ t.function.description + '' }}{% for k in "
                                "t.function.parameters.properties.keys() %}<{{ k }}>{% endfor %}{% endfor %}";
    expect_text(any, FUNCTION(""), "{\"type\": \"function\", \"function\": {\"name\": \"f\"}, \"x\": 1}");
    static const char made[] = "{\"type\": \"function\", \"x\": 1, \"function\": {\"name\": \"f\", \"description\": "
                               "\"\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}}";
    expect_text(whole, FUNCTION(""), made);
    expect_text(whole, FUNCTION(", \"parameters\": {}"), made);
    expect_text(whole, FUNCTION(", \"description\": null, \"parameters\": null"), made);
    expect_text(whole, FUNCTION(", \"parameters\": {\"type\": null, \"properties\": null}"), made);
    expect_text(whole, FUNCTION(", \"description\": \"d\", \"parameters\": {\"properties\": {\"a\": {}}}"),
                "{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"d\", \"parameters\": "
                "{\"properties\": {\"a\": {}}}}, \"x\": 1}d<a>");
    expect_error(whole, TOOLS("{\"name\": \"f\"}"), "", "template line 1: 'dict object' has no attribute 'function'");
}

/* ---- the last message stays open ---- */

#define CONTINUE(content) \
    "{\"messages\": [" USER ", {\"role\": \"assistant\", \"content\": " content "}], \"continue\": true}"

static void test_continue(void **state)
{
    (void)state;
    static const char head[] = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    char want[200];
    static const struct {
        const char *request, *tail;
    } rows[] = {
        {CONTINUE("\"It is\""), "It is"},
        {CONTINUE("\"It is \\n\""), "It is \n"},
        {CONTINUE("\"\""), ""},
        {CONTINUE("\"Hi\""), "Hi"},
        {CONTINUE("[{\"type\": \"text\", \"text\": \"It\"}, {\"type\": \"text\", \"text\": \"is\"}]"), "It\nis"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(want, sizeof want, "%s%s", head, rows[i].tail);
        expect_text(CHATML, rows[i].request, want);
    }
    /* A template that trims cuts the blanks, and the text goes on behind them. */
    expect_text("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}", CONTINUE("\" It is \""),
                "<user>Hi</s><assistant>It is");
    /* One that takes parts: the last of them stays open. */
    expect_text("{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in "
                "m.content %}{{ p.text }}{% endfor %}{% endif %}</s>{% endfor %}",
                CONTINUE("[{\"type\": \"text\", \"text\": \"It\"}, {\"type\": \"text\", \"text\": \" is\"}]"),
                "<user>Hi</s><assistant>It is");
}

static void test_continue_errors(void **state)
{
    (void)state;
    static const char param[] = "continue_final_message";
    expect_error(CHATML, "{\"messages\": [" USER "], \"continue\": true, \"add_generation_prompt\": true}", param,
                 "continue_final_message and add_generation_prompt exclude each other.");
    expect_error(CHATML, "{\"messages\": [], \"continue\": true}", param,
                 "continue_final_message is set, but there are no messages.");
    expect_error(CHATML, CONTINUE("null"), param,
                 "continue_final_message is set, but the final message has no text to continue.");
    expect_error("{% for m in messages %}{{ m.role }}{% endfor %}", CONTINUE("\"x\""), param,
                 "continue_final_message is set, but the chat template does not use the content.");
    expect_error("{% for m in messages %}{{ m.content | upper }}{% endfor %}", CONTINUE("\"It is\""), param,
                 "continue_final_message is set, but the chat template does not show the final message as it is.");
    expect_error("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", CONTINUE("\"It is\""), param,
                 "continue_final_message is set, but the chat template does not show the final message as it is.");
}

/* ---- errors ---- */

static void test_errors(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(chat_template_create(STR("{% if %}"), NULL, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "template line 1: "));
    expect_error("{% for m in messages %}{% if m.role not in ['user'] %}{{ raise_exception('No ' ~ m.role) }}{% endif "
                 "%}{% endfor %}",
                 "{\"messages\": [{\"role\": \"critic\", \"content\": \"x\"}]}", "", "No critic");
    expect_error("a\n{{ nowhere.x }}", "{\"messages\": []}", "", "template line 2: 'nowhere' is undefined");
    expect_error(CHATML, "{\"messages\": [" USER ", 5]}", "messages", "messages[1] is not an object.");
    expect_error(CHATML, "{\"messages\": [], \"kwargs\": {\"messages\": []}}", "chat_template_kwargs",
                 "chat_template_kwargs may not set 'messages': the request has a field for it.");
    expect_error(CHATML, "{\"messages\": [], \"kwargs\": {\"tools\": []}}", "chat_template_kwargs",
                 "chat_template_kwargs may not set 'tools': the request has a field for it.");
    expect_error(CHATML, "{\"messages\": [], \"kwargs\": {\"add_generation_prompt\": true}}", "chat_template_kwargs",
                 "chat_template_kwargs may not set 'add_generation_prompt': the request has a field for it.");
}

/* ---- what a template can take ---- */

#define CALLS "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"

static void test_caps(void **state)
{
    (void)state;
    static const struct {
        const char *template;
        struct chat_caps caps;
    } rows[] = {
        {CHATML, {.system_role = true, .late_system = true, .tool_role = true}},
        {"", {0}},
        {"{{ raise_exception('never') }}", {0}},
        {"{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% "
         "endfor "
         "%}",
         {.tool_role = true}},
        {"{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}{% endif "
         "%}{{ "
         "m.content }}{% endfor %}",
         {.system_role = true, .tool_role = true}},
        {"{% for m in messages %}{% if m.role in ['user', 'developer'] %}{{ m.content }}{% endif %}{% endfor %}",
         {.developer_role = true}},
        {"{# developers #}{% for m in messages %}{{ m.content }}{% endfor %}",
         {.system_role = true, .late_system = true, .tool_role = true}},
        {"{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ "
         "p.text "
         "}}{% endfor %}{% endif %}{% endfor %}",
         {.system_role = true, .late_system = true, .content_parts = true, .tool_role = true}},
        {"{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif "
         "%}{% endfor %}", /* would lose all but the first */
         {.system_role = true, .late_system = true, .tool_role = true}},
        {"{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
         {.system_role = true, .late_system = true, .content_parts = true, .tool_role = true}},
        {"{{ tools | tojson }}{% for m in messages %}{{ m.content or '' }}" CALLS "{% endfor %}",
         {.system_role = true, .late_system = true, .tools = true, .tool_calls = true, .tool_role = true}},
        {"{% for m in messages if m.role != 'tool' %}{{ m.content or '' }}" CALLS "{% endfor %}",
         {.system_role = true, .late_system = true, .tool_calls = true}},
        {"{% for m in messages %}{{ m.content }}{{ m.reasoning_content }}{% endfor %}",
         {.system_role = true, .late_system = true, .tool_role = true, .reasoning = true}},
        {"{% for m in messages %}{{ m.content }}{% if thinking is defined %}{{ m.reasoning_content }}{% endif %}{% "
         "endfor "
         "%}",
         {.system_role = true, .late_system = true, .tool_role = true, .reasoning = true}},
        {"{% for i in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}", {0}}, /* is given up on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        struct chat_template *t = chat_template_create(str_of(rows[i].template), NULL, &err);
        assert_non_null(t);
        struct chat_caps got = chat_template_caps(t), want = rows[i].caps;
        if (memcmp(&got, &want, sizeof got) != 0) {
            fail_msg("%s\n  system %d late %d developer %d parts %d tools %d calls %d tool %d reasoning %d",
                     rows[i].template, got.system_role, got.late_system, got.developer_role, got.content_parts,
                     got.tools, got.tool_calls, got.tool_role, got.reasoning);
        }
        assert_true(str_eq(chat_template_source(t), str_of(rows[i].template)));
        chat_template_free(t);
    }
}

/* ---- model files ---- */

struct made {
    struct buf bytes;
    struct model_file *file;
    struct tokenizer *tokenizer;
};

/* A small vocabulary with its special tokens, and the templates unless they are NULL. */
static struct made make(const char *template, const char *tool_use)
{
    static const struct str tokens[] = {STR("a"), STR("b"), STR("<s>"), STR("</s>"), STR("<pad>"), STR("<unk>")},
                            merges[] = {STR("a b")};
    static const int32_t types[] = {1, 1, 3, 3, 3, 2};
    struct made m = {0};
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(w, "tokenizer.ggml.pre", STR("gpt-2"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, ARRAY_LEN(tokens));
    gguf_put_str_array(w, "tokenizer.ggml.merges", merges, ARRAY_LEN(merges) - 1);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, ARRAY_LEN(types));
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 2);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 3);
    gguf_put_int(w, "tokenizer.ggml.padding_token_id", GGUF_U32, 4);
    if (template) {
        gguf_put_str(w, "tokenizer.chat_template", str_of(template));
    }
    if (tool_use) {
        gguf_put_str(w, "tokenizer.chat_template.tool_use", str_of(tool_use));
    }
    buf_init(&m.bytes, (size_t)1 << 20);
    assert_true(gguf_write_buf(w, &m.bytes, &err));
    gguf_writer_free(w);
    m.file = model_file_open_memory(m.bytes.data, m.bytes.len, &err);
    assert_non_null(m.file);
    m.tokenizer = tokenizer_from_model_file(m.file, &err);
    assert_non_null(m.tokenizer);
    return m;
}

static void release(struct made *m)
{
    tokenizer_free(m->tokenizer);
    model_file_close(m->file);
    buf_release(&m->bytes);
}

static void test_from_model(void **state)
{
    (void)state;
    static const char template[] = "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ sep_token is defined }}";
    struct error err = {0};
    struct buf out;
    struct made m = make(template, NULL);
    struct json *messages = json_parse(STR("[]"), 0, &err),
                *kwargs = json_parse(STR("{\"bos_token\": \"B\"}"), 0, &err);
    struct chat_template *t = chat_template_from_model_file(m.file, m.tokenizer, &err);
    assert_non_null(t);
    assert_true(str_eq(chat_template_source(t), str_of(template)));
    buf_init(&out, 1000);
    assert_true(chat_template_render(t, &(struct chat_render){.messages = messages}, &out, &err));
    assert_string_equal(out.data, "<s></s><pad>False");
    buf_clear(&out);
    assert_true(chat_template_render(t, &(struct chat_render){.messages = messages, .kwargs = kwargs}, &out, &err));
    assert_string_equal(out.data, "B</s><pad>False");
    buf_release(&out);
    json_free(messages);
    json_free(kwargs);
    chat_template_free(t);
    release(&m);
}

/* A template named tool_use renders requests with tools. */
static void test_tool_use(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    struct made m = make("plain{% for m in messages %}{{ m.content }}{% endfor %}",
                         "tools{% for t in tools %}{{ t.function.name }}{% endfor %}{{ messages[0].content }}");
    struct json *messages = json_parse(STR("[" USER "]"), 0, &err),
                *tools = json_parse(STR("[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]"), 0, &err);
    struct chat_template *t = chat_template_from_model_file(m.file, m.tokenizer, &err);
    assert_non_null(t);
    assert_true(chat_template_caps(t).tools && chat_template_caps(t).system_role);
    buf_init(&out, 1000);
    assert_true(chat_template_render(t, &(struct chat_render){.messages = messages}, &out, &err));
    assert_string_equal(out.data, "plainHi");
    buf_clear(&out);
    assert_true(chat_template_render(t, &(struct chat_render){.messages = messages, .tools = tools}, &out, &err));
    assert_string_equal(out.data, "toolsfHi");
    buf_release(&out);
    json_free(messages);
    json_free(tools);
    chat_template_free(t);
    release(&m);
}

static void test_model_without(void **state)
{
    (void)state;
    struct error err = {0};
    struct made m = make(NULL, NULL), bad = make("a\n{% for %}", NULL), worse = make("a", "{% for %}");
    assert_null(chat_template_from_model_file(m.file, m.tokenizer, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "the model has no chat template (tokenizer.chat_template).");
    assert_null(chat_template_from_model_file(bad.file, bad.tokenizer, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_true(str_starts(str_of(err.msg), STR("chat template of the model: template line 2: ")));
    err = (struct error){0};
    assert_null(chat_template_from_model_file(worse.file, worse.tokenizer, &err));
    assert_true(str_starts(str_of(err.msg), STR("chat template of the model for tool use: template line 1: ")));
    release(&m);
    release(&bad);
    release(&worse);
}

static void test_real_model(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    char *path = real_model_path("smollm2-135m-instruct-q4_1.gguf");
    if (!path) {
        print_message("skip: the model is not there\n");
        skip();
    }
    struct model_file *file = model_file_open(path, &err);
    assert_non_null(file);
    struct tokenizer *tokenizer = tokenizer_from_model_file(file, &err);
    struct chat_template *t = chat_template_from_model_file(file, tokenizer, &err);
    assert_non_null(t);
    struct chat_caps caps = chat_template_caps(t);
    assert_true(caps.system_role && !caps.tools && !caps.content_parts);
    struct json *messages = json_parse(STR("[" USER "]"), 0, &err);
    buf_init(&out, 1 << 20);
    assert_true(chat_template_render(t, &(struct chat_render){.messages = messages, .add_generation_prompt = true},
                                     &out, &err));
    assert_string_equal(out.data, "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
                                  "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    buf_release(&out);
    json_free(messages);
    chat_template_free(t);
    tokenizer_free(tokenizer);
    model_file_close(file);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),         cmocka_unit_test(test_nul_in_content),
        cmocka_unit_test(test_appends),       cmocka_unit_test(test_variables),
        cmocka_unit_test(test_tools),         cmocka_unit_test(test_whole_tools),
        cmocka_unit_test(test_continue),      cmocka_unit_test(test_continue_errors),
        cmocka_unit_test(test_errors),        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_from_model),    cmocka_unit_test(test_tool_use),
        cmocka_unit_test(test_model_without), cmocka_unit_test(test_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
