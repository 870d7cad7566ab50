/* `tandem list` and `tandem inspect`. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/precision.h"

#include "backend/backend.h"
#include "base/json.h"
#include "base/sys_memory.h"
#include "engine/engine.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_OUT_MAX        ((size_t)64 << 20)
#define INSPECT_SEQUENCES   4  /* that automatic precision leaves room for, as in `tandem serve` */
#define INSPECT_PAGE_TOKENS 32 /* what the cpu backend uses; only rounds */

#define MAX_TYPES 64 /* all plain ones, and a dozen ways of grouping */

struct type_count {
    char name[48]; /* as tensor_type_name has it */
    size_t n_tensors;
    uint64_t size;
};

struct model_facts {
    struct model_file *file;
    struct str name, arch;
    uint64_t n_params, size;
    struct type_count types[MAX_TYPES]; /* [n_types] */
    int n_types;
    int main_type;      /* the one with most bytes */
    bool list_tensors;  /* --tensors */
    bool has_precision; /* precision is what `tandem serve` would choose */
    struct precision_found precision;
    bool has_config; /* config is valid */
    struct decoder_config config;
    struct error why_not; /* when not */
};

/* With the scales and biases of a grouped tensor. */
static uint64_t tensor_size(const struct tensor_view *t)
{
    const struct group_quant *q = &t->quant;
    uint64_t n_groups = 1;
    if (t->type != DTYPE_GROUPED) {
        return t->size;
    }
    for (int i = 0; i < t->n_dims; i++) {
        n_groups *= t->shape[i];
    }
    n_groups /= (uint64_t)q->group_size;
    return t->size + n_groups * (uint64_t)dtype_info(q->scale_type)->block_size * (q->biases ? 2 : 1);
}

/* A type beyond MAX_TYPES counts with the last. */
static void count_type(struct model_facts *f, const struct tensor_view *t)
{
    char name[48];
    int i = 0;
    tensor_type_name(t, name, sizeof name);
    while (i < f->n_types && strcmp(f->types[i].name, name) != 0) {
        i++;
    }
    i = i == MAX_TYPES ? MAX_TYPES - 1 : i;
    if (i == f->n_types) {
        memcpy(f->types[f->n_types++].name, name, sizeof name);
    }
    f->types[i].n_tensors++;
    f->types[i].size += tensor_size(t);
    f->main_type = f->types[i].size > f->types[f->main_type].size ? i : f->main_type;
}

static struct str base_name(const char *path)
{
    struct str name = str_of(path);
    while (name.len > 1 && name.ptr[name.len - 1] == '/') {
        name.len--;
    }
    for (size_t slash; (slash = str_find_char(name, '/')) != STR_NPOS && slash + 1 < name.len;) {
        name = str_slice(name, slash + 1, name.len);
    }
    return name;
}

static bool read_facts(const char *path, const struct options *o, struct model_facts *f, struct error *err)
{
    *f = (struct model_facts){.file = model_file_open(path, err), .list_tensors = o->tensors};
    if (!f->file) {
        return false;
    }
    for (int i = 0; i < o->overrides.n; i++) {
        if (!model_file_override(f->file, o->overrides.items[i], err)) {
            return false;
        }
    }
    bool is_folder = model_file_is_folder(f->file);
    f->name = meta_str_or(f->file, "general.name", is_folder ? base_name(path) : STR(""));
    f->arch = meta_str_or(f->file, is_folder ? "config.model_type" : "general.architecture", STR("unknown"));
    f->n_params = model_n_params(f->file);
    f->size = model_file_size(f->file);
    for (size_t i = 0; i < model_file_n_tensors(f->file); i++) {
        count_type(f, model_file_tensor_at(f->file, i));
    }
    f->has_config = decoder_config_read(f->file, &f->config, &f->why_not) &&
                    (!o->rope_scaling || decoder_config_rope_scaling(&f->config, o->rope_scaling, &f->why_not));
    return true;
}

static void release_facts(struct model_facts *f)
{
    model_file_close(f->file);
}

static double mib(uint64_t size)
{
    return (double)size / (1 << 20);
}

/* ---- list ---- */

struct listing {
    const struct options *options;
    struct json_writer w;
    struct buf out;
};

static void list_model(void *arg, const char *path, const char *file)
{
    struct listing *l = arg;
    struct model_facts f;
    struct error err = {0};
    bool ok = read_facts(path, l->options, &f, &err);
    if (l->options->json) {
        json_begin_object(&l->w);
        json_member_cstr(&l->w, "file", file);
        json_member_cstr(&l->w, "path", path);
        if (ok) {
            json_member_str(&l->w, "architecture", f.arch);
            json_member_cstr(&l->w, "type", f.types[f.main_type].name);
            json_member_uint(&l->w, "size", f.size);
            json_member_uint(&l->w, "parameters", f.n_params);
        } else {
            json_member_cstr(&l->w, "error", err.msg);
        }
        json_end_object(&l->w);
    } else if (ok) {
        buf_printf(&l->out, "%-48s " STR_FMT "  %-6s %8.0f MiB\n", file, STR_ARG(f.arch), f.types[f.main_type].name,
                   mib(f.size));
    } else {
        buf_printf(&l->out, "%-48s unreadable: %s\n", file, err.msg);
    }
    release_facts(&f);
}

