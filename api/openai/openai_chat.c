/* Events to OpenAI's chat completion objects and chunks. */
#include "api/logprobs.h"
#include "api/openai/openai_objects.h"
#include "api/openai/openai_tools.h"

#define OBJECT       "chat.completion"
#define CHUNK_OBJECT "chat.completion.chunk"

/* Items of logprobs.content. */
static void put_logprobs(const struct gen_reply *r, struct buf *out, const struct gen_event *e)
{
    if (reply_request(r)->logprobs) {
        logprobs_put(out, e);
    }
}

static void put_logprobs_field(const struct gen_reply *r, struct json_writer *w, const struct buf *items)
{
    json_key(w, "logprobs");
    if (!reply_request(r)->logprobs) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_key(w, "content");
    json_begin_array(w);
    buf_append(w->out, buf_view(items));
    json_end_array(w);
    json_member_null(w, "refusal");
    json_end_object(w);
}

/* What a choice's client is not to see. */
static bool is_hidden(const struct gen_reply *r, const struct gen_event *e)
{
    return e->kind == GEN_REASONING && !reply_request(r)->include_reasoning;
}

/* Under both of its names: DeepSeek's, which most clients know, and vLLM's newer one. */
static void put_reasoning(struct json_writer *w, struct str text)
{
    json_member_str(w, "reasoning_content", text);
    json_member_str(w, "reasoning", text);
}

/* "name" and "arguments" of a function; no name: more of its arguments. */
static void put_function(struct json_writer *w, struct str name, struct str arguments)
{
    json_begin_object(w);
    if (name.ptr) {
        json_member_str(w, "name", name);
    }
    json_member_str(w, "arguments", arguments);
    json_end_object(w);
}

/* A call of an MCP tool, for `mcp_calls`: whole in a body; in a stream its beginning, more of its arguments, and its
 * result, joined by their index. */
static void put_mcp_call(struct json_writer *w, const struct gen_event *e, bool whole)
{
    bool begins = whole || e->kind == GEN_CALL, ends = e->kind == GEN_RESULT;
    json_begin_object(w);
    if (!whole) {
        json_member_uint(w, "index", e->call.index);
    }
    if (begins) {
        json_member_str(w, "id", e->call.id);
        json_member_str(w, "server", e->call.server);
        json_member_str(w, "name", e->call.own_name);
    }
    if (whole || !ends) {
        json_member_str(w, "arguments", whole ? e->call.arguments : e->text);
    }
    if (ends) {
        json_member_str(w, "output", e->text);
        json_member_bool(w, "is_error", e->is_error);
    }
    json_end_object(w);
}

/* ---- one body ---- */

/* A call is whole: an item of tool_calls, or all of function_call. */
static void gather_call(const struct gen_reply *r, struct reply_choice *c, const struct gen_event *e)
{
    struct json_writer w = {.out = &c->calls, .need_comma = c->calls.len > 0};
    if (reply_request(r)->legacy_functions) {
        put_function(&w, e->call.name, buf_view(&c->arguments));
    } else {
        openai_put_call(&w, e->call.id, e->call.name, buf_view(&c->arguments));
    }
    buf_clear(&c->arguments);
}

static void gather_piece(struct gen_reply *r, struct reply_choice *c, const struct gen_event *e)
{
    struct buf *texts[] = {[GEN_DELTA] = &c->text, [GEN_REASONING] = &c->reasoning, [GEN_ARGUMENTS] = &c->arguments};
    bool of_mcp = e->call.server.ptr; /* its RESULT has all of it */
    if (e->kind == GEN_CALL_END && !of_mcp) {
        gather_call(r, c, e);
    } else if (e->kind != GEN_CALL && !of_mcp) {
        buf_append(texts[e->kind], e->text);
    }
    reply_gather_tokens(c, e);
    put_logprobs(r, &c->logprobs, e);
}

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    struct reply_choice *c = &r->choices[e->index];
    if (is_hidden(r, e)) {
        return;
    }
    switch (e->kind) {
    case GEN_PROMPT_LOGPROBS:
        reply_prompt_logprobs(&c->prompt_logprobs, e);
        break;
    case GEN_DELTA:
    case GEN_REASONING:
    case GEN_CALL:
    case GEN_ARGUMENTS:
    case GEN_CALL_END:
        gather_piece(r, c, e);
        break;
    case GEN_RESULT:
        put_mcp_call(&(struct json_writer){.out = &c->mcp_calls, .need_comma = c->mcp_calls.len > 0}, e, true);
        break;
    case GEN_FINISH:
        reply_gather_finish(c, e);
        break;
    default:
        break;
    }
}

/* Beside calls, no content is none. */
static void put_message(const struct gen_reply *r, struct json_writer *w, const struct reply_choice *c)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "assistant");
    json_key(w, "content");
    if (c->text.len == 0 && c->n_calls > 0) {
        json_put_null(w);
    } else {
        json_put_str(w, buf_view(&c->text));
    }
    json_member_null(w, "refusal");
    if (c->reasoning.len) {
        put_reasoning(w, buf_view(&c->reasoning));
    }
    if (c->calls.len && reply_request(r)->legacy_functions) {
        json_member_raw(w, "function_call", buf_view(&c->calls));
    } else if (c->calls.len) {
        reply_array(w, "tool_calls", &c->calls);
    }
    if (c->mcp_calls.len) {
        reply_array(w, "mcp_calls", &c->mcp_calls);
    }
    json_end_object(w);
}

