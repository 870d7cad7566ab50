/* The conversation as Anthropic writes it, to the message objects that chat templates take.
 *
 * Consecutive messages of one role are one turn. A turn becomes one message: its texts joined by line ends, an
 * assistant's thinking as reasoning_content and its tool_use blocks as tool_calls; but each tool_result is a message of
 * its own, of the role tool, before the user's text. An assistant's turn with mcp_tool_result blocks was several turns
 * of the model: what follows such results begins another message. The messages are written as JSON text while the turns
 * go by, then parsed: they live in the request's arena. */
#include "api/anthropic/anthropic.h"
#include "api/openai/openai_tools.h"
#include "api/volatile_lines.h"

#include "base/array.h"

#include <stdio.h>
#include <stdlib.h>

enum role { ROLE_NONE, ROLE_USER, ROLE_ASSISTANT, ROLE_SYSTEM };
static const char *const role_names[] = {"", "user", "assistant", "system"};

struct tool_use {
    struct str id, name;
    bool answered;
};

struct turn { /* what is gathered of the one at hand */
    enum role role;
    struct buf text, reasoning;
    struct buf calls;   /* JSON items */
    struct buf results; /* JSON items: messages with the results of MCP tools, which follow the turn's */
    bool has_results, has_thinking;
};

struct conversion {
    struct messages_request *m;
    struct error *err;
    struct buf out, scratch;
    struct json_writer w;
    struct turn turn;
    struct buf cleared;    /* thinking of turns that lose it */
    struct tool_use *uses; /* [n_uses] of the last assistant's turn */
    size_t n_uses, cap_uses;
    uint64_t n_thinking_turns; /* assistant's turns with thinking that are still to come */
    bool too_large;            /* a buffer that was cleared since had failed */
};

/* Where a block lies: "messages[2].content[0]", "system[1]". */
struct place {
    char name[64];
};

static struct place member_of(const struct place *where, const char *member)
{
    struct place p;
    snprintf(p.name, sizeof p.name, "%.40s.%.16s", where->name, member);
    return p;
}

static bool expect_string(struct conversion *c, const struct json *block, const char *member, const struct place *where,
                          struct str *out)
{
    const struct json *v = json_get(block, member);
    struct place p = member_of(where, member);
    *out = json_str(v);
    if (json_is_null(v)) {
        return field_missing_error(c->err, p.name);
    }
    return json_type(v) == JSON_STRING || field_type_error(c->err, p.name, "a string", v);
}

/* ---- writing ---- */

static void clear(struct conversion *c, struct buf *b)
{
    c->too_large |= b->failed;
    buf_clear(b);
}

static void add_line(struct buf *text, struct str line)
{
    if (line.len) {
        buf_puts(text, text->len ? "\n" : "");
        buf_append(text, line);
    }
}

static void put_assistant(struct json_writer *w, const struct turn *t)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "assistant");
    json_key(w, "content");
    if (t->text.len || !t->calls.len) {
        json_put_str(w, buf_view(&t->text));
    } else {
        json_put_null(w);
    }
    if (t->reasoning.len) {
        json_member_str(w, "reasoning_content", buf_view(&t->reasoning));
    }
    if (t->calls.len) {
        json_key(w, "tool_calls");
        json_begin_array(w);
        buf_append(w->out, buf_view(&t->calls));
        json_end_array(w);
    }
    json_end_object(w);
}

/* A user's turn of nothing but results is its tool messages; an empty assistant's turn is none. */
static void end_turn(struct conversion *c)
{
    struct turn *t = &c->turn;
    if (t->role == ROLE_ASSISTANT) {
        if (t->text.len || t->reasoning.len || t->calls.len) {
            put_assistant(&c->w, t);
        }
        if (t->results.len) {
            json_put_raw(&c->w, buf_view(&t->results));
        }
        c->n_thinking_turns -= t->has_thinking;
    } else if (t->role != ROLE_NONE && (t->text.len || !t->has_results)) {
        openai_put_message(&c->w, str_of(role_names[t->role]), buf_view(&t->text));
    }
    clear(c, &t->text);
    clear(c, &t->reasoning);
    clear(c, &t->calls);
    clear(c, &t->results);
    t->has_results = t->has_thinking = false;
    t->role = ROLE_NONE;
}

static void begin_turn(struct conversion *c, enum role role)
{
    if (c->turn.role == role) {
        return;
    }
    end_turn(c);
    c->turn.role = role;
    if (role == ROLE_ASSISTANT) {
        c->n_uses = 0;
    }
}

