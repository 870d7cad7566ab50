/* What is served, in Ollama's shape: its names end in a tag, and ours get ":latest" where they have none. */
#include "api/ollama/ollama.h"

#include "base/clock.h"
#include "chat/chat_template.h"
#include "tensor/model_file.h"

#include <stdio.h>

#define INFO_MAX   MIB(4)
#define FAR_AWAY_S 4102444800 /* the year 2100: of what stays */

/* ---- what is said of a model ---- */

static void put_name(struct json_writer *w, const char *key, const char *name)
{
    char text[300];
    snprintf(text, sizeof text, "%s%s", name, strchr(name, ':') ? "" : ":latest");
    json_member_cstr(w, key, text);
}

static void put_digest(struct json_writer *w, const struct served_model *m)
{
    const struct engine_info *info = served_model_info(m);
    char text[65] = "";
    for (size_t i = 0; info && i < 32; i++) {
        snprintf(text + 2 * i, 3, "%02x", info->model_digest[i]);
    }
    json_member_cstr(w, "digest", text);
}

/* The type that most bytes of its weights have. */
static const char *quantization_of(const struct served_model *m)
{
    const struct model_file *file = served_model_file(m);
    size_t sizes[64] = {0}, best = 0;
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        size_t type = (size_t)t->type < 64 ? (size_t)t->type : 63;
        sizes[type] += t->size;
        best = sizes[type] > sizes[best] ? type : best;
    }
    return dtype_info((enum dtype)best)->name;
}

/* Of a model whose file was not read yet, since nobody has asked for it. One that may have to be brought first has no
 * path to be looked at: whoever brings it writes that. */
static void put_no_details(struct json_writer *w, const struct served_model *m)
{
    const struct served_model_options *o = served_model_options(m);
    const char *format = o->bring ? "" : str_ends(str_of(o->model_path), STR(".gguf")) ? "gguf" : "safetensors";
    json_key(w, "details");
    json_begin_object(w);
    json_member_cstr(w, "parent_model", "");
    json_member_cstr(w, "format", format);
    json_member_cstr(w, "family", "");
    json_member_null(w, "families");
    json_member_cstr(w, "parameter_size", "");
    json_member_cstr(w, "quantization_level", "");
    json_end_object(w);
}

static void put_details(struct json_writer *w, const struct served_model *m)
{
    const struct engine_info *info = served_model_info(m);
    if (!served_model_is_open(m)) {
        put_no_details(w, m);
        return;
    }
    double n = info ? (double)info->n_params : 0;
    char size[32] = "";
    if (n > 0) {
        bool billions = n >= 1e9;
        snprintf(size, sizeof size, "%.2f%s", n / (billions ? 1e9 : 1e6), billions ? "B" : "M");
    }
    json_key(w, "details");
    json_begin_object(w);
    json_member_cstr(w, "parent_model", "");
    json_member_cstr(w, "format", model_file_is_folder(served_model_file(m)) ? "safetensors" : "gguf");
    json_member_cstr(w, "family", served_model_config(m)->arch);
    json_key(w, "families");
    json_begin_array(w);
    json_put_cstr(w, served_model_config(m)->arch);
    json_end_array(w);
    json_member_cstr(w, "parameter_size", size);
    json_member_cstr(w, "quantization_level", quantization_of(m));
    json_end_object(w);
}

static void put_tag(struct json_writer *w, struct served_model *m, const char *name)
{
    json_begin_object(w);
    put_name(w, "name", name);
    put_name(w, "model", name);
    ollama_put_time(w, "modified_at", served_model_created_s(m) * 1000000000);
    json_member_uint(w, "size", served_model_disk_size(m));
    put_digest(w, m);
    put_details(w, m);
    json_end_object(w);
}

static void put_running(struct json_writer *w, struct served_model *m, const char *name)
{
    const struct engine_info *info = served_model_info(m);
    json_begin_object(w);
    put_name(w, "name", name);
    put_name(w, "model", name);
    json_member_uint(w, "size", info ? info->weights_size + info->kv_size : 0);
    put_digest(w, m);
    put_details(w, m);
    int64_t keep_ms = served_model_is_pinned(m) ? -1 : served_model_keep_alive_ms(m), idle_ms = served_model_idle_ms(m);
    int64_t left_ms = keep_ms - (idle_ms > 0 ? idle_ms : 0);
    int64_t until_ns = clock_wall_ns() + (left_ms > 0 ? left_ms : 0) * 1000000;
    bool stays = keep_ms < 0 || keep_ms > FAR_AWAY_S * 1000 - clock_wall_ms();
    ollama_put_time(w, "expires_at", stays ? FAR_AWAY_S * 1000000000 : until_ns);
    json_member_uint(w, "size_vram", 0);
    json_member_uint(w, "context_length", pipeline_n_context(served_model_pipeline(m)));
    json_end_object(w);
}

/* ---- lists ---- */