static void put_choice(struct gen_reply *r, struct json_writer *w, size_t index)
{
    struct reply_choice *c = &r->choices[index];
    json_begin_object(w);
    json_member_uint(w, "index", index);
    json_key(w, "message");
    put_message(r, w, c);
    put_logprobs_field(r, w, &c->logprobs);
    reply_end_choice(r, w, c);
}

static void body(struct gen_reply *r, struct buf *out)
{
    struct json_writer w = reply_begin(r, out, OBJECT);
    for (size_t i = 0; i < r->n_choices; i++) {
        put_choice(r, &w, i);
    }
    reply_end_choices(r, &w);
    if (reply_request(r)->prompt_logprobs) {
        json_member_raw(&w, "prompt_logprobs", buf_view(&r->choices[0].prompt_logprobs));
    }
    json_end_object(&w);
}

/* ---- chunks ---- */

static void begin_choice(struct json_writer *w, uint32_t index)
{
    json_begin_object(w);
    json_member_uint(w, "index", index);
    json_key(w, "delta");
    json_begin_object(w);
}

/* The first chunk of a choice: its role, no text yet. */
static void send_role(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    if (r->choices[e->index].started) {
        return;
    }
    r->choices[e->index].started = true;
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    json_member_cstr(&w, "role", "assistant");
    json_member_cstr(&w, "content",
                     e->kind == GEN_CALL || e->kind == GEN_REASONING ? NULL : ""); /* there may be none */
    json_end_object(&w);
    json_member_null(&w, "logprobs");
    json_member_null(&w, "finish_reason");
    json_end_object(&w);
    reply_end_role_chunk(r, &w, e);
}

/* The beginning of a call has its name, what follows more of its arguments. */
static void put_call(const struct gen_reply *r, struct json_writer *w, const struct gen_event *e)
{
    bool begins = e->kind == GEN_CALL;
    struct str name = begins ? e->call.name : (struct str){0};
    if (reply_request(r)->legacy_functions) {
        json_key(w, "function_call");
        put_function(w, name, e->text);
        return;
    }
    json_key(w, "tool_calls");
    json_begin_array(w);
    json_begin_object(w);
    json_member_uint(w, "index", e->call.index);
    if (begins) {
        json_member_str(w, "id", e->call.id);
        json_member_cstr(w, "type", "function");
    }
    json_key(w, "function");
    put_function(w, name, e->text);
    json_end_object(w);
    json_end_array(w);
}

static void put_delta(const struct gen_reply *r, struct json_writer *w, const struct gen_event *e)
{
    if (e->kind == GEN_DELTA) {
        json_member_str(w, "content", e->text);
    } else if (e->kind == GEN_REASONING) {
        put_reasoning(w, e->text);
    } else if (e->call.server.ptr) {
        json_key(w, "mcp_calls");
        json_begin_array(w);
        put_mcp_call(w, e, false);
        json_end_array(w);
    } else {
        put_call(r, w, e);
    }
}

/* The end of a call says nothing of its own: it goes out for the tokens that it has. */
static void send_delta(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct buf *items = &r->choices[e->index].logprobs;
    if (is_hidden(r, e) || (e->kind == GEN_CALL_END && e->n_tokens == 0)) {
        return;
    }
    send_role(r, e, out);
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    put_delta(r, &w, e);
    json_end_object(&w);
    buf_clear(items);
    put_logprobs(r, items, e);
    put_logprobs_field(r, &w, items);
    reply_end_chunk_choice(r, &w, e);
    reply_end_chunk(r, &w, e);
}

static void send_finish(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    json_end_object(&w);
    json_member_null(&w, "logprobs");
    reply_end_chunk_choice(r, &w, e);
    reply_end_chunk(r, &w, e);
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    switch (e->kind) {
    case GEN_PROGRESS:
        send_role(r, e, out);
        reply_progress_chunk(r, CHUNK_OBJECT, e, out);
        break;
    case GEN_DELTA:
    case GEN_REASONING:
    case GEN_CALL:
    case GEN_ARGUMENTS:
    case GEN_CALL_END:
    case GEN_RESULT:
        send_delta(r, e, out);
        break;
    case GEN_FINISH:
        send_role(r, e, out);
        send_finish(r, e, out);
        break;
    case GEN_DONE:
        reply_usage_chunk(r, CHUNK_OBJECT, e, out);
        break;
    default:
        break;
    }
}

const struct gen_encoder api__chat_encoder = {.stream_event = stream_event,
                                              .stream_error = reply_stream_error,
                                              .stream_end = OPENAI_STREAM_END,
                                              .keepalive = OPENAI_KEEPALIVE,
                                              .gather = gather,
                                              .body = body};
