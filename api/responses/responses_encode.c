/* Events to the items of a response, and to the events that say how they grow. A stream and a body go through the same
 * steps; a body is a stream that nobody reads until its end.
 *
 *     REASONING* -> item "reasoning"      opened by its first text, closed by whatever is not more of it
 *     DELTA*     -> item "message"
 *     CALL ...   -> item "function_call"; of an MCP tool "mcp_call", which stays open until its RESULT
 *
 * Sequence numbers count events, and events are the same for all who read an answer (gen_request.stepwise), whenever
 * and from wherever they read it: so a number says where somebody stands, and needs to be kept nowhere. */
#include "api/responses/responses.h"

#include "api/logprobs.h"
#include "api/openai/openai_objects.h"
#include "base/array.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum open_item { OPEN_NONE, OPEN_REASONING, OPEN_MESSAGE, OPEN_CALL, OPEN_MCP };

struct responses_state {
    bool ready, begun;
    uint64_t sequence, first; /* of the next event; of the first that is sent */
    size_t mark;              /* where the event at hand begins */
    enum open_item open;
    uint32_t n_items, n_lists; /* begun; lists of tools, which come first */
    uint32_t at;               /* the place of the item that events are about, among the output's */
    char item_id[48];
    struct buf text, logprobs; /* of the open item: text or arguments, JSON items */
    struct buf call_id, call_name;
    struct buf *items; /* [cap_items] JSON of those that have ended, by place; the others are empty */
    size_t cap_items;
    uint32_t *mcp_places; /* [cap_mcp] of the items of MCP calls, in their order */
    size_t cap_mcp;
    struct buf output; /* all that have ended */
    enum finish_reason finish;
    bool out_of_turns, listed, no_memory;
};

static void release(void *state)
{
    struct responses_state *s = state;
    struct buf *all[] = {&s->text, &s->logprobs, &s->call_id, &s->call_name, &s->output};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
    for (size_t i = 0; i < s->cap_items; i++) {
        buf_release(&s->items[i]);
    }
    free(s->items);
    free(s->mcp_places);
}

static struct responses_state *state_of(struct gen_reply *r)
{
    struct responses_state *s = r->state;
    if (!s->ready) {
        struct buf *all[] = {&s->text, &s->logprobs, &s->call_id, &s->call_name, &s->output};
        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
            buf_init(all[i], LIMIT_HTTP_REPLY);
        }
        s->first = r->call->first_event;
        s->ready = true;
    }
    return s;
}

/* ---- events ---- */

/* False: nobody reads; else *w stands in an object with type and number. */
static bool begin(struct responses_state *s, struct buf *out, const char *name, struct json_writer *w)
{
    if (!out) {
        return false;
    }
    s->mark = out->len;
    buf_puts(out, "event: ");
    buf_puts(out, name);
    buf_puts(out, "\ndata: ");
    *w = json_writer(out);
    json_begin_object(w);
    json_member_cstr(w, "type", name);
    json_member_uint(w, "sequence_number", s->sequence);
    return true;
}

static void end(struct responses_state *s, struct json_writer *w)
{
    json_end_object(w);
    buf_puts(w->out, "\n\n");
    if (s->sequence < s->first) {
        buf_truncate(w->out, s->mark);
    }
    s->sequence++;
}

static bool is_call(const struct responses_state *s)
{
    return s->open == OPEN_CALL || s->open == OPEN_MCP;
}

/* Those that are about the open item. */
static bool begin_of_item(struct responses_state *s, struct buf *out, const char *name, struct json_writer *w)
{
    if (!begin(s, out, name, w)) {
        return false;
    }
    json_member_uint(w, "output_index", s->at);
    return true;
}

static bool begin_of_part(struct responses_state *s, struct buf *out, const char *name, struct json_writer *w)
{
    if (!begin_of_item(s, out, name, w)) {
        return false;
    }
    json_member_cstr(w, "item_id", s->item_id);
    if (!is_call(s)) {
        json_member_uint(w, "content_index", 0);
    }
    return true;
}

/* ---- items ---- */

static void put_logprobs(struct json_writer *w, struct str items)
{
    json_key(w, "logprobs");
    json_begin_array(w);
    buf_append(w->out, items);
    json_end_array(w);
}

