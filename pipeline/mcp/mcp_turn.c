#include "pipeline/mcp/mcp_turn.h"

#include "base/array.h"

#include <stdlib.h>

/* ---- its parts ---- */

static void release_call(struct mcp_turn_call *c)
{
    struct buf *all[] = {&c->id, &c->name, &c->arguments, &c->fault, &c->result};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
}

static void init_call(struct mcp_turn_call *c)
{
    *c = (struct mcp_turn_call){0};
    struct buf *all[] = {&c->id, &c->name, &c->arguments, &c->fault, &c->result};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_init(all[i], LIMIT_OUTPUT_TEXT);
    }
}

void mcp_turn_init(struct mcp_turn *t)
{
    *t = (struct mcp_turn){0};
    buf_init(&t->text, LIMIT_OUTPUT_TEXT);
    buf_init(&t->reasoning, LIMIT_OUTPUT_TEXT);
}

void mcp_turn_clear(struct mcp_turn *t)
{
    for (size_t i = 0; i < t->n_calls; i++) {
        release_call(&t->calls[i]);
    }
    t->n_calls = 0;
    buf_clear(&t->text);
    buf_clear(&t->reasoning);
}

void mcp_turn_release(struct mcp_turn *t)
{
    mcp_turn_clear(t);
    buf_release(&t->text);
    buf_release(&t->reasoning);
    free(t->calls);
}

bool mcp_turn_ok(const struct mcp_turn *t, struct error *err)
{
    bool ok = buf_ok(&t->text, "the text of a turn", err) && buf_ok(&t->reasoning, "the reasoning of a turn", err);
    for (size_t i = 0; ok && i < t->n_calls; i++) {
        const struct mcp_turn_call *c = &t->calls[i];
        ok = buf_ok(&c->id, "a call", err) && buf_ok(&c->name, "a call", err) && buf_ok(&c->fault, "a call", err) &&
             buf_ok(&c->arguments, "the arguments of a call", err) && buf_ok(&c->result, "the result of a call", err);
    }
    return ok;
}

/* ---- what the model writes ---- */

static const struct gen_mcp_tool *find_tool(const struct gen_mcp *mcp, struct str name)
{
    for (size_t i = 0; i < mcp->n_tools; i++) {
        if (str_eq(mcp->tools[i].name, name)) {
            return &mcp->tools[i];
        }
    }
    return NULL;
}

static bool begin_call(struct mcp_turn *t, const struct gen_mcp *mcp, const struct gen_event *e, struct error *err)
{
    if (!array_reserve(&t->calls, &t->cap_calls, t->n_calls + 1, LIMIT_TURN_CALLS, "tool calls of one turn", err)) {
        return false;
    }
    struct mcp_turn_call *c = &t->calls[t->n_calls++];
    init_call(c);
    buf_append(&c->id, e->call.id);
    buf_append(&c->name, e->call.name);
    c->tool = find_tool(mcp, e->call.name);
    return true;
}

static void end_call(struct mcp_turn_call *c, const struct gen_event *e)
{
    c->valid = e->call.valid;
    buf_append(&c->fault, e->call.fault);
}

void mcp_turn_mark(const struct mcp_turn_call *c, struct gen_event *e)
{
    e->call.index = c->index;
    if (c->tool) {
        e->call.server = c->tool->server;
        e->call.own_name = c->tool->own_name;
    }
}

bool mcp_turn_take(struct mcp_turn *t, const struct gen_mcp *mcp, struct gen_event *e, uint32_t *n_own, uint32_t *n_mcp,
                   struct error *err)
{
    if (e->kind == GEN_DELTA) {
        buf_append(&t->text, e->text);
    } else if (e->kind == GEN_REASONING) {
        buf_append(&t->reasoning, e->text);
    } else if (e->kind == GEN_CALL) {
        if (!begin_call(t, mcp, e, err)) {
            return false;
        }
        struct mcp_turn_call *c = &t->calls[t->n_calls - 1];
        c->index = (*(c->tool ? n_mcp : n_own))++;
    }
    if (e->kind >= GEN_CALL && e->kind <= GEN_CALL_END && t->n_calls > 0) {
        struct mcp_turn_call *c = &t->calls[t->n_calls - 1];
        mcp_turn_mark(c, e);
        if (e->kind == GEN_ARGUMENTS) {
            buf_append(&c->arguments, e->text);
        } else if (e->kind == GEN_CALL_END) {
            end_call(c, e);
        }
    }
    return true;
}

/* ---- its calls ---- */

size_t mcp_turn_n_of(const struct mcp_turn *t, bool of_mcp)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_calls; i++) {
        n += (t->calls[i].tool != NULL) == of_mcp;
    }
    return n;
}

void mcp_turn_answer(struct mcp_turn *t, size_t call, bool is_error, struct str text)
{
    struct mcp_turn_call *c = &t->calls[call];
    c->answered = true;
    c->is_error = is_error;
    buf_append(&c->result, text);
}

struct gen_call mcp_turn_call(const struct mcp_turn *t, size_t call)
{
    const struct mcp_turn_call *c = &t->calls[call];
    return (struct gen_call){.index = c->index,
                             .id = buf_view(&c->id),
                             .name = buf_view(&c->name),
                             .valid = c->valid,
                             .server = c->tool ? c->tool->server : (struct str){0},
                             .own_name = c->tool ? c->tool->own_name : (struct str){0},
                             .arguments = buf_view(&c->arguments),
                             .sent_us = c->sent_us,
                             .took_us = c->took_us};
}

/* ---- messages ---- */

/* Arguments that are no JSON would end the template, or be taken for some that the model wrote: it is shown none, and
 * the error beside them. */
static void put_call(struct json_writer *w, const struct mcp_turn_call *c)
{
    struct error ignored = {0};
    struct json *parsed = json_parse(buf_view(&c->arguments), LIMIT_SCHEMA_DEPTH, &ignored);
    bool is_object = json_type(parsed) == JSON_OBJECT;
    json_free(parsed);
    json_begin_object(w);
    json_member_str(w, "id", buf_view(&c->id));
    json_member_cstr(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_member_str(w, "name", buf_view(&c->name));
    json_member_str(w, "arguments", is_object ? buf_view(&c->arguments) : STR("{}"));
    json_end_object(w);
    json_end_object(w);
}

static void put_result(struct json_writer *w, const struct mcp_turn_call *c)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "tool");
    json_member_str(w, "tool_call_id", buf_view(&c->id));
    json_member_str(w, "name", buf_view(&c->name));
    json_member_str(w, "content", buf_view(&c->result));
    json_end_object(w);
}

void mcp_turn_put_messages(const struct mcp_turn *t, struct json_writer *w)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "assistant");
    json_member_str(w, "content", buf_view(&t->text));
    if (t->reasoning.len) {
        json_member_str(w, "reasoning_content", buf_view(&t->reasoning));
    }
    if (t->n_calls) {
        json_key(w, "tool_calls");
        json_begin_array(w);
        for (size_t i = 0; i < t->n_calls; i++) {
            put_call(w, &t->calls[i]);
        }
        json_end_array(w);
    }
    json_end_object(w);
    for (size_t i = 0; i < t->n_calls; i++) {
        if (t->calls[i].answered) {
            put_result(w, &t->calls[i]);
        }
    }
}
