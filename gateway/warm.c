#include "gateway/warm.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define WARM_PRIORITY   INT32_MAX
#define WARM_TIMEOUT_MS INT32_MAX
#define WARM_POOL_SHARE 2 /* one part in so many of the pool */
#define WARM_RETRY_MS   1000
#define MAX_VARIANTS    3

/* One prompt on its way through a worker. */
struct preparation {
    struct warmer *warmer;
    const struct warm_prompt *prompt;
    uint32_t page_tokens;
    uint64_t round;
    struct gen_request *request; /* in its own arena; NULL: error says why */
    struct error error;
};

struct warmer {
    struct warmer_options options;
    struct loop_timer *timer; /* for the next round, or to try again */
    struct warmer_status status;
    uint64_t round;      /* rounds begun: what comes of an older one is dropped */
    uint64_t max_tokens; /* of all prompts together */
    size_t at;           /* prompt at hand, or the next */
    bool preparing;      /* a worker reads prompts and pipeline */
    struct preparation preparation;
    struct generation *generation;
    int64_t begun_ms;
    uint64_t n_cached; /* tokens of this round that were there */
    uint64_t n_evicted_seen, n_evicted;
    bool has_engine, closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

void warm_list_release(struct warm_list *list)
{
    arena_free(list->arena);
    *list = (struct warm_list){0};
}

/* ---- what requests will share ---- */

static bool ends_with_question(const struct json *messages)
{
    struct str role = json_str(json_get(json_at(messages, json_len(messages) - 1), "role"));
    return str_eq(role, STR("user")) || str_eq(role, STR("tool"));
}

/* Ways in which a text may go on, of different kinds, so that no token reaches over the border in all of them. */
static const char *const continuations[MAX_VARIANTS] = {"a", " 1", "\n-"};

static bool arena_json(struct arena *arena, const struct buf *text, const struct json **out, struct error *err)
{
    *out = json_keep(json_parse(buf_view(text), LIMIT_JSON_DEPTH, err), arena, "warm prompt", err);
    return *out != NULL;
}

static bool add_user_message(const struct warm_prompt *p, const char *content, struct gen_request *r, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_REQUEST_ARENA);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(p->messages); i++) {
        json_put_json(&w, json_at(p->messages, i));
    }
    json_begin_object(&w);
    json_member_cstr(&w, "role", "user");
    json_member_cstr(&w, "content", content);
    json_end_object(&w);
    json_end_array(&w);
    bool ok = buf_ok(&text, "the warm prompt", err) && arena_json(r->arena, &text, &r->messages, err);
    buf_release(&text);
    return ok;
}

static bool add_text(const struct warm_prompt *p, const char *more, struct gen_request *r, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_REQUEST_ARENA);
    buf_append(&text, p->text);
    buf_puts(&text, more);
    r->prompts = arena_alloc(r->arena, sizeof *r->prompts);
    r->n_prompts = 1;
    if (r->prompts) {
        r->prompts[0].text = arena_str(r->arena, buf_view(&text));
    }
    bool ok = buf_ok(&text, "the warm prompt", err) &&
              ((r->prompts && r->prompts[0].text.ptr) || arena_full(r->arena, "the warm prompt", err));
    buf_release(&text);
    return ok;
}

/* A question is followed by the answer, or by what comes before an answer; everything else by a question; a plain text
 * by anything. */
static bool fill_variant(const struct warm_prompt *p, size_t variant, struct gen_request *r, struct error *err)
{
    r->tools = p->tools;
    r->template_kwargs = p->kwargs;
    if (!p->messages) {
        return add_text(p, continuations[variant], r, err);
    }
    if (ends_with_question(p->messages)) {
        r->messages = p->messages;
        r->add_generation_prompt = variant == 0;
        return true;
    }
    return add_user_message(p, continuations[variant], r, err);
}

static size_t n_variants(const struct warm_prompt *p)
{
    return p->messages && ends_with_question(p->messages) ? 2 : MAX_VARIANTS;
}

/* The prompt as one request may go on with it, in an arena of its own; NULL: error. */
static struct gen_request *prepare_variant(const struct pipeline *pipeline, const struct warm_prompt *p, size_t variant,
                                           struct error *err)
{
    struct arena *arena = arena_create(LIMIT_REQUEST_ARENA);
    struct gen_request *r = arena ? arena_alloc(arena, sizeof *r) : NULL;
    if (!r) {
        arena_free(arena);
        error_set(err, ERR_NO_MEMORY, "There is no memory for a warm prompt.");
        return NULL;
    }
    gen_request_init(r, arena, p->messages ? GEN_CHAT : GEN_PROMPTS);
    snprintf(r->id, sizeof r->id, "warm-%d", p->line);
    r->unobserved = true;
    r->raw_output = true; /* nobody reads it */
    r->max_tokens = 1;
    r->priority = WARM_PRIORITY;
    r->timeout_ms = WARM_TIMEOUT_MS;
    if (!fill_variant(p, variant, r, err) || !pipeline_prepare(pipeline, r, err)) {
        arena_free(arena);
        return NULL;
    }
    return r;
}