static void flush(struct buf *out)
{
    fwrite(out->data ? out->data : "", 1, out->len, stdout);
    buf_release(out);
}

int command_list(const struct options *o)
{
    struct error err = {0};
    struct listing l = {.options = o};
    buf_init(&l.out, LIST_OUT_MAX);
    l.w = json_writer(&l.out);
    if (o->json) {
        json_begin_array(&l.w);
    }
    if (!models_each(list_model, &l, &err)) {
        buf_release(&l.out);
        return command_fail(&err);
    }
    if (o->json) {
        json_end_array(&l.w);
        buf_putc(&l.out, '\n');
    } else if (l.out.len == 0) {
        buf_puts(&l.out, "no models yet; `make models` or tools/fetch_model.py brings some\n");
    }
    flush(&l.out);
    return 0;
}

/* ---- inspect ---- */

struct needs { /* bytes at a context */
    uint32_t context;
    uint64_t kv, total;
};

static struct needs needs_at(const struct model_facts *f, enum kv_type type, uint32_t context)
{
    struct needs n = {.context = context, .kv = engine_kv_bytes(&f->config, type, INSPECT_PAGE_TOKENS, context)};
    n.total = f->size + n.kv;
    return n;
}

static uint32_t context_step(const struct model_facts *f, int i)
{
    static const uint32_t steps[] = {2048, 8192, 32768, 131072};
    uint32_t trained = (uint32_t)f->config.n_context;
    return i < 4 && steps[i] < trained ? steps[i] : trained;
}

/* ---- inspect: tensors ---- */

struct tensor_facts {
    char type[48], shape[64], mlx_f32[96], mlx_f16[96];
    const char *cpu;
};

static void read_tensor_facts(const struct tensor_view *t, struct tensor_facts *f)
{
    size_t len = 0;
    f->shape[0] = '\0';
    for (int i = 0; i < t->n_dims && len < sizeof f->shape; i++) {
        len += (size_t)snprintf(f->shape + len, sizeof f->shape - len, i ? "x%llu" : "%llu",
                                (unsigned long long)t->shape[i]);
    }
    tensor_type_name(t, f->type, sizeof f->type);
    f->cpu = cpu_layout_of(t);
    mlx_layout_of(t, MLX_TYPE_F32, f->mlx_f32, sizeof f->mlx_f32);
    mlx_layout_of(t, MLX_TYPE_F16, f->mlx_f16, sizeof f->mlx_f16);
}

static void tensors_text(const struct model_facts *f, struct buf *out)
{
    buf_printf(out, "  %-44s %-14s %-32s %-26s %-48s %s\n", "tensor", "shape", "type", "cpu", "mlx, f32 activations",
               "mlx, f16 activations");
    for (size_t i = 0; i < model_file_n_tensors(f->file); i++) {
        const struct tensor_view *t = model_file_tensor_at(f->file, i);
        struct tensor_facts facts;
        read_tensor_facts(t, &facts);
        buf_printf(out, "  %-44.*s %-14s %-32s %-26s %-48s %s\n", (int)(t->name.len < 200 ? t->name.len : 200),
                   t->name.ptr, facts.shape, facts.type, facts.cpu, facts.mlx_f32, facts.mlx_f16);
    }
}

static void tensors_json(const struct model_facts *f, struct json_writer *w)
{
    json_key(w, "layout");
    json_begin_array(w);
    for (size_t i = 0; i < model_file_n_tensors(f->file); i++) {
        const struct tensor_view *t = model_file_tensor_at(f->file, i);
        struct tensor_facts facts;
        read_tensor_facts(t, &facts);
        json_begin_object(w);
        json_member_str(w, "name", t->name);
        json_member_cstr(w, "shape", facts.shape);
        json_member_cstr(w, "type", facts.type);
        json_member_cstr(w, "cpu", facts.cpu);
        json_member_cstr(w, "mlx_f32", facts.mlx_f32);
        json_member_cstr(w, "mlx_f16", facts.mlx_f16);
        json_end_object(w);
    }
    json_end_array(w);
}

