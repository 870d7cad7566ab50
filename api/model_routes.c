/* Models that come and go: POST /v1/models/{model}/load and /unload, requests that want nothing but that, and what is
 * said of where a model is. */
#include "api/api_internal.h"

#include <stdio.h>

#define COMMENT_NAME 100 /* bytes of a model's name in a comment */

struct model_command { /* lies in the call's arena */
    bool no_wait, force;
};

#define AT(member) offsetof(struct model_command, member)

static bool parse_wait(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct model_command *command = d->target;
    command->no_wait = !json_bool(v);
    return json_type(v) == JSON_BOOL || field_type_error(err, name, "a boolean", v);
}

const struct field api__load_fields[] = {
    {"wait", FIELD_CUSTOM, 0, 0, 0, parse_wait, NULL, "boolean", "false: answer at once; default true"},
    {0},
};

const struct field api__unload_fields[] = {
    {"wait", FIELD_CUSTOM, 0, 0, 0, parse_wait, NULL, "boolean", "false: answer at once; default true"},
    {"force", FIELD_BOOL, AT(force), 0, 0, NULL, NULL, NULL,
     "do not wait for requests that run: they go on when the model is loaded again"},
    {0},
};

bool api__decode_model_command(struct call *c, struct error *err)
{
    struct model_command *command = arena_alloc(c->arena, sizeof *command);
    if (!command) {
        return arena_full(c->arena, "the request", err);
    }
    *command = (struct model_command){0};
    struct decoding d = api__decoding(c, command);
    c->request.model = c->rest;
    c->extra = command;
    return api__decode_body(c, &d, c->body, err);
}

bool api__work_nothing(struct call *c, struct error *err)
{
    (void)c;
    (void)err;
    return true;
}

/* ---- replies ---- */

static void put_state(struct call *c, const char *state)
{
    struct json_writer w = json_writer(&c->reply);
    json_begin_object(&w);
    json_member_str(&w, "id", c->rest);
    json_member_cstr(&w, "object", "model");
    json_member_cstr(&w, "state", state);
    json_end_object(&w);
}

static void reply_state(struct call *c, int status)
{
    if (c->reply.len == 0) { /* else what it asked for besides */
        put_state(c, model_state_name(served_model_state(c->model)));
    }
    api__reply_call(c, status);
}

static void done(void *arg, const struct error *err)
{
    struct call *c = arg;
    if (api__call_waited(c, err)) {
        reply_state(c, 200);
    }
}

void api__finish_load(struct call *c)
{
    const struct model_command *command = c->extra;
    gateway_load(c->model, command->no_wait ? NULL : done, c);
    if (command->no_wait) {
        reply_state(c, 202);
    }
}

void api__finish_unload(struct call *c)
{
    const struct model_command *command = c->extra;
    if (c->adapter) { /* not its model */
        gateway_adapter_unload(c->model, c->adapter);
        put_state(c, "unloaded");
        api__reply_call(c, 200);
        return;
    }
    gateway_unload(c->model, command->force, command->no_wait ? NULL : done, c);
    if (command->no_wait) {
        reply_state(c, 202);
    }
}

void api__reply_when_loaded(struct call *c)
{
    if (c->has_keep_alive && c->keep_alive_ms == 0) {
        gateway_unload(c->model, false, done, c);
    } else {
        gateway_load(c->model, done, c);
    }
}

/* ---- what is said of it ---- */

void api__put_load_comment(struct served_model *m, struct buf *out)
{
    enum model_state state = served_model_state(m);
    char name[COMMENT_NAME + 1];
    if (state == MODEL_READY) {
        return;
    }
    snprintf(name, sizeof name, "%s", served_model_name(m));
    for (char *c = name; *c; c++) { /* one line, whatever the name */
        *c = (unsigned char)*c < 0x20 ? '?' : *c;
    }
    uint64_t brought, total;
    if (served_model_is_brought(m, &brought, &total)) {
        buf_printf(out, ": model '%s' is downloaded (%d%%)\n\n", name, (int)(100 * served_model_load_fraction(m)));
    } else if (state == MODEL_LOADING) {
        buf_printf(out, ": model '%s' is loading (%d%%)\n\n", name, (int)(100 * served_model_load_fraction(m)));
    } else if (state == MODEL_UNLOADED || state == MODEL_UNLOADING) {
        buf_printf(out, ": model '%s' waits for memory\n\n", name);
    } else {
        buf_printf(out, ": model '%s' is %s\n\n", name, model_state_name(state));
    }
}

static void put_ms_or_null(struct json_writer *w, const char *key, int64_t ms)
{
    json_key(w, key);
    if (ms < 0) {
        json_put_null(w);
    } else {
        json_put_int(w, ms);
    }
}

void api__put_residence(struct json_writer *w, struct served_model *m)
{
    json_member_cstr(w, "state", model_state_name(served_model_state(m)));
    json_member_bool(w, "pinned", served_model_is_pinned(m));
    put_ms_or_null(w, "keep_alive_ms", served_model_keep_alive_ms(m));
    put_ms_or_null(w, "idle_ms", served_model_idle_ms(m));
    json_member_uint(w, "waiting_for_load", served_model_n_queued(m));
}