static void put_part(struct json_writer *w, const struct responses_state *s, struct str text, struct str logprobs)
{
    json_begin_object(w);
    if (s->open == OPEN_MESSAGE) {
        json_member_cstr(w, "type", "output_text");
        json_member_raw(w, "annotations", STR("[]"));
        put_logprobs(w, logprobs);
    } else {
        json_member_cstr(w, "type", "reasoning_text");
    }
    json_member_str(w, "text", text);
    json_end_object(w);
}

static void put_content(struct json_writer *w, const struct responses_state *s, bool whole)
{
    json_key(w, "content");
    json_begin_array(w);
    if (whole) {
        put_part(w, s, buf_view(&s->text), buf_view(&s->logprobs));
    }
    json_end_array(w);
}

/* The open item, with all that it has or as it began. */
static void put_item(struct json_writer *w, const struct responses_state *s, const char *status, bool whole)
{
    static const char *const types[] = {
        [OPEN_REASONING] = "reasoning", [OPEN_MESSAGE] = "message", [OPEN_CALL] = "function_call"};
    json_begin_object(w);
    json_member_cstr(w, "id", s->item_id);
    json_member_cstr(w, "type", types[s->open]);
    json_member_cstr(w, "status", status);
    if (s->open == OPEN_CALL) {
        json_member_str(w, "call_id", buf_view(&s->call_id));
        json_member_str(w, "name", buf_view(&s->call_name));
        json_member_str(w, "arguments", whole ? buf_view(&s->text) : STR(""));
    } else if (s->open == OPEN_REASONING) {
        json_member_raw(w, "summary", STR("[]"));
        put_content(w, s, whole);
    } else {
        json_member_cstr(w, "role", "assistant");
        put_content(w, s, whole);
    }
    json_end_object(w);
}

static void send_part(struct responses_state *s, struct buf *out, const char *name, struct str text,
                      struct str logprobs)
{
    struct json_writer w;
    if (begin_of_part(s, out, name, &w)) {
        json_key(&w, "part");
        put_part(&w, s, text, logprobs);
        end(s, &w);
    }
}

static void send_item(struct responses_state *s, struct buf *out, const char *name, const char *status, bool whole)
{
    struct json_writer w;
    if (begin_of_item(s, out, name, &w)) {
        json_key(&w, "item");
        put_item(&w, s, status, whole);
        end(s, &w);
    }
}

static void send_text_done(struct responses_state *s, struct buf *out)
{
    static const char *const names[] = {[OPEN_REASONING] = "response.reasoning_text.done",
                                        [OPEN_MESSAGE] = "response.output_text.done",
                                        [OPEN_CALL] = "response.function_call_arguments.done",
                                        [OPEN_MCP] = "response.mcp_call_arguments.done"};
    struct json_writer w;
    if (!begin_of_part(s, out, names[s->open], &w)) {
        return;
    }
    if (s->open == OPEN_CALL) {
        json_member_str(&w, "name", buf_view(&s->call_name));
    }
    if (s->open == OPEN_MESSAGE) {
        put_logprobs(&w, buf_view(&s->logprobs));
    }
    json_member_str(&w, is_call(s) ? "arguments" : "text", buf_view(&s->text));
    end(s, &w);
}

/* Where the item that events are about is kept once it has ended. */
static struct buf *place_of_item(struct responses_state *s)
{
    struct error ignored = {0};
    size_t had = s->cap_items;
    if (!array_reserve(&s->items, &s->cap_items, s->at + 1, UINT32_MAX, "items", &ignored)) {
        s->no_memory = true;
        return &s->output; /* which nobody will read */
    }
    for (size_t i = had; i < s->cap_items; i++) {
        buf_init(&s->items[i], LIMIT_HTTP_REPLY);
    }
    return &s->items[s->at];
}

static struct str join_items(struct responses_state *s)
{
    buf_clear(&s->output);
    for (size_t i = 0; i < s->cap_items; i++) {
        bool ended = s->items[i].len > 0;
        buf_puts(&s->output, ended && s->output.len ? "," : "");
        buf_append(&s->output, buf_view(&s->items[i]));
        s->output.failed |= s->items[i].failed;
    }
    s->output.failed |= s->no_memory;
    return buf_view(&s->output);
}