/* Ids of calls are "call_..." inside, "toolu_..." or "mcptoolu_..." in this API. */
static void put_call_id(struct conversion *c, struct json_writer *w, struct str id)
{
    size_t n = str_starts(id, STR("toolu_"))      ? strlen("toolu_")
               : str_starts(id, STR("mcptoolu_")) ? strlen("mcptoolu_")
                                                  : 0;
    clear(c, &c->scratch);
    buf_puts(&c->scratch, n ? "call_" : "");
    buf_append(&c->scratch, str_slice(id, n, id.len));
    json_put_str(w, buf_view(&c->scratch));
}

/* ---- blocks ---- */

static bool take_text(struct conversion *c, const struct json *block, const struct place *where)
{
    struct str text;
    if (!expect_string(c, block, "text", where, &text)) {
        return false;
    }
    add_line(&c->turn.text, text);
    return true;
}

/* A block of ours that was changed is refused, as at Anthropic; one that another model signed is only text here. What
 * the client asked not to see ("omitted") comes back empty. */
static bool check_signature(struct conversion *c, const struct json *block, struct str thinking,
                            const struct place *where)
{
    char ours[SIGNATURE_SIZE];
    struct str signature = json_str(json_get(block, "signature"));
    if (thinking.len == 0 || !str_starts(signature, STR(SIGNATURE_PREFIX))) {
        return true;
    }
    anthropic__sign(thinking, ours);
    return str_eq(signature, str_of(ours)) ||
           error_set_param(c->err, ERR_INVALID, where->name,
                           "%s: `thinking` blocks must be passed back as they came; this one's signature is that of "
                           "another text.",
                           where->name);
}

static bool take_thinking(struct conversion *c, const struct json *block, const struct place *where)
{
    struct str thinking;
    if (!expect_string(c, block, "thinking", where, &thinking) || !check_signature(c, block, thinking, where)) {
        return false;
    }
    bool first = !c->turn.has_thinking;
    c->turn.has_thinking = true;
    if (c->m->keep_thinking >= 0 && c->n_thinking_turns > (uint64_t)c->m->keep_thinking) {
        c->m->n_cleared_turns += first;
        add_line(&c->cleared, thinking);
    } else {
        add_line(&c->turn.reasoning, thinking);
    }
    return true;
}

/* What only Anthropic can read. */
static bool take_nothing(struct conversion *c, const struct json *block, const struct place *where)
{
    (void)c;
    (void)block;
    (void)where;
    return true;
}

static bool remember_use(struct conversion *c, struct str id, struct str name, const struct place *where)
{
    if (c->n_uses == LIMIT_TURN_CALLS) {
        return error_set_param(c->err, ERR_INVALID, where->name, "%s: a turn may have at most %d tool_use blocks.",
                               where->name, LIMIT_TURN_CALLS);
    }
    if (!array_reserve(&c->uses, &c->cap_uses, c->n_uses + 1, LIMIT_TURN_CALLS, "tool_use blocks", c->err)) {
        return false;
    }
    c->uses[c->n_uses++] = (struct tool_use){id, name, false};
    return true;
}

static bool take_tool_use(struct conversion *c, const struct json *block, const struct place *where)
{
    const struct json *input = json_get(block, "input");
    struct place at_input = member_of(where, "input");
    struct str id, name;
    if (!expect_string(c, block, "id", where, &id) || !expect_string(c, block, "name", where, &name)) {
        return false;
    }
    if (json_type(input) != JSON_OBJECT) {
        return field_type_error(c->err, at_input.name, "an object", input);
    }
    struct json_writer w = {.out = &c->turn.calls, .need_comma = c->turn.calls.len > 0};
    json_begin_object(&w);
    json_key(&w, "id");
    put_call_id(c, &w, id);
    json_member_cstr(&w, "type", "function");
    json_key(&w, "function");
    json_begin_object(&w);
    json_member_str(&w, "name", name);
    json_key(&w, "arguments");
    clear(c, &c->scratch);
    json_print(&c->scratch, input);
    json_put_str(&w, buf_view(&c->scratch));
    json_end_object(&w);
    json_end_object(&w);
    return remember_use(c, id, name, where);
}

