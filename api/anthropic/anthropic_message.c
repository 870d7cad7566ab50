/* Events to Anthropic's Message: a list of content blocks, of which one at a time is open. How a block is opened, gets
 * more and is closed differs between a stream and a body; which one is open when does not. */
#include "api/anthropic/anthropic.h"

#include "http/sse.h"

#include <stdio.h>

void message_writer_init(struct message_writer *w, const struct message_facts *facts)
{
    *w = (struct message_writer){.facts = *facts};
    buf_init(&w->blocks, LIMIT_HTTP_REPLY);
    buf_init(&w->text, LIMIT_OUTPUT_TEXT);
    buf_init(&w->call_name, LIMIT_OUTPUT_TEXT);
    buf_init(&w->stop, KIB(4));
}

void message_writer_release(struct message_writer *w)
{
    buf_release(&w->blocks);
    buf_release(&w->text);
    buf_release(&w->call_name);
    buf_release(&w->stop);
}

/* ---- pieces of both ---- */

/* "toolu_..." of our own "call_...", "mcptoolu_..." where it is of an MCP tool; a model's own id as it is. */
static void take_call(struct message_writer *w, const struct gen_call *call)
{
    bool ours = str_starts(call->id, STR("call_")), of_mcp = call->server.ptr;
    struct str rest = str_slice(call->id, ours ? strlen("call_") : 0, call->id.len);
    const char *prefix = !ours ? "" : of_mcp ? "mcptoolu_" : "toolu_";
    snprintf(w->call_id, sizeof w->call_id, "%s" STR_FMT, prefix, STR_ARG(rest));
    buf_clear(&w->call_name);
    buf_append(&w->call_name, of_mcp ? call->own_name : call->name);
    w->call_server = call->server;
}

/* The beginning of a tool_use: all but its input. */
static void put_call(const struct message_writer *w, struct json_writer *json)
{
    json_member_cstr(json, "type", w->open == BLOCK_MCP_TOOL ? "mcp_tool_use" : "tool_use");
    json_member_cstr(json, "id", w->call_id);
    json_member_str(json, "name", buf_view(&w->call_name));
    if (w->open == BLOCK_MCP_TOOL) {
        json_member_str(json, "server_name", w->call_server);
    }
}

/* A result is never sent in pieces. */
static void put_result(const struct message_writer *w, struct json_writer *json)
{
    json_member_cstr(json, "type", "mcp_tool_result");
    json_member_cstr(json, "tool_use_id", w->call_id);
    json_member_bool(json, "is_error", w->is_error);
    json_key(json, "content");
    json_begin_array(json);
    json_begin_object(json);
    json_member_cstr(json, "type", "text");
    json_member_str(json, "text", buf_view(&w->text));
    json_end_object(json);
    json_end_array(json);
}

/* Tokens that were computed, those of them that later requests find in the cache, and those that were found there.
 * Their sum is the prompt. Who marks no blocks for the cache is not told what went into it: to such clients
 * input_tokens is what was not cached. `whole` is a message's; a message_delta has less. */
static void put_usage(const struct message_writer *w, struct json_writer *json, const struct gen_usage *u, bool whole)
{
    const struct message_facts *f = &w->facts;
    uint64_t page = f->page_tokens ? f->page_tokens : 1;
    uint64_t kept = f->page_tokens && f->request->marks_cache ? u->prompt_tokens / page * page : 0;
    uint64_t found = (u->cached_tokens + page - 1) / page * page; /* of a prompt found whole, all but its last token */
    uint64_t created = kept > found ? kept - found : 0;
    json_key(json, "usage");
    json_begin_object(json);
    json_member_uint(json, "input_tokens", u->prompt_tokens - u->cached_tokens - created);
    json_member_uint(json, "cache_creation_input_tokens", created);
    json_member_uint(json, "cache_read_input_tokens", u->cached_tokens);
    if (whole) {
        json_key(json, "cache_creation");
        json_begin_object(json);
        json_member_uint(json, "ephemeral_5m_input_tokens", created);
        json_member_uint(json, "ephemeral_1h_input_tokens", 0);
        json_end_object(json);
    }
    json_member_uint(json, "output_tokens", f->request->warm_only ? 0 : u->completion_tokens);
    json_key(json, "output_tokens_details");
    json_begin_object(json);
    json_member_uint(json, "thinking_tokens", f->request->warm_only ? 0 : u->n_reasoning);
    json_end_object(json);
    if (whole) {
        json_member_cstr(json, "service_tier", "standard");
    }
    json_end_object(json);
}