/* Whole items are made for streams too: the last event has them all. */
static void close_item(struct responses_state *s, const char *status, struct buf *out)
{
    if (s->open == OPEN_MCP) { /* an error came before the call's end */
        buf_clear(&s->text);
        s->open = OPEN_NONE;
    }
    if (s->open == OPEN_NONE) {
        return;
    }
    send_text_done(s, out);
    if (s->open != OPEN_CALL) {
        send_part(s, out, "response.content_part.done", buf_view(&s->text), buf_view(&s->logprobs));
    }
    send_item(s, out, "response.output_item.done", status, true);
    struct json_writer w = json_writer(place_of_item(s));
    put_item(&w, s, status, true);
    buf_clear(&s->text);
    buf_clear(&s->logprobs);
    s->open = OPEN_NONE;
}

/* Events are about this item now. Named after the response, so that whoever has the item's name knows where it lies. */
static void point_at(struct gen_reply *r, const char *prefix, uint32_t at)
{
    struct responses_state *s = r->state;
    s->at = at;
    snprintf(s->item_id, sizeof s->item_id, "%s_%.*s%04x", prefix, RESPONSES_ID_DIGITS,
             reply_request(r)->id + strlen("resp_"), (unsigned)at & 0x7fff);
}

static void open_item(struct gen_reply *r, enum open_item kind, struct buf *out)
{
    static const char *const prefixes[] = {[OPEN_REASONING] = "rs", [OPEN_MESSAGE] = "msg", [OPEN_CALL] = "fc"};
    struct responses_state *s = r->state;
    close_item(s, "completed", out);
    s->open = kind;
    point_at(r, prefixes[kind], s->n_items++);
    send_item(s, out, "response.output_item.added", "in_progress", false);
    if (kind != OPEN_CALL) {
        send_part(s, out, "response.content_part.added", STR(""), STR(""));
    }
}

/* ---- growing ---- */

static void send_delta(struct responses_state *s, const struct gen_event *e, struct str logprobs, struct buf *out)
{
    static const char *const names[] = {[OPEN_REASONING] = "response.reasoning_text.delta",
                                        [OPEN_MESSAGE] = "response.output_text.delta",
                                        [OPEN_CALL] = "response.function_call_arguments.delta",
                                        [OPEN_MCP] = "response.mcp_call_arguments.delta"};
    struct json_writer w;
    if (begin_of_part(s, out, names[s->open], &w)) {
        json_member_str(&w, "delta", e->text);
        if (s->open == OPEN_MESSAGE) {
            put_logprobs(&w, logprobs);
        }
        end(s, &w);
    }
}

/* Tokens without text of their own open no message: they may be markers of something else. */
static void take_text(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    bool scored = reply_request(r)->logprobs && e->n_tokens;
    if (e->text.len == 0 && !(scored && s->open == OPEN_MESSAGE)) {
        return;
    }
    if (s->open != OPEN_MESSAGE) {
        open_item(r, OPEN_MESSAGE, out);
    }
    size_t had = s->logprobs.len;
    if (scored) {
        logprobs_put(&s->logprobs, e);
    }
    struct str added = str_slice(buf_view(&s->logprobs), had ? had + 1 : 0, s->logprobs.len);
    buf_append(&s->text, e->text);
    send_delta(s, e, s->logprobs.len > had ? added : STR(""), out);
}

static void take_reasoning(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    if (e->text.len == 0) {
        return;
    }
    if (s->open != OPEN_REASONING) {
        open_item(r, OPEN_REASONING, out);
    }
    buf_append(&s->text, e->text);
    send_delta(s, e, STR(""), out);
}

static void take_call(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    close_item(s, "completed", out);
    buf_clear(&s->call_id);
    buf_clear(&s->call_name);
    buf_append(&s->call_id, e->call.id);
    buf_append(&s->call_name, e->call.name);
    open_item(r, OPEN_CALL, out);
}

static void take_arguments(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    if (e->text.len && is_call(s)) {
        buf_append(&s->text, e->text);
        send_delta(s, e, STR(""), out);
    }
}

/* ---- MCP tools ---- */

static void send_mcp_item(struct gen_reply *r, const char *name, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    struct json_writer w;
    if (begin_of_item(s, out, name, &w)) {
        json_key(&w, "item");
        responses_put_mcp_call(&w, s->item_id, e);
        end(s, &w);
    }
}

