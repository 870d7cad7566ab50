#include "cli/loadgen_probe.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>

#define MODELS_TIMEOUT_MS 20000
#define MODELS_MAX        MIB(8)
#define MODELS_DEPTH      64

struct loadgen_probe {
    struct loop *loop;
    struct http_client *client;
    struct http_call *call;
    int status;
    struct buf body;
    struct error failure; /* code NONE: a reply came */
};

struct loadgen_probe *loadgen_probe_create(struct loop *loop, struct http_client *client)
{
    struct loadgen_probe *p = calloc(1, sizeof *p);
    if (p) {
        p->loop = loop;
        p->client = client;
        buf_init(&p->body, MODELS_MAX);
    }
    return p;
}

void loadgen_probe_free(struct loadgen_probe *p)
{
    if (p) {
        buf_release(&p->body);
        free(p);
    }
}

void loadgen_probe_stop(struct loadgen_probe *p)
{
    if (p->call) {
        http_call_cancel(p->call);
        p->call = NULL;
        error_set(&p->failure, ERR_CANCELLED, "interrupted.");
    }
}

/* ---- what a failure means ---- */

static bool fail_status(const struct loadgen_target *t, const char *what, int status, const char *message,
                        struct error *err)
{
    static const struct {
        int status;
        enum error_code code;
    } codes[] = {{400, ERR_INVALID},   {401, ERR_UNAUTHENTICATED}, {403, ERR_FORBIDDEN},  {404, ERR_NOT_FOUND},
                 {405, ERR_NOT_FOUND}, {422, ERR_INVALID},         {429, ERR_OVERLOADED}, {503, ERR_UNAVAILABLE}};
    enum error_code code = ERR_PROTOCOL;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        code = codes[i].status == status ? codes[i].code : code;
    }
    return error_set(err, code, "target '%.40s': %s is answered with HTTP status %d: %.120s", t->label, what, status,
                     message);
}

/* ---- the model ---- */

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct loadgen_probe *p = arg;
    p->call = NULL;
    p->status = reply->status;
    buf_append(&p->body, reply->body);
    p->failure = err ? *err : (struct error){0};
    loop_stop(p->loop);
}

static bool ask(struct loadgen_probe *p, const struct loadgen_target *t, struct error *err)
{
    const struct http_header auth = {STR("Authorization"), str_of(t->auth)};
    struct http_call_options call = {.url = t->models_url,
                                     .headers = &auth,
                                     .n_headers = t->auth ? 1 : 0,
                                     .timeout_ms = MODELS_TIMEOUT_MS,
                                     .max_reply = MODELS_MAX,
                                     .events = {.on_done = on_done, .arg = p}};
    buf_clear(&p->body);
    p->failure = (struct error){0};
    p->call = http_call_start(p->client, &call, err);
    if (!p->call) {
        return false;
    }
    loop_run(p->loop);
    if (p->failure.code) {
        *err = p->failure;
    }
    return !p->failure.code;
}

bool loadgen_probe_model(struct loadgen_probe *p, struct loadgen_target *target, struct arena *arena, struct error *err)
{
    char text[121];
    struct error ignored;
    if (target->model) {
        return true;
    }
    if (!ask(p, target, err)) {
        return error_wrap(err, "target '%.40s'", target->label);
    }
    if (p->status != 200) {
        loadgen_error_text(buf_view(&p->body), text, sizeof text);
        return fail_status(target, "/models", p->status, text, err);
    }
    struct json *root = json_parse(buf_view(&p->body), MODELS_DEPTH, &ignored);
    struct str id = json_str(json_get(json_at(json_get(root, "data"), 0), "id"));
    bool found = id.len > 0 && str_find_char(id, '\0') == STR_NPOS;
    target->model = found ? arena_strdup(arena, id) : NULL;
    json_free(root);
    if (!found) {
        return error_set(err, ERR_NOT_FOUND, "target '%.40s': /models names no model; name one behind a '#'.",
                         target->label);
    }
    return target->model || arena_full(arena, "the list of targets", err);
}

/* ---- one request ---- */

static enum error_code code_of(enum loadgen_outcome outcome)
{
    switch (outcome) {
    case LOADGEN_NO_CONNECTION:
        return ERR_UNAVAILABLE;
    case LOADGEN_TIMEOUT:
        return ERR_DEADLINE;
    case LOADGEN_INTERRUPTED:
        return ERR_CANCELLED;
    default:
        return ERR_PROTOCOL;
    }
}

bool loadgen_probe_judge(const struct loadgen_run *run, struct loadgen_target *target, struct arena *arena,
                         struct error *err)
{
    const struct loadgen_failure *f = &run->failures[0];
    if (run->n_failures && f->outcome == LOADGEN_STATUS) {
        return fail_status(target, "a first request", f->status, f->message, err);
    }
    if (run->n_failures) {
        return error_set(err, code_of(f->outcome), "target '%.40s': a first request fails: %s: %.150s", target->label,
                         loadgen_outcome_name(f->outcome), f->message);
    }
    target->fingerprint = arena_strdup(arena, str_of(run->fingerprint));
    target->server = arena_strdup(arena, str_of(run->server));
    return (target->fingerprint && target->server) || arena_full(arena, "the list of targets", err);
}