static struct tool_use *find_use(const struct conversion *c, struct str id)
{
    for (size_t i = 0; i < c->n_uses; i++) {
        if (str_eq(c->uses[i].id, id)) {
            return &c->uses[i];
        }
    }
    return NULL;
}

static bool unsupported_block(struct conversion *c, struct str type, const struct place *where)
{
    static const char *const media[] = {"image", "document", "search_result"};
    for (size_t i = 0; i < ARRAY_LEN(media); i++) {
        if (str_eq(type, str_of(media[i]))) {
            return error_set_param(c->err, ERR_UNSUPPORTED, where->name,
                                   "%s: this model reads text only; a content block of type '%s' is not supported.",
                                   where->name, media[i]);
        }
    }
    return error_set_param(c->err, ERR_UNSUPPORTED, where->name,
                           "%s: a content block of type '" STR_FMT "' is not supported here; text, thinking, "
                           "redacted_thinking, tool_use and tool_result are.",
                           where->name, STR_ARG(str_slice(type, 0, 60)));
}

/* Every block has a type; what it may have besides is looked at here, once. */
static bool begin_block(struct conversion *c, const struct json *block, const struct place *where, struct str *type)
{
    struct place cache = member_of(where, "cache_control");
    if (json_type(block) != JSON_OBJECT) {
        return field_type_error(c->err, where->name, "an object: a content block", block);
    }
    return expect_string(c, block, "type", where, type) &&
           anthropic__check_cache_control(c->m, json_get(block, "cache_control"), cache.name, c->err);
}

/* The text of a tool's result: a string, or text blocks. */
static bool result_text(struct conversion *c, const struct json *content, const struct place *where, struct buf *out)
{
    struct place at = member_of(where, "content");
    if (json_type(content) == JSON_STRING || json_is_null(content)) {
        add_line(out, json_str(content));
        return true;
    }
    if (json_type(content) != JSON_ARRAY) {
        return field_type_error(c->err, at.name, "a string or an array of content blocks", content);
    }
    for (size_t i = 0; i < json_len(content); i++) {
        struct place inner;
        struct str type, text;
        snprintf(inner.name, sizeof inner.name, "%.40s[%zu]", at.name, i);
        if (!begin_block(c, json_at(content, i), &inner, &type)) {
            return false;
        }
        if (!str_eq(type, STR("text"))) {
            return unsupported_block(c, type, &inner);
        }
        if (!expect_string(c, json_at(content, i), "text", &inner, &text)) {
            return false;
        }
        add_line(out, text);
    }
    return true;
}

static void put_result(struct conversion *c, struct json_writer *w, const struct tool_use *use, struct str text)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "tool");
    json_key(w, "tool_call_id");
    put_call_id(c, w, use->id);
    json_member_str(w, "name", use->name);
    json_member_str(w, "content", text);
    json_end_object(w);
}

/* The results of MCP tools stand in the assistant's own message. */
static void keep_result(struct conversion *c, const struct tool_use *use, struct str text)
{
    struct buf *results = &c->turn.results;
    if (c->turn.role == ROLE_ASSISTANT) {
        put_result(c, &(struct json_writer){.out = results, .need_comma = results->len > 0}, use, text);
    } else {
        put_result(c, &c->w, use, text);
        c->turn.has_results = true;
    }
}

static bool take_tool_result(struct conversion *c, const struct json *block, const struct place *where)
{
    const struct json *is_error = json_get(block, "is_error");
    struct place at_error = member_of(where, "is_error");
    struct str id;
    struct buf text;
    if (!expect_string(c, block, "tool_use_id", where, &id)) {
        return false;
    }
    struct tool_use *use = find_use(c, id);
    if (!use) {
        return error_set_param(c->err, ERR_INVALID, where->name,
                               "%s: unexpected `tool_use_id` found in `tool_result` blocks: " STR_FMT
                               ". Each `tool_result` block must have a corresponding `tool_use` block in the "
                               "previous message.",
                               where->name, STR_ARG(str_slice(id, 0, 60)));
    }
    if (use->answered) {
        return error_set_param(c->err, ERR_INVALID, where->name,
                               "%s: each `tool_use` must have a single result; there is another one for " STR_FMT ".",
                               where->name, STR_ARG(str_slice(id, 0, 60)));
    }
    use->answered = true;
    if (!json_is_null(is_error) && json_type(is_error) != JSON_BOOL) {
        return field_type_error(c->err, at_error.name, "a boolean", is_error);
    }
    buf_init(&text, LIMIT_REQUEST_ARENA);
    buf_puts(&text, json_bool(is_error) ? "Error:" : "");
    bool ok = result_text(c, json_get(block, "content"), where, &text) && buf_ok(&text, "a tool's result", c->err);
    if (ok) {
        keep_result(c, use, buf_view(&text));
    }
    buf_release(&text);
    return ok;
}