static void send_mcp_state(struct responses_state *s, const char *name, struct buf *out)
{
    struct json_writer w;
    if (begin_of_item(s, out, name, &w)) {
        json_member_cstr(&w, "item_id", s->item_id);
        end(s, &w);
    }
}

static void take_mcp_call(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    struct error ignored = {0};
    close_item(s, "completed", out);
    if (!array_reserve(&s->mcp_places, &s->cap_mcp, e->call.index + 1, UINT32_MAX, "items", &ignored)) {
        s->no_memory = true;
        return;
    }
    s->mcp_places[e->call.index] = s->n_items;
    s->open = OPEN_MCP;
    point_at(r, "mcp", s->n_items++);
    send_mcp_item(r, "response.output_item.added", e, out);
    send_mcp_state(s, "response.mcp_call.in_progress", out);
}

/* The item waits for the call's result. */
static void take_mcp_call_end(struct responses_state *s, struct buf *out)
{
    send_text_done(s, out);
    buf_clear(&s->text);
    s->open = OPEN_NONE;
}

static void take_result(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    close_item(s, "completed", out);
    if (e->call.index >= s->cap_mcp) {
        return; /* there was no memory for it */
    }
    point_at(r, "mcp", s->mcp_places[e->call.index]);
    send_mcp_state(s, e->is_error ? "response.mcp_call.failed" : "response.mcp_call.completed", out);
    send_mcp_item(r, "response.output_item.done", e, out);
    struct json_writer w = json_writer(place_of_item(s));
    responses_put_mcp_call(&w, s->item_id, e);
}

static void send_list(struct gen_reply *r, const char *name, struct str server, bool whole, struct buf *out)
{
    struct responses_state *s = r->state;
    struct json_writer w;
    if (begin_of_item(s, out, name, &w)) {
        json_key(&w, "item");
        responses_put_mcp_list(&w, s->item_id, &reply_request(r)->mcp, server, whole);
        end(s, &w);
    }
}

/* The tools of the servers, which were known before the answer began. */
static void list_tools(struct gen_reply *r, struct buf *out)
{
    struct responses_state *s = state_of(r);
    const struct gen_mcp *mcp = &reply_request(r)->mcp;
    for (size_t i = 0; !s->listed && i < mcp->n_tools; i++) {
        if (!responses_lists_mcp(r->origin, i)) {
            continue;
        }
        s->n_lists++;
        point_at(r, "mcpl", s->n_items++);
        send_list(r, "response.output_item.added", mcp->tools[i].server, false, out);
        send_mcp_state(s, "response.mcp_list_tools.in_progress", out);
        send_mcp_state(s, "response.mcp_list_tools.completed", out);
        send_list(r, "response.output_item.done", mcp->tools[i].server, true, out);
        struct json_writer w = json_writer(place_of_item(s));
        responses_put_mcp_list(&w, s->item_id, mcp, mcp->tools[i].server, true);
    }
    s->listed = true;
}

/* ---- all of them ---- */

static void take_call_end(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    if (e->call.server.ptr) {
        take_mcp_call_end(r->state, out);
        return;
    }
    close_item(r->state, e->call.valid ? "completed" : "incomplete", out);
}

/* An answer of nothing is an empty message. */
static void take_finish(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    s->finish = e->finish;
    s->out_of_turns = e->out_of_turns;
    if (s->n_items == s->n_lists) {
        open_item(r, OPEN_MESSAGE, out);
    }
    close_item(s, e->finish == FINISH_STOP ? "completed" : "incomplete", out);
}

static void take(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    switch (e->kind) {
    case GEN_DELTA:
        take_text(r, e, out);
        break;
    case GEN_REASONING:
        take_reasoning(r, e, out);
        break;
    case GEN_CALL:
        (e->call.server.ptr ? take_mcp_call : take_call)(r, e, out);
        break;
    case GEN_RESULT:
        take_result(r, e, out);
        break;
    case GEN_ARGUMENTS:
        take_arguments(r, e, out);
        break;
    case GEN_CALL_END:
        take_call_end(r, e, out);
        break;
    case GEN_FINISH:
        take_finish(r, e, out);
        break;
    default:
        break;
    }
}

