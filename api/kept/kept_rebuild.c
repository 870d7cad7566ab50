/* A request out of what the journal holds of it: its body goes through the same decoder and the same preparation as
 * when it came, then what the body does not say is put back. */
#include "api/kept/kept_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "pipeline/saved_tokens.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- details: {"prompts": [[tokens, max_tokens, cached], ...], "timings": [us, ...]} ---- */

#define N_TIMINGS 6

void api__put_details(struct buf *out, const struct gen_request *r, const struct generation *g)
{
    buf_clear(out);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "prompts");
    json_begin_array(&w);
    size_t n_turns = g ? generation_n_turns(g) : 0;
    for (size_t i = 0; i < (n_turns ? n_turns : r->n_jobs); i++) {
        const struct job *job = g ? generation_job(g, i) : &r->jobs[i];
        json_begin_array(&w);
        json_put_uint(&w, job->n_prompt);
        json_put_uint(&w, job->max_tokens);
        json_put_uint(&w, g ? generation_n_cached(g, i) : 0);
        json_end_array(&w);
    }
    json_end_array(&w);
    if (g) {
        struct gen_timings t;
        struct gen_usage ignored;
        generation_timings(g, clock_us(), &t, &ignored);
        const int64_t values[N_TIMINGS] = {t.prepare_us, t.queue_us, t.prefill_us, t.decode_us, t.ttft_us, t.total_us};
        json_key(&w, "timings");
        json_begin_array(&w);
        for (int i = 0; i < N_TIMINGS; i++) {
            json_put_int(&w, values[i]);
        }
        json_end_array(&w);
    }
    json_end_object(&w);
}

static bool read_timings(const struct json *v, struct gen_timings *t)
{
    int64_t *values[N_TIMINGS] = {&t->prepare_us, &t->queue_us, &t->prefill_us,
                                  &t->decode_us,  &t->ttft_us,  &t->total_us};
    if (json_len(v) != N_TIMINGS) {
        return false;
    }
    for (size_t i = 0; i < N_TIMINGS; i++) {
        *values[i] = json_int(json_at(v, i));
    }
    return true;
}

/* ---- one that is being rebuilt ---- */

struct rebuilding {
    struct call *call;
    struct arena *arena; /* the record's */
    const struct journal_record *record;
    struct gen_saved *saved;
    size_t n_prompts; /* the request's; with MCP tools, its turns that there is something of, at least 1 */
    struct gen_saved_prompt *prompts; /* [n_prompts] */
    struct gen_saved_choice *choices; /* [n_prompts * best_of] */
    struct gen_saved_calls *calls;    /* [n_prompts] */
    bool *whole;                      /* [n_prompts] all calls are there */
    struct rebuilt out;
    void (*done)(void *arg, struct rebuilt *r);
    void *done_arg;
};

static bool has_turns(const struct rebuilding *b)
{
    return b->call->request.mcp.n_tools > 0;
}

static bool full(struct rebuilding *b)
{
    return arena_full(b->call->arena, "the request", &b->out.error);
}

static bool apply_details(struct rebuilding *b)
{
    struct json *details = json_parse(b->record->meta.details, LIMIT_JSON_DEPTH, &b->out.error);
    if (!details) {
        return error_wrap(&b->out.error, "the journal's details of a request");
    }
    const struct json *prompts = json_get(details, "prompts");
    for (size_t i = 0; i < b->n_prompts && i < json_len(prompts); i++) {
        const struct json *p = json_at(prompts, i);
        int64_t max_tokens = json_int(json_at(p, 1));
        b->prompts[i].max_tokens = max_tokens > 0 && max_tokens <= LIMIT_CONTEXT ? (uint32_t)max_tokens : 0;
        b->prompts[i].n_cached = (uint32_t)json_int(json_at(p, 2));
    }
    b->saved->has_timings = read_timings(json_get(details, "timings"), &b->saved->timings);
    json_free(details);
    return true;
}

/* ---- tokens ---- */

/* The rows of one choice lie side by side: their number, and that of their tokens. */
static size_t same_choice(const struct journal_record *record, size_t at, uint32_t *n_tokens)
{
    const struct journal_tokens *first = &record->rows[at];
    size_t n = 0;
    *n_tokens = 0;
    while (at + n < record->n_rows && record->rows[at + n].prompt == first->prompt &&
           record->rows[at + n].choice == first->choice) {
        *n_tokens += record->rows[at + n++].n;
    }
    return n;
}

struct gathered { /* the tokens of one choice */
    int32_t *ids;
    struct token_logprob *logprobs;
    uint32_t n;
    enum finish_reason finish;
    int32_t stop_id;
};