static uint32_t n_shared(const struct job *a, const struct job *b)
{
    uint32_t n = 0;
    while (n < a->n_prompt && n < b->n_prompt && a->prompt[n] == b->prompt[n]) {
        n++;
    }
    return n;
}

/* A request for the tokens that all variants begin with, whole pages of them; 0 tokens when that is not even one. */
static struct gen_request *prepare_shared(const struct pipeline *pipeline, const struct warm_prompt *p,
                                          uint32_t page_tokens, struct error *err)
{
    struct gen_request *first = prepare_variant(pipeline, p, 0, err);
    for (size_t i = 1; first && i < n_variants(p); i++) {
        struct gen_request *other = prepare_variant(pipeline, p, i, err);
        if (!other) {
            arena_free(first->arena);
            return NULL;
        }
        first->jobs[0].n_prompt = n_shared(&first->jobs[0], &other->jobs[0]);
        arena_free(other->arena);
    }
    if (first) {
        first->jobs[0].n_prompt -= first->jobs[0].n_prompt % page_tokens;
    }
    return first;
}

/* ---- life ---- */

static void on_timer(void *arg);

static bool check_prompts(const struct warmer_options *o, struct error *err)
{
    for (size_t i = 0; i < o->list->n; i++) {
        struct gen_request *r = prepare_variant(o->pipeline, &o->list->items[i], 0, err);
        if (!r) {
            return error_wrap(err, "line %d", o->list->items[i].line);
        }
        arena_free(r->arena);
    }
    return true;
}

struct warmer *warmer_create(const struct warmer_options *options, struct error *err)
{
    struct warmer *w = calloc(1, sizeof *w);
    if (!w || !(w->timer = loop_timer_create(options->loop, on_timer, w))) {
        free(w);
        error_set(err, ERR_NO_MEMORY, "There is no memory for warm prompts.");
        return NULL;
    }
    w->options = *options;
    w->status.n = options->list->n;
    if (!check_prompts(options, err)) {
        warmer_free(w);
        return NULL;
    }
    return w;
}

void warmer_free(struct warmer *w)
{
    if (w) {
        loop_timer_free(w->timer);
        free(w);
    }
}

static void closed(void *arg)
{
    struct warmer *w = arg;
    w->on_closed(w->on_closed_arg);
}

void warmer_close(struct warmer *w, void (*on_closed)(void *arg), void *arg)
{
    warmer_end(w);
    w->closing = true;
    w->on_closed = on_closed;
    w->on_closed_arg = arg;
    if (!w->preparing) {
        loop_defer(w->options.loop, closed, w);
    }
}

/* ---- a round ---- */

static void next(struct warmer *w);

static void end_round(struct warmer *w)
{
    w->status.running = false;
    w->status.n_rounds++;
    w->n_evicted_seen = w->n_evicted; /* what the round itself made go is no reason for another one */
    LOG_INFO("warm prompts are cached", "model=%s prompts=%zu left_out=%zu tokens=%llu computed=%llu ms=%lld",
             w->options.model, w->status.n_done, w->status.n_left_out, (unsigned long long)w->status.n_tokens,
             (unsigned long long)(w->status.n_tokens - w->n_cached), (long long)(clock_ms() - w->begun_ms));
}

/* why: our own words; an error's sentence may quote the prompt, which is not for the log. */
static void leave_out(struct warmer *w, const char *why)
{
    LOG_WARN("warm prompt left out", "model=%s line=%d error=\"%s\"", w->options.model,
             w->options.list->items[w->at].line, why);
    w->status.n_left_out++;
    w->at++;
}

static void leave_out_by(struct warmer *w, const struct error *err)
{
    char why[160];
    snprintf(why, sizeof why, "%s%s%s", error_info(err->code)->name, err->param[0] ? " in " : "", err->param);
    leave_out(w, why);
}

static void take_done(struct warmer *w, const struct gen_event *e)
{
    w->status.n_done++;
    w->status.n_tokens += e->usage.prompt_tokens;
    w->status.n_computed += e->usage.prompt_tokens - e->usage.cached_tokens;
    w->n_cached += e->usage.cached_tokens;
    w->at++;
}

static void free_generation(struct warmer *w)
{
    struct generation *g = w->generation;
    w->generation = NULL; /* first: freeing it may call back */
    generation_free(g);
}