/* ---- the response around them ---- */

static struct responses_view view_of(const struct gen_reply *r, const char *status)
{
    return (struct responses_view){.call = r->origin,
                                   .status = status,
                                   .model = reply_model(r),
                                   .fingerprint = reply_fingerprint(r),
                                   .resumed_from = r->origin->resumed_from};
}

static struct responses_view ended_view(const struct gen_reply *r, const struct gen_usage *usage)
{
    struct responses_state *s = r->state;
    struct responses_view v = view_of(r, s->finish == FINISH_STOP ? "completed" : "incomplete");
    struct gen_timings t;
    struct gen_usage ignored;
    v.output = join_items(s);
    v.usage = usage;
    if (s->finish == FINISH_CANCELLED) {
        v.status = "cancelled";
    } else if (s->finish == FINISH_LENGTH) {
        v.incomplete = s->out_of_turns ? "mcp_max_turns" : "max_output_tokens";
    } else if (s->finish == FINISH_STOP) {
        generation_timings(r->generation, clock_us(), &t, &ignored);
        v.completed_s = reply_request(r)->created_s + (t.total_us > 0 ? t.total_us / 1000000 : 0);
    }
    return v;
}

static void send_response(struct responses_state *s, const char *name, const struct responses_view *v, struct buf *out)
{
    struct json_writer w;
    if (begin(s, out, name, &w)) {
        json_key(&w, "response");
        responses_put_object(&w, v);
        end(s, &w);
    }
}

static void send_begin(struct gen_reply *r, struct buf *out)
{
    struct responses_state *s = state_of(r);
    if (s->begun) {
        return;
    }
    s->begun = true;
    bool background = reply_request(r)->background;
    struct responses_view created = view_of(r, background ? "queued" : "in_progress");
    struct responses_view running = view_of(r, "in_progress");
    send_response(s, "response.created", &created, out);
    if (background) {
        send_response(s, "response.queued", &created, out);
    }
    send_response(s, "response.in_progress", &running, out);
}

/* There is no event for one that was cancelled; it did not become complete. */
static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = state_of(r);
    send_begin(r, out);
    list_tools(r, out);
    if (e->kind == GEN_DONE) {
        struct responses_view v = ended_view(r, &e->usage);
        send_response(s, s->finish == FINISH_STOP ? "response.completed" : "response.incomplete", &v, out);
    } else {
        take(r, e, out);
    }
}

static void stream_error(struct gen_reply *r, const struct error *err, struct buf *out)
{
    struct responses_state *s = state_of(r);
    struct json_writer w;
    send_begin(r, out);
    if (begin(s, out, "error", &w)) {
        const char *code = error_info(err->code)->openai_code;
        json_member_cstr(&w, "code", code[0] ? code : error_info(err->code)->openai_type);
        json_member_cstr(&w, "message", err->msg);
        json_member_cstr(&w, "param", err->param[0] ? err->param : NULL);
        end(s, &w);
    }
    close_item(s, "incomplete", NULL);
    struct responses_view v = view_of(r, "failed");
    v.error = err;
    v.output = join_items(s);
    send_response(s, "response.failed", &v, out);
}

/* Of one that was accepted and has not begun. */
static void accepted(const struct call *c, struct buf *out)
{
    struct json_writer w = json_writer(out);
    bool named = c->request.model.len && !str_eq(c->request.model, STR("default"));
    struct responses_view v = {
        .call = c, .status = "queued", .model = named ? c->request.model.ptr : api__call_served_name(c)};
    responses_put_object(&w, &v);
}

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    list_tools(r, NULL);
    take(r, e, NULL);
}

static void body(struct gen_reply *r, struct buf *out)
{
    struct json_writer w = json_writer(out);
    (void)state_of(r);
    struct responses_view v = ended_view(r, &r->usage);
    responses_put_object(&w, &v);
}

const struct gen_encoder api__responses_encoder = {
    .state_size = sizeof(struct responses_state),
    .release = release,
    .stream_event = stream_event,
    .stream_error = stream_error,
    .stream_end = "",
    .keepalive = OPENAI_KEEPALIVE,
    .numbered = true,
    .accepted = accepted,
    .gather = gather,
    .body = body,
};
