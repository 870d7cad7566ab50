/* Events to the items of a response, and to the events that say how they grow. A stream and a body go through the same
 * steps; a body is a stream that nobody reads until its end.
 *
 *     REASONING* -> item "reasoning"      opened by its first text, closed by whatever is not more of it
 *     DELTA*     -> item "message"
 *     CALL ...   -> item "function_call"
 *
 * Sequence numbers count events, and events are the same for all who read an answer (gen_request.stepwise), whenever
 * and from wherever they read it: so a number says where somebody stands, and needs to be kept nowhere. */
#include "api/responses/responses.h"

#include "api/logprobs.h"
#include "api/openai/openai_objects.h"
#include "base/array.h"
#include "base/clock.h"

#include <stdio.h>

enum open_item { OPEN_NONE, OPEN_REASONING, OPEN_MESSAGE, OPEN_CALL };

struct responses_state {
    bool ready, begun;
    uint64_t sequence, first; /* of the next event; of the first that is sent */
    size_t mark;              /* where the event at hand begins */
    enum open_item open;
    uint32_t n_items; /* begun */
    char item_id[48];
    struct buf text, logprobs; /* of the open item: text or arguments, JSON items */
    struct buf call_id, call_name;
    struct buf output; /* items that have ended */
    enum finish_reason finish;
};

static void release(void *state)
{
    struct responses_state *s = state;
    struct buf *all[] = {&s->text, &s->logprobs, &s->call_id, &s->call_name, &s->output};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
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

/* Those that are about the open item. */
static bool begin_of_item(struct responses_state *s, struct buf *out, const char *name, struct json_writer *w)
{
    if (!begin(s, out, name, w)) {
        return false;
    }
    json_member_uint(w, "output_index", s->n_items - 1);
    return true;
}

static bool begin_of_part(struct responses_state *s, struct buf *out, const char *name, struct json_writer *w)
{
    if (!begin_of_item(s, out, name, w)) {
        return false;
    }
    json_member_cstr(w, "item_id", s->item_id);
    if (s->open != OPEN_CALL) {
        json_member_uint(w, "content_index", 0);
    }
    return true;
}

/* ---- items ---- */

static void put_text(struct json_writer *w, const char *key, struct str text)
{
    json_key(w, key);
    json_put_str(w, text);
}

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
        json_key(w, "annotations");
        json_put_raw(w, STR("[]"));
        put_logprobs(w, logprobs);
    } else {
        json_member_cstr(w, "type", "reasoning_text");
    }
    put_text(w, "text", text);
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
        put_text(w, "call_id", buf_view(&s->call_id));
        put_text(w, "name", buf_view(&s->call_name));
        put_text(w, "arguments", whole ? buf_view(&s->text) : STR(""));
    } else if (s->open == OPEN_REASONING) {
        json_key(w, "summary");
        json_put_raw(w, STR("[]"));
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
                                        [OPEN_CALL] = "response.function_call_arguments.done"};
    struct json_writer w;
    if (!begin_of_part(s, out, names[s->open], &w)) {
        return;
    }
    if (s->open == OPEN_CALL) {
        put_text(&w, "name", buf_view(&s->call_name));
    }
    if (s->open == OPEN_MESSAGE) {
        put_logprobs(&w, buf_view(&s->logprobs));
    }
    put_text(&w, s->open == OPEN_CALL ? "arguments" : "text", buf_view(&s->text));
    end(s, &w);
}

/* Whole items are made for streams too: the last event has them all. */
static void close_item(struct responses_state *s, const char *status, struct buf *out)
{
    if (s->open == OPEN_NONE) {
        return;
    }
    send_text_done(s, out);
    if (s->open != OPEN_CALL) {
        send_part(s, out, "response.content_part.done", buf_view(&s->text), buf_view(&s->logprobs));
    }
    send_item(s, out, "response.output_item.done", status, true);
    struct json_writer w = {.out = &s->output, .need_comma = s->output.len > 0};
    put_item(&w, s, status, true);
    buf_clear(&s->text);
    buf_clear(&s->logprobs);
    s->open = OPEN_NONE;
}

/* Named after the response, so that whoever has the item's name knows where it lies. */
static void open_item(struct gen_reply *r, enum open_item kind, struct buf *out)
{
    static const char *const prefixes[] = {[OPEN_REASONING] = "rs", [OPEN_MESSAGE] = "msg", [OPEN_CALL] = "fc"};
    struct responses_state *s = r->state;
    close_item(s, "completed", out);
    s->open = kind;
    snprintf(s->item_id, sizeof s->item_id, "%s_%.*s%04x", prefixes[kind], RESPONSES_ID_DIGITS,
             reply_request(r)->id + strlen("resp_"), (unsigned)s->n_items++ & 0x7fff);
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
                                        [OPEN_CALL] = "response.function_call_arguments.delta"};
    struct json_writer w;
    if (begin_of_part(s, out, names[s->open], &w)) {
        put_text(&w, "delta", e->text);
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
    if (e->text.len && s->open == OPEN_CALL) {
        buf_append(&s->text, e->text);
        send_delta(s, e, STR(""), out);
    }
}

static void take_call_end(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    close_item(r->state, e->call.valid ? "completed" : "incomplete", out);
}

/* An answer of nothing is an empty message. */
static void take_finish(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct responses_state *s = r->state;
    s->finish = e->finish;
    if (s->n_items == 0) {
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
        take_call(r, e, out);
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
    const struct responses_state *s = r->state;
    struct responses_view v = view_of(r, s->finish == FINISH_STOP ? "completed" : "incomplete");
    struct gen_timings t;
    struct gen_usage ignored;
    v.output = buf_view(&s->output);
    v.usage = usage;
    if (s->finish == FINISH_CANCELLED) {
        v.status = "cancelled";
    } else if (s->finish == FINISH_LENGTH) {
        v.incomplete = "max_output_tokens";
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
    v.output = buf_view(&s->output);
    send_response(s, "response.failed", &v, out);
}

/* Of one that was accepted and has not begun. */
static void accepted(const struct call *c, struct buf *out)
{
    struct json_writer w = json_writer(out);
    bool named = c->request.model.len && !str_eq(c->request.model, STR("default"));
    struct responses_view v = {
        .call = c, .status = "queued", .model = named ? c->request.model.ptr : served_model_name(c->model)};
    responses_put_object(&w, &v);
}

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    (void)state_of(r);
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