/* Somebody cancelled it by /v1/requests/{id}/cancel, or it may have no more turns: the one reason that asks to go on
 * from what there is. */
static const char *stop_reason(const struct message_writer *w)
{
    const struct gen_event *e = &w->finish;
    if (e->finish == FINISH_CANCELLED || e->out_of_turns) {
        return "pause_turn";
    }
    if (e->finish == FINISH_LENGTH || w->facts.request->warm_only) {
        return w->facts.clipped ? "model_context_window_exceeded" : "max_tokens";
    }
    if (w->stop.len) {
        return "stop_sequence";
    }
    return e->n_calls ? "tool_use" : "end_turn";
}

static void put_stop(const struct message_writer *w, struct json_writer *json)
{
    json_member_cstr(json, "stop_reason", stop_reason(w));
    json_key(json, "stop_sequence");
    if (w->stop.len) {
        json_put_str(json, buf_view(&w->stop));
    } else {
        json_put_null(json);
    }
    json_member_null(json, "stop_details");
}

/* Members before the content. */
static void put_head(const struct message_writer *w, struct json_writer *json)
{
    char fingerprint[32];
    json_begin_object(json);
    json_member_cstr(json, "id", w->facts.id);
    json_member_cstr(json, "type", "message");
    json_member_cstr(json, "role", "assistant");
    json_member_cstr(json, "model", w->facts.model);
    if (w->facts.fingerprint[0]) {
        snprintf(fingerprint, sizeof fingerprint, "fp_%.24s", w->facts.fingerprint);
        json_member_cstr(json, "system_fingerprint", fingerprint);
    }
    if (w->facts.resumed_from[0]) {
        snprintf(fingerprint, sizeof fingerprint, "fp_%.24s", w->facts.resumed_from);
        json_member_cstr(json, "resumed_from_fingerprint", fingerprint);
    }
}

/* What became of the edits of context_management. */
static void put_edits(const struct message_writer *w, struct json_writer *json)
{
    const struct messages_request *m = w->facts.request;
    if (!m->has_edits) {
        return;
    }
    json_key(json, "context_management");
    json_begin_object(json);
    json_key(json, "applied_edits");
    json_begin_array(json);
    if (m->n_cleared_turns) {
        json_begin_object(json);
        json_member_cstr(json, "type", "clear_thinking_20251015");
        json_member_uint(json, "cleared_thinking_turns", m->n_cleared_turns);
        json_member_uint(json, "cleared_input_tokens", *m->n_cleared_tokens);
        json_end_object(json);
    }
    json_end_array(json);
    json_end_object(json);
}

static void put_diagnostics(const struct message_writer *w, struct json_writer *json)
{
    if (w->facts.request->asks_diagnostics) {
        json_member_raw(json, "diagnostics", STR("{\"cache_miss_reason\":{\"type\":\"unavailable\"}}"));
    }
}

/* ---- one block ---- */

/* What a call was cut off in, or wrote wrong, is passed on as Anthropic's documents advise. */
static void put_input(struct json_writer *json, struct str arguments)
{
    struct error ignored = {0};
    bool empty = str_trim(arguments).len == 0;
    struct json *v = empty ? NULL : json_parse(arguments, 0, &ignored);
    json_key(json, "input");
    if (v && json_type(v) == JSON_OBJECT) {
        json_put_json(json, v);
    } else {
        json_begin_object(json);
        if (!empty) {
            json_member_str(json, "INVALID_JSON", arguments);
        }
        json_end_object(json);
    }
    json_free(v);
}