static const struct {
    const char *type;
    unsigned roles; /* bits */
    bool (*take)(struct conversion *c, const struct json *block, const struct place *where);
} block_types[] = {
    {"text", 1u << ROLE_USER | 1u << ROLE_ASSISTANT | 1u << ROLE_SYSTEM, take_text},
    {"tool_result", 1u << ROLE_USER, take_tool_result},
    {"tool_use", 1u << ROLE_ASSISTANT, take_tool_use},
    {"mcp_tool_use", 1u << ROLE_ASSISTANT, take_tool_use},
    {"mcp_tool_result", 1u << ROLE_ASSISTANT, take_tool_result},
    {"thinking", 1u << ROLE_ASSISTANT, take_thinking},
    {"redacted_thinking", 1u << ROLE_ASSISTANT, take_nothing},
};

/* What follows the results was written when the model had them. */
static void go_on_after_results(struct conversion *c)
{
    size_t n_uses = c->n_uses; /* the user's message may still have results of the client's tools */
    end_turn(c);
    begin_turn(c, ROLE_ASSISTANT);
    c->n_uses = n_uses;
}

static bool take_block(struct conversion *c, const struct json *block, const struct place *where)
{
    struct str type;
    if (!begin_block(c, block, where, &type)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(block_types); i++) {
        if (!str_eq(type, str_of(block_types[i].type))) {
            continue;
        }
        if (block_types[i].roles & 1u << c->turn.role) {
            if (c->turn.results.len && !str_eq(type, STR("mcp_tool_result"))) {
                go_on_after_results(c);
            }
            return block_types[i].take(c, block, where);
        }
        return error_set_param(c->err, ERR_INVALID, where->name,
                               "%s: a block of type '%s' is not allowed in a message of the role '%s'.", where->name,
                               block_types[i].type, role_names[c->turn.role]);
    }
    return unsupported_block(c, type, where);
}

/* A string, or an array of blocks. */
static bool take_content(struct conversion *c, const struct json *content, const struct place *where)
{
    if (json_type(content) == JSON_STRING) {
        add_line(&c->turn.text, json_str(content));
        return true;
    }
    if (json_is_null(content)) {
        return field_missing_error(c->err, where->name);
    }
    if (json_type(content) != JSON_ARRAY) {
        return field_type_error(c->err, where->name, "a string or an array of content blocks", content);
    }
    for (size_t i = 0; i < json_len(content); i++) {
        struct place at;
        snprintf(at.name, sizeof at.name, "%.40s[%zu]", where->name, i);
        if (!take_block(c, json_at(content, i), &at)) {
            return false;
        }
    }
    return true;
}

/* ---- system ---- */

static bool take_system(struct conversion *c)
{
    struct place where = {"system"};
    if (json_is_null(c->m->system)) {
        return true;
    }
    c->turn.role = ROLE_SYSTEM;
    if (!take_content(c, c->m->system, &where)) {
        return false;
    }
    if (c->m->drop_volatile_lines) {
        buf_drop_front(&c->turn.text, volatile_lines_at(buf_view(&c->turn.text), &c->m->n_volatile));
    }
    if (c->turn.text.len == 0) {
        c->turn.role = ROLE_NONE; /* an empty system prompt is none */
    }
    return true;
}

/* ---- messages ---- */

static enum role role_of(const struct json *message)
{
    struct str role = json_str(json_get(message, "role"));
    for (size_t i = 1; i < ARRAY_LEN(role_names); i++) {
        if (str_eq(role, str_of(role_names[i]))) {
            return (enum role)i;
        }
    }
    return ROLE_NONE;
}

static bool has_thinking(const struct json *content)
{
    for (size_t i = 0; i < (json_type(content) == JSON_ARRAY ? json_len(content) : 0); i++) {
        if (str_eq(json_str(json_get(json_at(content, i), "type")), STR("thinking"))) {
            return true;
        }
    }
    return false;
}