/* What cannot be read ends the choice there: it is generated again. */
static bool gather(struct rebuilding *b, size_t at, size_t n_rows, uint32_t n_tokens, struct gathered *g)
{
    struct arena *arena = b->call->arena;
    *g = (struct gathered){.ids = arena_alloc_array(arena, n_tokens + 1, sizeof *g->ids),
                           .logprobs = arena_alloc_array(arena, n_tokens + 1, sizeof *g->logprobs),
                           .stop_id = -1};
    bool with_logprobs = true;
    if (!g->ids || !g->logprobs) {
        return full(b);
    }
    for (size_t i = 0; i < n_rows; i++) {
        const struct journal_tokens *row = &b->record->rows[at + i];
        struct token_logprob *logprobs;
        struct error why = {0};
        int32_t *ids;
        if (!saved_tokens_unpack(row->data, row->n, arena, &ids, &logprobs, &why)) {
            b->out.damaged = true;
            break;
        }
        with_logprobs = with_logprobs && logprobs;
        memcpy(g->ids + g->n, ids, row->n * sizeof *ids);
        if (logprobs) {
            memcpy(g->logprobs + g->n, logprobs, row->n * sizeof *logprobs);
        }
        g->n += row->n;
        g->finish = row->finish;
        g->stop_id = row->stop_id;
    }
    g->logprobs = with_logprobs ? g->logprobs : NULL;
    return true;
}

static void place(struct rebuilding *b, const struct journal_tokens *row, const struct gathered *g)
{
    const struct gen_request *r = &b->call->request;
    if (row->prompt >= b->n_prompts || (row->choice >= r->best_of && row->choice != JOURNAL_PROMPT_SCORES)) {
        b->out.damaged = true;
        return;
    }
    if (row->choice == JOURNAL_PROMPT_SCORES) {
        b->prompts[row->prompt].scores = g->logprobs;
        b->prompts[row->prompt].n_scores = g->logprobs ? g->n : 0;
        return;
    }
    b->choices[row->prompt * r->best_of + row->choice] = (struct gen_saved_choice){
        .ids = g->ids, .logprobs = g->logprobs, .n = g->n, .finish = g->finish, .stop_id = g->stop_id};
    b->out.n_saved += g->n;
}

static bool place_calls(struct rebuilding *b, const struct journal_tokens *rows, size_t n)
{
    uint32_t turn = rows->prompt;
    if (turn >= b->n_prompts || !has_turns(b)) {
        b->out.damaged = true;
        return true;
    }
    if (!kept__read_calls(b->call->arena, rows, n, &b->calls[turn], &b->whole[turn])) {
        return full(b);
    }
    b->out.damaged |= !b->whole[turn];
    return true;
}

/* What is damaged ends there: what a later turn said had another one before it. Its calls may be made again all the
 * same, and then count as those that they were. */
static void cut_turns(struct rebuilding *b)
{
    size_t n = 1;
    while (n < b->n_prompts && b->choices[n - 1].finish != FINISH_NONE && b->calls[n - 1].n && b->whole[n - 1]) {
        n++;
    }
    for (size_t i = n; i < b->n_prompts; i++) {
        b->out.n_saved -= b->choices[i].n;
        b->out.damaged = true;
    }
    b->saved->n_turns = n;
    b->saved->n_called = b->n_prompts;
    b->saved->damaged = b->out.damaged;
}

static bool place_tokens(struct rebuilding *b)
{
    struct gathered g;
    uint32_t n_tokens;
    for (size_t at = 0; at < b->record->n_rows;) {
        size_t n = same_choice(b->record, at, &n_tokens);
        if (b->record->rows[at].choice == JOURNAL_CALLS) {
            if (!place_calls(b, &b->record->rows[at], n)) {
                return false;
            }
            at += n;
            continue;
        }
        if (!gather(b, at, n, n_tokens, &g)) {
            return false;
        }
        place(b, &b->record->rows[at], &g);
        at += n;
    }
    if (has_turns(b)) {
        cut_turns(b);
    }
    return true;
}

/* ---- all of it ---- */

static bool decode(struct rebuilding *b)
{
    struct call *c = b->call;
    const struct journal_meta *m = &b->record->meta;
    if (b->record->body.len == 0) {
        return error_set(&b->out.error, ERR_IO, "The journal's copy of the request is damaged.");
    }
    c->text = b->record->body;
    c->rebuilt = true;
    api__call_decode(c);
    if (!c->ok) {
        b->out.error = c->error;
        return false;
    }
    if (c->request.mcp.wanted && !c->app->options.mcp) {
        return error_set(&b->out.error, ERR_UNSUPPORTED,
                         "The request has tools of MCP servers, and this server was started without --mcp-config.");
    }
    snprintf(c->request.id, sizeof c->request.id, STR_FMT, STR_ARG(m->id));
    c->request.created_s = m->created_s;
    c->request.seed = m->seed;
    c->request.has_seed = true;
    api__call_apply_model(c);
    return true;
}