/* The open block: with what it has, or as a stream begins it, without what deltas bring. */
static void put_block(const struct message_writer *w, struct json_writer *json, bool whole)
{
    char signature[SIGNATURE_SIZE] = "";
    struct str text = whole ? buf_view(&w->text) : STR("");
    json_begin_object(json);
    switch (w->open) {
    case BLOCK_NONE:
        break;
    case BLOCK_TEXT:
        json_member_cstr(json, "type", "text");
        json_member_str(json, "text", text);
        break;
    case BLOCK_THINKING:
        if (whole) {
            anthropic__sign(text, signature);
        }
        json_member_cstr(json, "type", "thinking");
        json_member_str(json, "thinking", w->facts.request->omit_thinking ? STR("") : text);
        json_member_cstr(json, "signature", signature);
        break;
    case BLOCK_TOOL:
    case BLOCK_MCP_TOOL:
        put_call(w, json);
        put_input(json, text);
        break;
    case BLOCK_MCP_RESULT:
        put_result(w, json);
        break;
    }
    json_end_object(json);
}

/* ---- a body ---- */

static void body_close(struct message_writer *w, struct buf *out)
{
    put_block(w, &(struct json_writer){.out = out, .need_comma = out->len > 0}, true);
}

static void body_open(struct message_writer *w, struct buf *out)
{
    (void)w;
    (void)out;
}

static void body_more(struct message_writer *w, struct str text, struct buf *out)
{
    (void)out;
    buf_append(&w->text, text);
}

/* ---- a stream ---- */

static struct json_writer begin_event(struct buf *out, const char *type)
{
    buf_puts(out, "event: ");
    buf_puts(out, type);
    buf_putc(out, '\n');
    sse_begin(out);
    struct json_writer json = json_writer(out);
    json_begin_object(&json);
    json_member_cstr(&json, "type", type);
    return json;
}

static void end_event(struct json_writer *json)
{
    json_end_object(json);
    sse_end(json->out);
}

static void stream_open(struct message_writer *w, struct buf *out)
{
    struct json_writer json = begin_event(out, "content_block_start");
    json_member_uint(&json, "index", w->n_blocks - 1);
    json_key(&json, "content_block");
    put_block(w, &json, false);
    end_event(&json);
}

static void put_delta(const struct message_writer *w, const char *type, const char *member, struct str text,
                      struct buf *out)
{
    struct json_writer json = begin_event(out, "content_block_delta");
    json_member_uint(&json, "index", w->n_blocks - 1);
    json_key(&json, "delta");
    json_begin_object(&json);
    json_member_cstr(&json, "type", type);
    json_member_str(&json, member, text);
    json_end_object(&json);
    end_event(&json);
}

static void stream_more(struct message_writer *w, struct str text, struct buf *out)
{
    static const char *const types[][2] = {[BLOCK_TEXT] = {"text_delta", "text"},
                                           [BLOCK_THINKING] = {"thinking_delta", "thinking"},
                                           [BLOCK_TOOL] = {"input_json_delta", "partial_json"},
                                           [BLOCK_MCP_TOOL] = {"input_json_delta", "partial_json"}};
    bool thinking = w->open == BLOCK_THINKING;
    if (thinking) {
        buf_append(&w->text, text);
    }
    if (!thinking || !w->facts.request->omit_thinking) {
        put_delta(w, types[w->open][0], types[w->open][1], text, out);
    }
}

static void stream_close(struct message_writer *w, struct buf *out)
{
    char signature[SIGNATURE_SIZE];
    if (w->open == BLOCK_THINKING) {
        anthropic__sign(buf_view(&w->text), signature);
        put_delta(w, "signature_delta", "signature", str_of(signature), out);
    }
    struct json_writer json = begin_event(out, "content_block_stop");
    json_member_uint(&json, "index", w->n_blocks - 1);
    end_event(&json);
}

/* ---- which block is open ---- */

struct block_form {
    void (*open)(struct message_writer *w, struct buf *out);
    void (*more)(struct message_writer *w, struct str text, struct buf *out);
    void (*close)(struct message_writer *w, struct buf *out);
};
static const struct block_form stream_form = {stream_open, stream_more, stream_close};
static const struct block_form body_form = {body_open, body_more, body_close};

static void close_block(struct message_writer *w, const struct block_form *form, struct buf *out)
{
    if (w->open != BLOCK_NONE) {
        form->close(w, out);
        w->open = BLOCK_NONE;
        buf_clear(&w->text);
    }
}

static void open_block(struct message_writer *w, enum message_block kind, const struct block_form *form,
                       struct buf *out)
{
    if (w->open != kind) {
        close_block(w, form, out);
        w->open = kind;
        w->n_blocks++;
        form->open(w, out);
    }
}

