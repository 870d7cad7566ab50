/* The Message object as an encoder of replies. */
#include "api/anthropic/anthropic.h"
#include "api/generate.h"
#include "api/openai/openai_objects.h"

#include "http/sse.h"

/* Whose answer it is has decoded the request; who reads it again has not. */
static struct message_facts facts_of(const struct gen_reply *r)
{
    const struct gen_request *request = reply_request(r);
    const struct engine_info *info = served_model_info(r->call->model);
    bool cached = served_model_options(r->call->model)->prefix_cache && request->cache_prompt;
    return (struct message_facts){.id = request->id,
                                  .model = reply_model(r),
                                  .fingerprint = reply_fingerprint(r),
                                  .resumed_from = r->origin->resumed_from,
                                  .request = r->origin->extra,
                                  .page_tokens = info && cached ? info->page_tokens : 0,
                                  .clipped = request->jobs[0].max_tokens < request->max_tokens};
}

/* Made with the first event: what it needs is known then. */
static struct message_writer *writer_of(struct gen_reply *r)
{
    struct message_writer *w = r->state;
    if (!w->facts.id) {
        struct message_facts facts = facts_of(r);
        message_writer_init(w, &facts);
    }
    return w;
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    message_stream_event(writer_of(r), e, out);
}

static void stream_error(struct gen_reply *r, const struct error *err, struct buf *out)
{
    struct buf json;
    buf_init(&json, KIB(16));
    api__write_anthropic_error(&json, err, reply_request(r)->request_id);
    sse_event(out, "error", buf_view(&json));
    buf_release(&json);
}

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    message_gather(writer_of(r), e);
}

static void body(struct gen_reply *r, struct buf *out)
{
    message_body(writer_of(r), &r->usage, out);
}

static void release(void *state)
{
    struct message_writer *w = state;
    if (w->facts.id) {
        message_writer_release(w);
    }
}

const struct gen_encoder api__messages_encoder = {
    .state_size = sizeof(struct message_writer),
    .release = release,
    .stream_event = stream_event,
    .stream_error = stream_error,
    .stream_end = "",
    .keepalive = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    .gather = gather,
    .body = body,
};
