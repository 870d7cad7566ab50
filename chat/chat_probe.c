/* What a template can take, found by rendering small conversations and looking for their words in the output. While a
 * probe runs, the template's forms are set to what it asks about. */
#include "chat/chat_template_internal.h"

#include "base/array.h"

/* A template that needs more than this for three short messages has no capabilities. */
static const struct jinja_limits probe_limits = {
    .max_steps = 500000, .max_output = (size_t)1 << 20, .max_memory = (size_t)32 << 20};

#define USER "{\"role\": \"user\", \"content\": \"probe-user\"}"
#define CALL(id)                                                                                                  \
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"" id "\", \"type\": \"function\", " \
    "\"function\": {\"name\": \"probe_call\", \"arguments\": \"{\\\"probe_name\\\": \\\"probe-value\\\"}\"}}]}"
#define RESULT(id, content) \
    "{\"role\": \"tool\", \"tool_call_id\": \"" id "\", \"name\": \"probe_call\", \"content\": " content "}"
#define ROUND(id) "[" USER ", " CALL(id) ", " RESULT(id, "\"probe-result\"") "]"
#define THINKING(members) \
    "{\"role\": \"assistant\", \"content\": \"probe-answer\", \"reasoning_content\": \"probe-thought\"" members "}"
#define NINE "probe1234"       /* an id that every template takes */
#define LONG "probe_call_1234" /* one of a client's length */

static const char bare_text[] = "[{\"type\": \"function\", \"function\": {\"name\": \"probe_tool\"}}]";
static const char all_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"probe_tool\", \"description\": \"A probe.\", \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"probe_name\": {\"type\": \"string\", \"description\": \"A name.\"}}, "
    "\"required\": [\"probe_name\"]}}}]";

/* The messages rendered; an empty text when the template fails. tools_text: NULL for none. */
static void render_with(const struct chat_template *t, const char *messages_text, const char *tools_text,
                        const struct json *kwargs, struct buf *out)
{
    struct error ignored = {0};
    struct json *messages = json_parse(str_of(messages_text), 0, &ignored);
    struct json *tools = tools_text ? json_parse(str_of(tools_text), 0, &ignored) : NULL;
    struct chat_render r = {.messages = messages, .tools = tools, .kwargs = kwargs};
    buf_clear(out);
    if (!messages || !chat__render(t, &r, &probe_limits, out, &ignored)) {
        buf_clear(out);
    }
    json_free(messages);
    json_free(tools);
}

static void render(const struct chat_template *t, const char *messages, bool with_tools, struct buf *out)
{
    render_with(t, messages, with_tools ? all_text : NULL, NULL, out);
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

/* Conversations whose message of one role has its content at %s. */
static const char *const contents[N_CHAT_ROLES] = {
    [CHAT_SYSTEM] = "[{\"role\": \"system\", \"content\": %s}, " USER "]",
    [CHAT_USER] = "[{\"role\": \"user\", \"content\": %s}]",
    [CHAT_ASSISTANT] = "[" USER ", {\"role\": \"assistant\", \"content\": %s}]",
    [CHAT_TOOL] = "[" USER ", " CALL(NINE) ", " RESULT(NINE, "%s") "]",
};

static bool shows_content(const struct chat_template *t, enum chat_role role, const char *content, struct buf *out)
{
    struct buf messages;
    buf_init(&messages, (size_t)1 << 16);
    buf_printf(&messages, contents[role], content);
    buf_clear(out);
    bool shown = !messages.failed && shows(t, messages.data, role == CHAT_TOOL, "probe-text", out);
    buf_release(&messages);
    return shown;
}

/* Parts are understood when one gives what the string gives and all of several show; a template that shows only parts
 * has to get them. */
static void probe_parts(struct chat_template *t, enum chat_role role, struct buf *a, struct buf *b)
{
    enum chat_parts known = t->parts[role];
    t->parts[role] = CHAT_PARTS_KEPT;
    bool string = shows_content(t, role, "\"probe-text\"", a);
    bool one = shows_content(t, role, "[{\"type\": \"text\", \"text\": \"probe-text\"}]", b);
    bool same = str_eq(buf_view(a), buf_view(b));
    bool both =
        shows_content(
            t, role, "[{\"type\": \"text\", \"text\": \"probe-text\"}, {\"type\": \"text\", \"text\": \"probe-more\"}]",
            b) &&
        has(b, "probe-more");
    if (one && both && (same || !string)) {
        t->parts[role] = string ? CHAT_PARTS_KEPT : CHAT_PARTS_ONLY;
    } else {
        t->parts[role] = string ? CHAT_PARTS_JOINED : known;
    }
}

static void probe_user(struct chat_template *t, struct buf *a, struct buf *b)
{
    probe_parts(t, CHAT_USER, a, b);
    t->caps.content_parts = t->parts[CHAT_USER] != CHAT_PARTS_JOINED;
    bool only = t->parts[CHAT_USER] == CHAT_PARTS_ONLY;
    for (int role = 0; role < N_CHAT_ROLES; role++) {
        t->parts[role] = only || role == CHAT_USER ? t->parts[CHAT_USER] : CHAT_PARTS_JOINED;
    }
}

static void probe_roles(struct chat_template *t, struct buf *a)
{
    t->caps.system_role =
        shows(t, "[{\"role\": \"system\", \"content\": \"probe-system\"}, " USER "]", false, "probe-system", a);
    t->caps.late_system = shows(t,
                                "[" USER ", {\"role\": \"system\", \"content\": \"probe-late\"}, {\"role\": "
                                "\"assistant\", \"content\": \"probe-answer\"}, " USER "]",
                                false, "probe-late", a);
    bool named =
        str_find(t->source, STR("'developer'")) != STR_NPOS || str_find(t->source, STR("\"developer\"")) != STR_NPOS;
    t->caps.developer_role =
        named && shows(t, "[{\"role\": \"developer\", \"content\": \"probe-developer\"}, " USER "]", false,
                       "probe-developer", a);
}

/* Whether the call shows with content and arguments in a form. Null is no form where it shows as such. */
static bool shows_call(struct chat_template *t, const char *messages, enum chat_empty empty, bool string, struct buf *a)
{
    t->empty = empty;
    t->arguments_string = string;
    render(t, messages, true, a);
    return has(a, "probe_call") && has(a, "probe-value") && !(empty == CHAT_EMPTY_NULL && has(a, "None"));
}

/* An open call may show where a round does not: of its own, the result may be refused. */
static bool probe_call_forms(struct chat_template *t, struct buf *a)
{
    static const struct {
        const char *messages;
        bool string;
    } forms[] = {{ROUND(NINE), false}, {ROUND(NINE), true}, {"[" USER ", " CALL(NINE) "]", false}};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        for (int empty = CHAT_EMPTY_ABSENT; empty <= CHAT_EMPTY_STRING; empty++) {
            if (shows_call(t, forms[i].messages, (enum chat_empty)empty, forms[i].string, a)) {
                return true;
            }
        }
    }
    t->empty = CHAT_EMPTY_STRING;
    t->arguments_string = false;
    return false;
}