static void reply_list(struct app *a, struct http_exchange *x, bool running)
{
    struct buf out;
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_key(&w, "models");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        enum model_state state = served_model_state(m);
        bool loaded = state == MODEL_READY || state == MODEL_UNLOADING;
        struct listed_name name;
        for (size_t k = 0; !running && api__name_at(m, k, &name); k++) {
            put_tag(&w, m, name.text);
        }
        if (running && loaded) {
            put_running(&w, m, served_model_name(m));
        }
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}

void api__ollama_tags(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)rest;
    reply_list(a, x, false);
}

void api__ollama_ps(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)rest;
    reply_list(a, x, true);
}

void api__ollama_version(struct app *a, struct http_exchange *x, struct str rest)
{
    struct buf out;
    (void)rest;
    buf_init(&out, KIB(1));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "version", a->options.version);
    json_end_object(&w);
    api__reply_json(x, &out);
}

/* ---- one model ---- */

#define REQUEST_AT(member) offsetof(struct ollama_request, request.member)

const struct field api__ollama_show_fields[] = {
    {"model", FIELD_STR, REQUEST_AT(model), 0, 512, NULL, NULL, NULL, "name of a served model"},
    {"name", FIELD_STR, REQUEST_AT(model), 0, 512, NULL, NULL, NULL, "the older name of model"},
    {"verbose", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, "only the default"},
    {"system", FIELD_DEFAULT, 0, 0, 0, NULL, "\"\"", NULL, "not supported"},
    {"template", FIELD_DEFAULT, 0, 0, 0, NULL, "\"\"", NULL, "not supported"},
    {"options", FIELD_DEFAULT, 0, 0, 0, NULL, "{}", NULL, "not supported"},
    {0},
};

bool api__decode_ollama_show(struct call *c, struct error *err)
{
    struct ollama_request r = {0};
    struct decoding d = api__decoding(c, &r);
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    c->request.model = r.request.model;
    return r.request.model.len || field_missing_error(err, "model");
}

static bool put_scalar(struct json_writer *w, struct str key, const struct meta_value *v)
{
    char name[256];
    if (key.len >= sizeof name || v->type == META_ARRAY || v->type == META_NONE ||
        str_eq(key, STR("tokenizer.chat_template"))) {
        return false;
    }
    snprintf(name, sizeof name, STR_FMT, STR_ARG(key));
    json_key(w, name);
    switch (v->type) {
    case META_INT:
        json_put_int(w, v->i);
        break;
    case META_FLOAT:
        json_put_double(w, v->f);
        break;
    case META_BOOL:
        json_put_bool(w, v->b);
        break;
    default:
        json_put_str(w, v->s);
        break;
    }
    return true;
}

/* The file's own metadata, but for its long lists; where a folder says nothing of the kind, what we know. */
static void put_model_info(struct json_writer *w, const struct served_model *m)
{
    const struct model_file *file = served_model_file(m);
    const struct engine_info *info = served_model_info(m);
    bool named = false;
    json_key(w, "model_info");
    json_begin_object(w);
    for (size_t i = 0; i < model_file_n_meta(file); i++) {
        struct meta_value v = model_file_meta_at(file, i);
        bool put = put_scalar(w, model_file_meta_key(file, i), &v);
        named = named || (put && str_eq(model_file_meta_key(file, i), STR("general.architecture")));
    }
    if (!named) {
        char key[64];
        snprintf(key, sizeof key, "%s.context_length", served_model_config(m)->arch);
        json_member_cstr(w, "general.architecture", served_model_config(m)->arch);
        json_member_int(w, key, served_model_config(m)->n_context);
    }
    if (info) {
        json_member_uint(w, "general.parameter_count", info->n_params);
    }
    json_end_object(w);
}

static void put_capabilities(struct json_writer *w, struct served_model *m)
{
    const struct pipeline_options *o = pipeline_options(served_model_pipeline(m));
    json_key(w, "capabilities");
    json_begin_array(w);
    json_put_cstr(w, "completion");
    if (o->formats.tools) {
        json_put_cstr(w, "tools");
    }
    if (o->formats.reasoning) {
        json_put_cstr(w, "thinking");
    }
    if (tokenizer_special(o->tokenizer)->fim_middle >= 0) {
        json_put_cstr(w, "insert");
    }
    json_end_array(w);
}

bool api__work_ollama_show(struct call *c, struct error *err)
{
    struct served_model *m = c->model;
    const struct chat_template *chat = pipeline_options(served_model_pipeline(m))->chat;
    struct json_writer w = json_writer(&c->reply);
    json_begin_object(&w);
    json_member_cstr(&w, "modelfile", "");
    json_member_cstr(&w, "parameters", "");
    json_member_str(&w, "template", chat ? chat_template_source(chat) : STR(""));
    put_details(&w, m);
    put_model_info(&w, m);
    put_capabilities(&w, m);
    ollama_put_time(&w, "modified_at", served_model_created_s(m) * 1000000000);
    json_end_object(&w);
    return buf_ok(&c->reply, "the reply", err);
}
