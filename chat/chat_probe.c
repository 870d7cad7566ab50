/* What a template can take, found by rendering small conversations and looking for their words in the output. While a
 * probe runs, the flags of the template are set so that messages pass as they are. */
#include "chat/chat_template_internal.h"

/* A template that needs more than this for three short messages has no capabilities. */
static const struct jinja_limits probe_limits = {
    .max_steps = 500000, .max_output = (size_t)1 << 20, .max_memory = (size_t)32 << 20};

#define USER "{\"role\": \"user\", \"content\": \"probe-user\"}"
#define CALL(content, arguments)                                                                              \
    "{\"role\": \"assistant\", \"content\": " content ", \"tool_calls\": [{\"id\": \"probe1234\", \"type\": " \
    "\"function\", \"function\": {\"name\": \"probe_call\", \"arguments\": " arguments "}}]}"
#define OBJECT "{\"probe_name\": \"probe-value\"}"
#define STRING "\"{\\\"probe_name\\\": \\\"probe-value\\\"}\""
#define RESULT \
    "{\"role\": \"tool\", \"tool_call_id\": \"probe1234\", \"name\": \"probe_call\", \"content\": \"probe-result\"}"

static const char tools_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"probe_tool\", \"description\": \"A probe.\", \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"probe_name\": {\"type\": \"string\", \"description\": \"A name.\"}}, "
    "\"required\": [\"probe_name\"]}}}]";

/* The messages rendered; an empty text when the template fails. */
static void render(const struct chat_template *t, const char *messages_text, bool with_tools, struct buf *out)
{
    struct error ignored = {0};
    struct json *messages = json_parse(str_of(messages_text), 0, &ignored);
    struct json *tools = with_tools ? json_parse(str_of(tools_text), 0, &ignored) : NULL;
    struct chat_render r = {.messages = messages, .tools = tools};
    buf_clear(out);
    if (!messages || !chat__render(t, &r, &probe_limits, out, &ignored)) {
        buf_clear(out);
    }
    json_free(messages);
    json_free(tools);
}

static bool has(const struct buf *text, const char *word)
{
    return str_find(buf_view(text), str_of(word)) != STR_NPOS;
}

static bool shows(const struct chat_template *t, const char *messages, bool with_tools, const char *word,
                  struct buf *out)
{
    render(t, messages, with_tools, out);
    return has(out, word);
}

/* Parts are understood when they give what the string gives; a template that shows only parts has to get them. */
static void probe_content(struct chat_template *t, struct buf *a, struct buf *b)
{
    bool string = shows(t, "[" USER "]", false, "probe-user", a);
    bool parts = shows(t, "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"probe-user\"}]}]",
                       false, "probe-user", b);
    t->caps.content_parts = parts && (!string || str_eq(buf_view(a), buf_view(b)));
    t->parts_only = parts && !string;
}

static void probe_roles(struct chat_template *t, struct buf *a)
{
    t->caps.system_role =
        shows(t, "[{\"role\": \"system\", \"content\": \"probe-system\"}, " USER "]", false, "probe-system", a);
    t->caps.developer_role = str_find(t->source, STR("developer")) != STR_NPOS &&
                             shows(t, "[{\"role\": \"developer\", \"content\": \"probe-developer\"}, " USER "]", false,
                                   "probe-developer", a);
}

/* Content and arguments in the forms that templates expect, the most faithful ones first. */
static void probe_calls(struct chat_template *t, struct buf *a)
{
    static const struct {
        const char *messages;
        bool null_content, string;
    } forms[] = {{"[" USER ", " CALL("null", OBJECT) ", " RESULT "]", true, false},
                 {"[" USER ", " CALL("\"\"", OBJECT) ", " RESULT "]", false, false},
                 {"[" USER ", " CALL("null", STRING) ", " RESULT "]", true, true},
                 {"[" USER ", " CALL("\"\"", STRING) ", " RESULT "]", false, true},
                 {"[" USER ", " CALL("null", OBJECT) "]", true, false},
                 {"[" USER ", " CALL("\"\"", OBJECT) "]", false, false}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        t->null_content = forms[i].null_content;
        t->arguments_string = forms[i].string;
        render(t, forms[i].messages, true, a);
        if (has(a, "probe_call") && has(a, "probe-value") && !(forms[i].null_content && has(a, "None"))) {
            t->caps.tool_calls = true;
            t->caps.tool_role = has(a, "probe-result");
            return;
        }
    }
    t->null_content = t->arguments_string = false;
    t->caps.tool_role = shows(t, "[" USER ", " RESULT "]", true, "probe-result", a);
}

static bool probe_reasoning(struct chat_template *t, struct buf *a)
{
    static const char *const forms[] = {
        "[" USER
        ", {\"role\": \"assistant\", \"content\": \"probe-answer\", \"reasoning_content\": \"probe-thought\"}]",
        "[" USER
        ", {\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"probe-thought\", \"tool_calls\": "
        "[{\"id\": \"probe1234\", \"type\": \"function\", \"function\": {\"name\": \"probe_call\", "
        "\"arguments\": " OBJECT "}}]}, " RESULT "]"};
    return shows(t, forms[0], false, "probe-thought", a) || shows(t, forms[1], true, "probe-thought", a);
}

void chat__probe(struct chat_template *t)
{
    struct buf a, b;
    buf_init(&a, (size_t)1 << 20);
    buf_init(&b, (size_t)1 << 20);
    t->caps = (struct chat_caps){.developer_role = true, .content_parts = true};
    t->null_content = t->arguments_string = true;
    probe_content(t, &a, &b);
    probe_roles(t, &a);
    t->caps.tools = shows(t, "[" USER "]", true, "probe_tool", &a);
    probe_calls(t, &a);
    t->caps.reasoning = probe_reasoning(t, &a);
    buf_release(&a);
    buf_release(&b);
}