static uint64_t count_thinking_turns(const struct json *messages)
{
    uint64_t n = 0;
    bool counted = false; /* this turn */
    for (size_t i = 0; i < json_len(messages); i++) {
        const struct json *message = json_at(messages, i);
        if (role_of(message) != ROLE_ASSISTANT) {
            counted = false;
        } else if (!counted && has_thinking(json_get(message, "content"))) {
            counted = true;
            n++;
        }
    }
    return n;
}

static bool take_message(struct conversion *c, size_t index)
{
    const struct json *message = json_at(c->m->messages, index);
    struct place where;
    snprintf(where.name, sizeof where.name, "messages[%zu]", index);
    if (json_type(message) != JSON_OBJECT) {
        return field_type_error(c->err, where.name, "an object", message);
    }
    enum role role = role_of(message);
    if (role == ROLE_NONE) {
        struct str got;
        struct place at = member_of(&where, "role");
        return expect_string(c, message, "role", &where, &got) &&
               error_set_param(c->err, ERR_INVALID, at.name,
                               "%s: 'user', 'assistant' or 'system' is expected, but got '" STR_FMT "'.", at.name,
                               STR_ARG(str_slice(got, 0, 40)));
    }
    begin_turn(c, role);
    struct place content = member_of(&where, "content");
    return take_content(c, json_get(message, "content"), &content);
}

static bool has_open_use(const struct conversion *c)
{
    for (size_t i = 0; i < c->n_uses; i++) {
        if (!c->uses[i].answered) {
            return true;
        }
    }
    return false;
}

/* An assistant's last turn is gone on with; one without text is as good as none. */
static bool take_last_turn(struct conversion *c)
{
    struct gen_request *r = &c->m->request;
    const struct turn *t = &c->turn;
    if (t->role == ROLE_ASSISTANT && has_open_use(c)) {
        return error_set_param(c->err, ERR_INVALID, "messages",
                               "messages: `tool_use` ids were found without `tool_result` blocks immediately after; "
                               "the last message has to be the user's with the results.");
    }
    if (t->role == ROLE_ASSISTANT && t->reasoning.len && !t->text.len) {
        return error_set_param(c->err, ERR_INVALID, "messages",
                               "messages: the final block in an assistant message cannot be `thinking`.");
    }
    r->continue_final_message = t->role == ROLE_ASSISTANT && t->text.len > 0 && !t->results.len;
    r->add_generation_prompt = !r->continue_final_message;
    end_turn(c);
    return true;
}

static bool take_messages(struct conversion *c)
{
    size_t n = json_len(c->m->messages);
    if (n == 0 || n > LIMIT_MESSAGES) {
        return error_set_param(c->err, ERR_INVALID, "messages",
                               "Invalid value for 'messages': 1 to %d messages are allowed, but got %zu.",
                               LIMIT_MESSAGES, n);
    }
    c->n_thinking_turns = count_thinking_turns(c->m->messages);
    for (size_t i = 0; i < n; i++) {
        if (!take_message(c, i)) {
            return false;
        }
    }
    return take_last_turn(c);
}

/* ---- all of it ---- */

static bool keep_cleared(struct conversion *c)
{
    c->m->cleared = arena_str(c->m->request.arena, buf_view(&c->cleared));
    return buf_ok(&c->cleared, "thinking of earlier turns", c->err) &&
           (c->cleared.len == 0 || c->m->cleared.ptr || arena_full(c->m->request.arena, "the request", c->err));
}

/* What failed on the way, wherever it is noticed. */
static bool bufs_ok(const struct conversion *c, struct buf *const *all, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!buf_ok(all[i], "the request", err)) {
            return false;
        }
    }
    return !c->too_large || error_set(err, ERR_TOO_LARGE, "the request is too large.");
}

bool anthropic__convert_turns(struct messages_request *m, struct error *err)
{
    struct conversion c = {.m = m, .err = err};
    struct buf *const all[] = {&c.out,        &c.scratch,     &c.cleared, &c.turn.text, &c.turn.reasoning,
                               &c.turn.calls, &c.turn.results};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_init(all[i], LIMIT_REQUEST_ARENA);
    }
    c.w = json_writer(&c.out);
    json_begin_array(&c.w);
    bool ok = take_system(&c) && take_messages(&c) && keep_cleared(&c);
    json_end_array(&c.w);
    ok = ok && bufs_ok(&c, all, ARRAY_LEN(all), err) &&
         anthropic__own_json(&m->request, &c.out, &m->request.messages, err);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
    free(c.uses);
    return ok;
}