static void inspect_json(const struct model_facts *f, const char *path, enum kv_type type, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "path", path);
    json_member_str(&w, "name", f->name);
    json_member_str(&w, "architecture", f->arch);
    json_member_uint(&w, "parameters", f->n_params);
    json_member_uint(&w, "size", f->size);
    json_key(&w, "tensors");
    json_begin_object(&w);
    for (int i = 0; i < f->n_types; i++) {
        json_member_uint(&w, f->types[i].name, f->types[i].n_tensors);
    }
    json_end_object(&w);
    if (f->list_tensors) {
        tensors_json(f, &w);
    }
    json_member_bool(&w, "servable", f->has_config);
    if (f->has_config) {
        json_member_int(&w, "context", f->config.n_context);
        json_member_int(&w, "layers", f->config.n_layers);
        if (f->has_precision) {
            json_key(&w, "precision");
            json_begin_object(&w);
            json_member_int(&w, "bits", f->precision.bits);
            json_member_uint(&w, "weights", f->precision.weights);
            json_member_cstr(&w, "why", f->precision.why);
            json_end_object(&w);
        }
        json_key(&w, "memory");
        json_begin_array(&w);
        for (int i = 0; i < 5; i++) {
            struct needs n = needs_at(f, type, context_step(f, i));
            json_begin_object(&w);
            json_member_uint(&w, "context", n.context);
            json_member_uint(&w, "kv", n.kv);
            json_member_uint(&w, "total", n.total);
            json_end_object(&w);
            if (n.context == (uint32_t)f->config.n_context) {
                break;
            }
        }
        json_end_array(&w);
    } else {
        json_member_cstr(&w, "reason", f->why_not.msg);
    }
    json_end_object(&w);
    buf_putc(out, '\n');
}

static void inspect_text(const struct model_facts *f, const char *path, enum kv_type type, struct buf *out)
{
    uint64_t available = sys_memory().available;
    buf_printf(out, "%s\n  name          " STR_FMT "\n  architecture  " STR_FMT "\n  parameters    %.1f M\n", path,
               STR_ARG(f->name), STR_ARG(f->arch), (double)f->n_params / 1e6);
    if (model_file_is_folder(f->file)) {
        buf_printf(out, "  folder        %.0f MiB of safetensors\n  tensors      ", mib(f->size));
    } else {
        buf_printf(out, "  file          %.0f MiB, GGUF v%d\n  tensors      ", mib(f->size),
                   model_file_version(f->file));
    }
    for (int i = 0; i < f->n_types; i++) {
        buf_printf(out, "%s %zu %s (%.0f MiB)", i ? "," : "", f->types[i].n_tensors, f->types[i].name,
                   mib(f->types[i].size));
    }
    buf_putc(out, '\n');
    if (f->list_tensors) {
        tensors_text(f, out);
    }
    if (!f->has_config) {
        buf_printf(out, "  cannot be served: %s\n", f->why_not.msg);
        return;
    }
    const struct decoder_config *c = &f->config;
    buf_printf(
        out,
        "  context       %d trained\n  shape         %d layers, width %d, %d heads, %d KV heads, vocabulary %d%s\n",
        c->n_context, c->n_layers, c->n_embd, c->n_heads, c->n_kv_heads, c->n_vocab,
        c->window ? ", sliding window" : "");
    if (f->has_precision) {
        buf_printf(out, "  precision     %s\n", f->precision.why);
    }
    buf_printf(out, "  memory needed for one sequence, besides scratch (%.0f MiB are available):\n", mib(available));
    for (int i = 0; i < 5; i++) {
        struct needs n = needs_at(f, type, context_step(f, i));
        buf_printf(out, "    %7u tokens  weights %.0f + KV %.0f = %.0f MiB%s\n", n.context, mib(f->size), mib(n.kv),
                   mib(n.total), n.total > available ? "  (does not fit)" : "");
        if (n.context == (uint32_t)c->n_context) {
            break;
        }
    }
}

int command_inspect(const struct options *o)
{
    struct error err = {0};
    struct model_facts f = {0};
    struct buf out;
    enum kv_type type;
    char path[MODEL_PATH_MAX];
    if (!o->model) {
        error_set(&err, ERR_INVALID, "`tandem inspect` needs a model: a path, or a name such as smollm2:135m.");
        return command_fail(&err);
    }
    if (!kv_type_parse(o->kv_type, &type, &err) || !model_path_resolve(o->model, path, &err) ||
        !read_facts(path, o, &f, &err)) {
        release_facts(&f);
        return command_fail(&err);
    }
    struct precision_wanted wanted = precision_wanted_by(o, type, INSPECT_SEQUENCES);
    f.has_precision = f.has_config && precision_plan(path, &wanted, &f.precision, &f.why_not);
    if (f.has_config && !f.has_precision) { /* it does not fit, which is worth saying */
        snprintf(f.precision.why, sizeof f.precision.why, "%.230s", f.why_not.msg);
        f.has_precision = true;
    }
    buf_init(&out, LIST_OUT_MAX);
    if (o->json) {
        inspect_json(&f, path, type, &out);
    } else {
        inspect_text(&f, path, type, &out);
    }
    flush(&out);
    release_facts(&f);
    return 0;
}