static void take_arguments(struct message_writer *w, const struct gen_event *e, const struct block_form *form,
                           struct buf *out)
{
    enum message_block kind = e->call.server.ptr ? BLOCK_MCP_TOOL : BLOCK_TOOL;
    if (w->open != kind) {
        take_call(w, &e->call);
    }
    open_block(w, kind, form, out);
    form->more(w, e->text, out);
}

static void take_result(struct message_writer *w, const struct gen_event *e, const struct block_form *form,
                        struct buf *out)
{
    close_block(w, form, out);
    take_call(w, &e->call);
    w->is_error = e->is_error;
    buf_append(&w->text, e->text);
    open_block(w, BLOCK_MCP_RESULT, form, out);
    close_block(w, form, out);
}

/* A stream that somebody reads again from its middle may begin inside a block: every event says what it belongs to, so
 * that its rest becomes a block of its own. */
static void take_event(struct message_writer *w, const struct gen_event *e, const struct block_form *form,
                       struct buf *out)
{
    if (w->facts.request->warm_only && e->kind != GEN_FINISH) {
        return;
    }
    switch (e->kind) {
    case GEN_DELTA:
    case GEN_REASONING:
        if (e->text.len) {
            open_block(w, e->kind == GEN_DELTA ? BLOCK_TEXT : BLOCK_THINKING, form, out);
            form->more(w, e->text, out);
        }
        break;
    case GEN_CALL:
        close_block(w, form, out); /* also one of the call before it */
        take_call(w, &e->call);
        open_block(w, e->call.server.ptr ? BLOCK_MCP_TOOL : BLOCK_TOOL, form, out);
        break;
    case GEN_ARGUMENTS:
        take_arguments(w, e, form, out);
        break;
    case GEN_RESULT:
        take_result(w, e, form, out);
        break;
    case GEN_CALL_END:
        close_block(w, form, out);
        break;
    case GEN_FINISH:
        close_block(w, form, out);
        w->finish = *e;
        buf_append(&w->stop, e->stop);
        break;
    default:
        break;
    }
}

/* ---- all of it ---- */

void message_gather(struct message_writer *w, const struct gen_event *e)
{
    take_event(w, e, &body_form, &w->blocks);
}

void message_body(struct message_writer *w, const struct gen_usage *usage, struct buf *out)
{
    struct json_writer json = json_writer(out);
    put_head(w, &json);
    json_key(&json, "content");
    json_begin_array(&json);
    buf_append(out, buf_view(&w->blocks));
    json_end_array(&json);
    put_stop(w, &json);
    put_usage(w, &json, usage, true);
    put_edits(w, &json);
    put_diagnostics(w, &json);
    json_end_object(&json);
    out->failed |= w->blocks.failed || w->text.failed;
}

static void start(struct message_writer *w, const struct gen_event *e, struct buf *out)
{
    struct gen_usage usage = e->usage;
    if (w->started) {
        return;
    }
    w->started = true;
    usage.completion_tokens = usage.n_reasoning = 0; /* none of them was sent */
    struct json_writer json = begin_event(out, "message_start");
    json_key(&json, "message");
    put_head(w, &json);
    json_key(&json, "content");
    json_begin_array(&json);
    json_end_array(&json);
    json_member_null(&json, "stop_reason");
    json_member_null(&json, "stop_sequence");
    put_usage(w, &json, &usage, true);
    put_diagnostics(w, &json);
    json_end_object(&json);
    end_event(&json);
    json = begin_event(out, "ping");
    end_event(&json);
}

static void send_finish(const struct message_writer *w, const struct gen_event *e, struct buf *out)
{
    struct json_writer json = begin_event(out, "message_delta");
    json_key(&json, "delta");
    json_begin_object(&json);
    put_stop(w, &json);
    json_end_object(&json);
    put_usage(w, &json, &e->usage, false);
    put_edits(w, &json);
    end_event(&json);
}

void message_stream_event(struct message_writer *w, const struct gen_event *e, struct buf *out)
{
    start(w, e, out);
    take_event(w, e, &stream_form, out);
    if (e->kind == GEN_FINISH) {
        send_finish(w, e, out);
    } else if (e->kind == GEN_DONE) {
        struct json_writer json = begin_event(out, "message_stop");
        end_event(&json);
    }
    out->failed |= w->text.failed;
}
