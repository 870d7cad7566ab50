/* POST /v1/messages and /v1/messages/count_tokens: whole bodies. */
#include "api/anthropic/anthropic.h"

#include "base/array.h"
#include "pipeline/mcp/mcp_host.h"

#include <stdio.h>

void anthropic__sign(struct str thinking, char out[SIGNATURE_SIZE])
{
    struct sha256 digest = sha256_of(thinking.ptr ? thinking.ptr : "", thinking.len);
    memcpy(out, SIGNATURE_PREFIX, sizeof SIGNATURE_PREFIX);
    sha256_hex(&digest, out + sizeof SIGNATURE_PREFIX - 1);
}

bool anthropic__own_json(struct gen_request *r, struct buf *text, const struct json **out, struct error *err)
{
    if (!buf_ok(text, "the request", err)) {
        return false;
    }
    struct json *v = json_parse(buf_view(text), LIMIT_JSON_DEPTH + 4, err); /* objects around what the client sent */
    v = json_keep(v, r->arena, "the request", err);
    *out = v ? v : *out;
    return v != NULL;
}

static struct messages_request *create(struct call *c, struct error *err)
{
    const struct app_options *o = &c->app->options;
    struct messages_request *m = arena_alloc(c->arena, sizeof *m);
    uint64_t *n_cleared_tokens = m ? arena_alloc(c->arena, sizeof *n_cleared_tokens) : NULL;
    if (!n_cleared_tokens) {
        arena_full(c->arena, "the request", err);
        return NULL;
    }
    *m = (struct messages_request){
        .drop_volatile_lines = o->drop_volatile_lines, .keep_thinking = -1, .n_cleared_tokens = n_cleared_tokens};
    struct gen_request *r = &m->request;
    api__init_request(c, r, GEN_CHAT, "msg_");
    r->clip_max_tokens = true;
    return m;
}

static struct messages_request *decode(struct call *c, struct error *err)
{
    struct messages_request *m = create(c, err);
    if (!m) {
        return NULL;
    }
    struct decoding d = api__decoding(c, m);
    d.request = &m->request;
    bool ok = api__decode_body(c, &d, c->body, err) && (m->messages || field_missing_error(err, "messages")) &&
              anthropic__convert_mcp(c, &d, err) && anthropic__convert_tools(&d, err) &&
              anthropic__convert_turns(m, err);
    c->n_volatile = m->n_volatile;
    return ok ? m : NULL;
}

static bool check_lengths(struct messages_request *m, struct error *err)
{
    struct gen_request *r = &m->request;
    if (r->max_tokens < 0) {
        return field_missing_error(err, "max_tokens");
    }
    if (r->max_tokens == 0 && r->stream) {
        return error_set_param(err, ERR_INVALID, "max_tokens",
                               "'max_tokens' may be 0 only without 'stream': there is no answer to stream.");
    }
    m->warm_only = r->max_tokens == 0;
    r->max_tokens += m->warm_only; /* a prompt that nothing follows is scored, not looked up in the cache */
    return true;
}

bool api__decode_messages(struct call *c, struct error *err)
{
    struct messages_request *m = decode(c, err);
    if (!m || !check_lengths(m, err)) {
        return false;
    }
    /* A stream begins when the prompt is admitted, with what is known then. */
    m->request.return_progress = m->request.stream;
    m->request.continuous_usage = m->request.stream;
    c->request = m->request;
    c->extra = m;
    return api__check_kept(c, err);
}

/* ---- work ---- */

static bool count(const struct call *c, struct str text, bool parse_special, uint64_t *n, struct error *err)
{
    const struct tokenizer *t = pipeline_options(served_model_pipeline(c->model))->tokenizer;
    struct encode_options options = {.parse_special = parse_special};
    struct token_list list = {0};
    bool ok = tokenizer_encode(t, text, options, &list, err);
    *n = list.n;
    token_list_release(&list);
    return ok;
}

/* What the pipeline refuses has this API's name. */
static bool rename_param(struct error *err)
{
    static const char *const names[][2] = {{"thinking_budget", "thinking.budget_tokens"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(err->param, names[i][0]) == 0) {
            snprintf(err->param, sizeof err->param, "%s", names[i][1]);
        }
    }
    return false;
}

/* Messages in the roles that the template takes. */
static bool fit_roles(struct call *c, struct error *err)
{
    const struct chat_template *chat = pipeline_options(served_model_pipeline(c->model))->chat;
    return !chat || chat_template_caps(chat).late_system || anthropic__fold_systems(&c->request, err);
}

bool api__prepare_messages(struct call *c, struct error *err)
{
    const struct messages_request *m = c->extra;
    return (count(c, m->cleared, false, m->n_cleared_tokens, err) && fit_roles(c, err) && api__prepare(c, err)) ||
           rename_param(err);
}

bool api__decode_count(struct call *c, struct error *err)
{
    struct messages_request *m = decode(c, err);
    if (!m) {
        return false;
    }
    c->request = m->request;
    c->extra = m;
    return true;
}

/* The same text and the same tokens as pipeline_prepare makes of a request. */
bool api__work_count(struct call *c, struct error *err)
{
    struct buf text;
    uint64_t n = 0;
    buf_init(&text, JINJA_DEFAULT_OUTPUT);
    bool ok = fit_roles(c, err) && mcp_host_merge(&c->request, err) &&
              pipeline_render_chat(served_model_pipeline(c->model), &c->request, &text, err) &&
              buf_ok(&text, "the rendered chat template", err) && count(c, buf_view(&text), true, &n, err);
    if (ok) {
        struct json_writer w = json_writer(&c->reply);
        json_begin_object(&w);
        json_member_uint(&w, "input_tokens", n);
        json_end_object(&w);
    }
    buf_release(&text);
    return ok;
}