/* Nobody waits for its first token. */
static bool prepare(struct rebuilding *b)
{
    struct gen_request *r = &b->call->request;
    bool ok = b->call->route->work(b->call, &b->out.error);
    r->queue_timeout_ms = r->first_token_timeout_ms = 0;
    return ok;
}

static size_t count_turns(const struct journal_record *record)
{
    size_t n = record->n_rows ? record->rows[record->n_rows - 1].prompt : 0; /* rows are in this order */
    return n < GEN_SAVED_TURNS ? n + 1 : GEN_SAVED_TURNS;
}

static bool allocate(struct rebuilding *b)
{
    struct arena *arena = b->call->arena;
    const struct gen_request *r = &b->call->request;
    b->n_prompts = has_turns(b) ? count_turns(b->record) : r->n_jobs;
    b->saved = arena_alloc(arena, sizeof *b->saved);
    b->prompts = arena_alloc_array(arena, b->n_prompts, sizeof *b->prompts);
    b->choices = arena_alloc_array(arena, b->n_prompts * r->best_of, sizeof *b->choices);
    b->calls = arena_alloc_array(arena, b->n_prompts, sizeof *b->calls);
    b->whole = arena_alloc_array(arena, b->n_prompts, sizeof *b->whole);
    if (!b->saved || !b->prompts || !b->choices || !b->calls || !b->whole) {
        return full(b);
    }
    for (size_t i = 0; i < b->n_prompts * r->best_of; i++) {
        b->choices[i].stop_id = -1;
    }
    b->saved->prompts = b->prompts;
    b->saved->choices = b->choices;
    b->saved->calls = b->calls;
    b->saved->error = b->record->meta.error;
    return true;
}

static void work(void *arg)
{
    struct rebuilding *b = arg;
    b->out.damaged = b->record->damaged;
    b->out.ok = decode(b) && prepare(b) && allocate(b) && apply_details(b) && place_tokens(b);
}

/* It counts for its key, by name; one whose key is gone shares no cache with others either. */
static void take_key(struct rebuilding *b)
{
    const struct app_options *o = &b->call->app->options;
    struct gen_request *r = &b->call->request;
    char name[API_KEY_NAME];
    snprintf(name, sizeof name, STR_FMT, STR_ARG(b->record->meta.key_name));
    r->api_key = name[0] ? api_keys_named(o->keys, name) : 0;
    if (name[0] && o->cache_salt_per_key) {
        r->cache_salt = api_keys_salt_of_name(o->keys, str_of(name), r->cache_salt);
        for (size_t i = 0; i < r->n_jobs; i++) {
            r->jobs[i].cache_salt = r->cache_salt;
        }
    }
}

static void worked(void *arg)
{
    struct rebuilding *b = arg;
    if (b->out.ok) {
        take_key(b);
    }
    struct rebuilt out = b->out;
    out.saved = b->saved;
    out.call = b->call;
    b->call->text = (struct str){0};
    arena_free(b->arena);
    if (!out.ok) {
        out.call = NULL;
    }
    struct call *failed = out.ok ? NULL : b->call;
    b->done(b->done_arg, &out);
    free(b);
    if (failed) {
        api__call_free(failed); /* last: it holds the app */
    }
}

static void opened(void *arg, const struct error *err)
{
    struct rebuilding *b = arg;
    if (err || !api__call_take_adapter(b->call, &b->out.error)) {
        b->out.error = err ? *err : b->out.error;
        worked(b);
    } else {
        loop_work(b->call->app->loop, work, worked, b);
    }
}

static const struct route *route_of(struct str path)
{
    for (int i = 0; i < api__n_routes; i++) {
        if (api__routes[i].finish == api__generate && str_eq(str_of(api__routes[i].path), path)) {
            return &api__routes[i];
        }
    }
    return NULL;
}

bool api__rebuild(struct app *a, struct journal_answer *answer, struct http_exchange *x,
                  void (*done)(void *arg, struct rebuilt *r), void *arg, struct error *err)
{
    const struct journal_meta *m = &answer->records[0].meta;
    const struct route *route = route_of(m->route);
    struct str adapter;
    struct served_model *model = gateway_model_find(a->gateway, m->model, &adapter);
    if (!route || !model) {
        return error_set(err, ERR_MODEL_NOT_FOUND, "The %s '" STR_FMT "' of this request is not served.",
                         route ? "model" : "route", STR_ARG(str_slice(route ? m->model : m->route, 0, 100)));
    }
    struct rebuilding *b = calloc(1, sizeof *b);
    struct call *c = b ? api__call_create(a, route, x) : NULL;
    if (!c) {
        free(b);
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    api__call_set_model(c, model);
    c->adapter_name = arena_str(c->arena, adapter);
    *b = (struct rebuilding){
        .call = c, .arena = answer->arena, .record = answer->records, .done = done, .done_arg = arg};
    answer->arena = NULL;
    gateway_open(model, opened, b);
    return true;
}