static void on_ready(void *arg)
{
    struct warmer *w = arg;
    struct gen_event e;
    while (w->generation && generation_next(w->generation, clock_ms(), &e)) {
        if (e.kind == GEN_DONE) {
            take_done(w, &e);
        } else if (e.kind == GEN_ERROR && (e.error.code == ERR_ENGINE_LOST || e.error.code == ERR_UNAVAILABLE)) {
            free_generation(w);
            warmer_end(w); /* the next engine begins anew */
            return;
        } else if (e.kind == GEN_ERROR) {
            leave_out(w, e.error.msg);
        } else {
            continue;
        }
        free_generation(w);
        next(w);
        return;
    }
}

/* The generation owns the request once it has started. */
static void submit(struct warmer *w, struct gen_request *r)
{
    struct error err = {0};
    uint32_t n = r->jobs[0].n_prompt;
    if (n == 0) {
        arena_free(r->arena);
        leave_out(w, "It is shorter than a page, and only whole pages are shared.");
        next(w);
        return;
    }
    if (w->status.n_tokens + n > w->max_tokens) {
        char why[160];
        arena_free(r->arena);
        snprintf(why, sizeof why, "Its %u tokens do not fit: warm prompts may take half of the KV pool, %llu tokens.",
                 n, (unsigned long long)w->max_tokens);
        leave_out(w, why);
        next(w);
        return;
    }
    w->generation = generation_start(w->options.pipeline, r, on_ready, w, &err);
    if (!w->generation) {
        arena_free(r->arena);
        loop_timer_start(w->timer, WARM_RETRY_MS, 0); /* its queue is full, or it is just being lost */
    }
}

static void on_prepared(void *arg)
{
    struct warmer *w = arg;
    struct preparation p = w->preparation;
    w->preparing = false;
    if (p.round == w->round && w->status.running && p.request) {
        submit(w, p.request);
        return;
    }
    if (p.request) {
        arena_free(p.request->arena);
    }
    if (w->closing) {
        closed(w);
    } else if (w->status.running) {
        if (p.round == w->round) {
            leave_out_by(w, &p.error);
        }
        next(w);
    }
}

/* On a worker. */
static void prepare(void *arg)
{
    struct warmer *w = arg;
    struct preparation *p = &w->preparation;
    p->request = prepare_shared(w->options.pipeline, p->prompt, p->page_tokens, &p->error);
}

static void next(struct warmer *w)
{
    const struct engine_port *port = pipeline_options(w->options.pipeline)->port;
    const struct engine_info *info = port->ops->info(port);
    if (w->preparing || w->generation || !info) {
        return; /* of an earlier round: it goes on from there */
    }
    if (w->at == w->options.list->n) {
        end_round(w);
        return;
    }
    w->preparing = true;
    w->preparation = (struct preparation){.warmer = w,
                                          .prompt = &w->options.list->items[w->at],
                                          .page_tokens = info->page_tokens ? info->page_tokens : 1,
                                          .round = w->round};
    loop_work(w->options.loop, prepare, on_prepared, w);
}

static void begin_round(struct warmer *w)
{
    w->round++;
    w->at = 0;
    w->n_cached = 0;
    w->begun_ms = clock_ms();
    w->status.n_done = w->status.n_left_out = 0;
    w->status.n_tokens = 0;
    w->status.running = true;
    next(w);
}

void warmer_begin(struct warmer *w, uint64_t pool_tokens)
{
    w->max_tokens = pool_tokens / WARM_POOL_SHARE;
    w->has_engine = true;
    w->n_evicted = w->n_evicted_seen = 0; /* a new engine counts anew */
    if (!w->closing) {
        begin_round(w);
    }
}

void warmer_end(struct warmer *w)
{
    w->has_engine = w->status.running = false;
    loop_timer_stop(w->timer);
    if (w->generation) {
        free_generation(w);
    }
}

/* ---- keeping them ---- */

static void on_timer(void *arg)
{
    struct warmer *w = arg;
    if (w->status.running) {
        next(w);
    } else if (w->has_engine && !w->closing) {
        begin_round(w);
    }
}

void warmer_note_stats(struct warmer *w, const struct engine_stats *stats)
{
    w->n_evicted = stats->pages_evicted;
    if (w->has_engine && !w->status.running && w->n_evicted != w->n_evicted_seen) {
        int64_t wait_ms = w->begun_ms + WARM_AGAIN_MS - clock_ms();
        w->n_evicted_seen = w->n_evicted; /* one timer for all until then */
        loop_timer_start(w->timer, wait_ms > 0 ? wait_ms : 0, 0);
    }
}

struct warmer_status warmer_status(const struct warmer *w)
{
    return w->status;
}
