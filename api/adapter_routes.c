/* Adapters that come and go, as vLLM has it: POST /v1/load_lora_adapter and /v1/unload_lora_adapter; and what the
 * status says of them. */
#include "api/api_internal.h"

#include "pipeline/adapter_set.h"

struct adapter_command { /* lies in the call's arena */
    struct str model, name, path;
    bool in_place;
    int64_t number; /* which is asked by nobody */
};

#define AT(member) offsetof(struct adapter_command, member)

#define NAME_FIELD                                                               \
    {                                                                            \
        "lora_name", FIELD_STR, AT(name), 1, ADAPTER_NAME_MAX, NULL, NULL, NULL, \
            "1 to 64 letters, digits, '.', '_' and '-'; required"                \
    }
#define MODEL_FIELD                                                                                    \
    {                                                                                                  \
        "model", FIELD_STR, AT(model), 0, 512, NULL, NULL, NULL, "whose adapter; the first by default" \
    }

const struct field api__load_adapter_fields[] = {
    NAME_FIELD,
    {"lora_path", FIELD_STR, AT(path), 1, WIRE_ADAPTER_PATH - 1, NULL, NULL, NULL,
     "a PEFT folder or a GGUF file beneath --lora-dir; required"},
    MODEL_FIELD,
    {"load_inplace", FIELD_BOOL, AT(in_place), 0, 0, NULL, NULL, NULL, "true: one that has the name is unloaded first"},
    {0},
};

const struct field api__unload_adapter_fields[] = {
    NAME_FIELD,
    MODEL_FIELD,
    {"lora_int_id", FIELD_I64, AT(number), 0, 2147483647, NULL, NULL, NULL, "vLLM's; the name says which"},
    {0},
};

static bool decode(struct call *c, bool with_path, struct error *err)
{
    struct adapter_command *command = arena_alloc(c->arena, sizeof *command);
    if (!command) {
        return arena_full(c->arena, "the request", err);
    }
    *command = (struct adapter_command){0};
    struct decoding d = api__decoding(c, command);
    c->extra = command;
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    c->request.model = command->model;
    if (!command->name.len) {
        return field_missing_error(err, "lora_name");
    }
    return !with_path || command->path.len || field_missing_error(err, "lora_path");
}

bool api__decode_load_adapter(struct call *c, struct error *err)
{
    return decode(c, true, err);
}

bool api__decode_unload_adapter(struct call *c, struct error *err)
{
    return decode(c, false, err);
}

/* ---- replies ---- */

static void reply(struct call *c, const char *what)
{
    const struct adapter_command *command = c->extra;
    char id[ADAPTER_ID_SIZE];
    served_model_adapter_id(c->model, command->name, id);
    struct json_writer w = json_writer(&c->reply);
    json_begin_object(&w);
    json_member_cstr(&w, "id", id);
    json_member_cstr(&w, "object", "model");
    json_member_cstr(&w, "parent", served_model_name(c->model));
    json_member_cstr(&w, "state", what);
    json_end_object(&w);
    api__reply_call(c, 200);
}

static void loaded(void *arg, const struct error *err)
{
    struct call *c = arg;
    if (api__call_waited(c, err)) {
        reply(c, "loaded");
    }
}

void api__finish_load_adapter(struct call *c)
{
    const struct adapter_command *command = c->extra;
    struct served_model *m = c->model;
    struct served_adapter *old = command->in_place ? served_model_adapter(m, command->name) : NULL;
    if (!gateway_adapter_load(m, command->name, command->path, loaded, c, &c->error)) {
        api__refuse(c, &c->error);
    } else if (old) { /* not before the request is in order; the new one is looked for later */
        gateway_adapter_unload(m, old);
    }
}

void api__finish_unload_adapter(struct call *c)
{
    const struct adapter_command *command = c->extra;
    struct served_adapter *a = served_model_adapter(c->model, command->name);
    if (!a) {
        error_set_param(&c->error, ERR_NOT_FOUND, "lora_name", "the model '%.100s' has no adapter '" STR_FMT "'.",
                        served_model_name(c->model), STR_ARG(command->name));
        api__refuse(c, &c->error);
        return;
    }
    gateway_adapter_unload(c->model, a);
    reply(c, "unloaded");
}

/* ---- what is said of them ---- */

static const char *state_of(const struct served_adapter *a)
{
    return a->loaded ? "loaded" : a->refused ? "failed" : "unloaded";
}

void api__put_adapters(struct json_writer *w, const struct served_model *m)
{
    const struct adapter_set *set = served_model_adapters(m);
    const struct served_adapter *a;
    json_key(w, "adapters");
    json_begin_object(w);
    json_member_uint(w, "max", set->max_adapters);
    json_member_uint(w, "memory", adapter_set_size(set));
    json_member_uint(w, "memory_limit", set->max_size);
    json_key(w, "data");
    json_begin_array(w);
    for (size_t i = 0; (a = adapter_set_at(set, i)); i++) {
        json_begin_object(w);
        json_member_cstr(w, "name", a->name);
        json_member_cstr(w, "state", state_of(a));
        json_member_cstr(w, "path", a->path);
        json_member_int(w, "rank", a->facts.rank);
        json_member_uint(w, "memory", a->facts.memory_size);
        json_member_uint(w, "running", a->n_users);
        json_member_uint(w, "requests", a->n_requests);
        json_member_cstr(w, "failure", a->refused ? a->failure.msg : NULL);
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
}