static void probe_ids(struct chat_template *t, struct buf *a)
{
    if (!shows(t, ROUND(LONG), true, "probe_call", a)) {
        t->ids = CHAT_IDS_NINE;
    } else if (has(a, LONG) && has(a, "functions.probe_call:0") &&
               !shows(t, "[" USER ", " CALL(LONG) "]", true, LONG, a)) {
        t->ids = CHAT_IDS_OWN;
    }
}

static void probe_calls(struct chat_template *t, struct buf *a)
{
    t->caps.tool_calls = probe_call_forms(t, a);
    t->caps.tool_role = t->caps.tool_calls
                            ? has(a, "probe-result")
                            : shows(t, "[" USER ", " RESULT(NINE, "\"probe-result\"") "]", true, "probe-result", a);
    if (t->caps.tool_calls && t->caps.tool_role) {
        probe_ids(t, a);
    }
}

/* A tool may come as a name alone: templates that show whole ones and fail on this one get what is missing. */
static void probe_tools(struct chat_template *t, struct buf *a)
{
    t->caps.tools = shows(t, "[" USER "]", true, "probe_tool", a);
    if (t->caps.tools) {
        render_with(t, "[" USER "]", bare_text, NULL, a);
        t->whole_tools = !has(a, "probe_tool");
    }
}

/* Reasoning in an answer and before a call, with thinking enabled by each of its names. */
static bool shows_reasoning(const struct chat_template *t, struct buf *a)
{
    static const struct {
        const char *messages;
        bool tools;
    } forms[] = {{"[" USER ", " THINKING("") "]", false},
                 {"[" USER ", " THINKING(
                      ", \"tool_calls\": [{\"id\": \"" NINE "\", \"type\": \"function\", \"function\": {\"name\": "
                      "\"probe_call\", \"arguments\": \"{}\"}}]") ", " RESULT(NINE, "\"probe-result\"") "]",
                  true}};
    struct error ignored = {0};
    struct json *enabled = json_parse(STR("{\"enable_thinking\": true, \"thinking\": true}"), 0, &ignored);
    bool shown = false;
    for (size_t i = 0; !shown && i < 2 * ARRAY_LEN(forms); i++) {
        render_with(t, forms[i / 2].messages, forms[i / 2].tools ? all_text : NULL, i % 2 ? enabled : NULL, a);
        shown = has(a, "probe-thought");
    }
    json_free(enabled);
    return shown;
}

/* A template that does not look for reasoning may take it as a part of the content; one that writes down parts it does
 * not know, as JSON or as Python shows them, does not. */
static void probe_reasoning(struct chat_template *t, struct buf *a)
{
    t->caps.reasoning = shows_reasoning(t, a);
    if (!t->caps.reasoning && t->parts[CHAT_ASSISTANT] != CHAT_PARTS_JOINED) {
        t->thinking_parts = true;
        t->thinking_parts = shows_reasoning(t, a) && !has(a, "\"thinking\"") && !has(a, "'thinking'");
        t->caps.reasoning = t->thinking_parts;
    }
}

void chat__probe(struct chat_template *t)
{
    struct buf a, b;
    buf_init(&a, (size_t)1 << 20);
    buf_init(&b, (size_t)1 << 20);
    t->caps = (struct chat_caps){.developer_role = true};
    probe_user(t, &a, &b);
    probe_roles(t, &a);
    probe_tools(t, &a);
    probe_calls(t, &a);
    probe_parts(t, CHAT_SYSTEM, &a, &b);
    probe_parts(t, CHAT_ASSISTANT, &a, &b);
    probe_parts(t, CHAT_TOOL, &a, &b);
    probe_reasoning(t, &a);
    buf_release(&a);
    buf_release(&b);
}
