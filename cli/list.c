/* `tandem list` and `tandem inspect`. */
#include "cli/commands.h"
#include "cli/inspect_fit.h"
#include "cli/model_hub.h"
#include "cli/precision.h"

#include "backend/cpu/cpu_limits.h"
#include "base/sys_memory.h"
#include "base/utf8.h"
#include "gateway/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_OUT_MAX ((size_t)64 << 20)

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
    struct tensor_view m = tensor_as_matrix(t);
    return t->size + (t->type == DTYPE_GROUPED ? group_scales_size(&t->quant, m.shape[0], m.shape[1]) : 0);
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

/* Of an open file, which the caller closes. name: of a folder that has none in its files. */
static bool read_facts_of(struct model_file *file, struct str name, const struct options *o, struct model_facts *f,
                          struct error *err)
{
    *f = (struct model_facts){.file = file, .list_tensors = o->tensors};
    for (int i = 0; i < o->overrides.n; i++) {
        if (!model_file_override(f->file, o->overrides.items[i], err)) {
            return false;
        }
    }
    bool is_folder = model_file_is_folder(f->file);
    f->name = meta_str_or(f->file, "general.name", is_folder ? name : STR(""));
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

static bool read_facts(const char *path, const struct options *o, struct model_facts *f, struct error *err)
{
    struct model_file *file = model_file_open(path, err);
    *f = (struct model_facts){.file = file};
    return file && read_facts_of(file, str_path_name(str_of(path)), o, f, err);
}

static void release_facts(struct model_facts *f)
{
    model_file_close(f->file);
}

static double mib(uint64_t size)
{
    return (double)size / (1 << 20);
}

/* What a file says of itself, for one line of a terminal: it may come from anybody. */
#define SHOWN_MAX 200
static const char *shown(struct str text, char out[SHOWN_MAX])
{
    struct str cut = str_slice(text, 0, utf8_cut(text, SHOWN_MAX - 1));
    memcpy(out, cut.len ? cut.ptr : "", cut.len);
    out[cut.len] = '\0';
    utf8_make_plain(out, cut.len);
    for (char *c = out; *c; c++) {
        *c = *c == '\n' || *c == '\t' ? ' ' : *c;
    }
    return out;
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
    char arch[SHOWN_MAX];
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
        buf_printf(&l->out, "%-48s %s  %-6s %8.0f MiB\n", file, shown(f.arch, arch), f.types[f.main_type].name,
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

/* ---- list: the Hub's cache ---- */

/* What `tandem rm` and others take: behind the repository the commit where it is not that of main, and of a GGUF file
 * its precision, or its path there. */
static void name_of(const char *repo, const struct hub_cached *c, char *out, size_t size)
{
    const char *snapshot = strstr(c->path, c->commit), *selector = c->precision;
    if (c->is_folder) {
        selector = "";
    } else if (snapshot && (!c->precision[0] || c->is_second)) {
        selector = snapshot + HUB_COMMIT_SIZE + 1;
    }
    snprintf(out, size, "%s%s%s%s%s", repo, c->is_main ? "" : "@", c->is_main ? "" : c->commit, selector[0] ? ":" : "",
             selector);
}

static void list_cached(void *arg, const char *repo, const struct hub_cached *c)
{
    struct listing *l = arg;
    char name[HUB_REPO_MAX + HUB_COMMIT_SIZE + HUB_FILE_MAX + 3], size[24];
    name_of(repo, c, name, sizeof name);
    hub_size_text(c->size, size);
    if (l->options->json) {
        json_begin_object(&l->w);
        json_member_cstr(&l->w, "name", name);
        json_member_cstr(&l->w, "repository", repo);
        json_member_cstr(&l->w, "commit", c->commit);
        json_member_cstr(&l->w, "precision", c->precision);
        json_member_uint(&l->w, "size", c->size);
        json_member_bool(&l->w, "complete", c->state == HUB_COMPLETE);
        if (c->state == HUB_COMPLETE) {
            json_member_cstr(&l->w, "path", c->path);
        }
        json_end_object(&l->w);
    } else {
        buf_printf(&l->out, "%-48s %-12s %12s  %.12s%s\n", name, c->precision, size, c->commit,
                   c->state == HUB_COMPLETE ? "" : "  incomplete");
    }
}

static bool list_hub(struct listing *l, struct error *err)
{
    struct hub_settings settings;
    return hub_settings_read(&settings, err) && hub_cache_each(settings.cache, list_cached, l, err);
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
    if (!models_each(list_model, &l, &err) || !list_hub(&l, &err)) {
        buf_release(&l.out);
        return command_fail(&err);
    }
    if (o->json) {
        json_end_array(&l.w);
        buf_putc(&l.out, '\n');
    } else if (l.out.len == 0) {
        buf_puts(&l.out, "no models yet; `tandem pull owner/name` brings one\n");
    }
    flush(&l.out);
    return 0;
}

/* ---- inspect ---- */

/* Where it is, beside the facts. */
struct subject {
    const char *path;                /* or the reference of a model that is not here */
    const char *name;                /* of a folder whose files hold none; NULL: the path's last part */
    const struct model_heads *heads; /* of that; else NULL */
    enum kv_type kv_type;
    double bandwidth; /* 0: not measured */
};

static struct fit_options fit_options_of(const struct model_facts *f, const struct subject *s)
{
    return (struct fit_options){.file = f->file,
                                .config = &f->config,
                                .kv_type = s->kv_type,
                                .available = sys_memory().available,
                                .bandwidth = s->bandwidth};
}

/* ---- inspect: tensors ---- */

struct tensor_facts {
    char type[48], shape[64], mlx_f32[96], mlx_f16[96];
    const char *cpu;
};

/* Of a table rows are read: neither backend makes anything of it, but that mlx has to repack what is no float. */
static void read_table_facts(const struct tensor_view *t, struct tensor_facts *f)
{
    bool plain = t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16;
    f->cpu = "in place, by rows";
    if (plain) {
        snprintf(f->mlx_f32, sizeof f->mlx_f32, "%s", f->cpu);
        snprintf(f->mlx_f16, sizeof f->mlx_f16, "%s", f->cpu);
    }
}

static void read_tensor_facts(const struct model_facts *m, const struct tensor_view *t, struct tensor_facts *f)
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
    if (m->has_config && decoder_tensor_is_table(m->file, &m->config, t->name))
        read_table_facts(t, f);
}

static void tensors_text(const struct model_facts *f, struct buf *out)
{
    buf_printf(out, "  %-44s %-14s %-32s %-26s %-48s %s\n", "tensor", "shape", "type", "cpu", "mlx, f32 activations",
               "mlx, f16 activations");
    for (size_t i = 0; i < model_file_n_tensors(f->file); i++) {
        const struct tensor_view *t = model_file_tensor_at(f->file, i);
        struct tensor_facts facts;
        read_tensor_facts(f, t, &facts);
        char name[SHOWN_MAX];
        buf_printf(out, "  %-44s %-14s %-32s %-26s %-48s %s\n", shown(t->name, name), facts.shape, facts.type,
                   facts.cpu, facts.mlx_f32, facts.mlx_f16);
    }
}

static void tensors_json(const struct model_facts *f, struct json_writer *w)
{
    json_key(w, "layout");
    json_begin_array(w);
    for (size_t i = 0; i < model_file_n_tensors(f->file); i++) {
        const struct tensor_view *t = model_file_tensor_at(f->file, i);
        struct tensor_facts facts;
        read_tensor_facts(f, t, &facts);
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

/* ---- inspect: what the Hub offers ---- */

static void offer_json(void *arg, const struct hub_choice *c)
{
    struct json_writer *w = arg;
    json_begin_object(w);
    json_member_str(w, "file", c->main);
    json_member_str(w, "precision", c->precision);
    json_member_uint(w, "size", c->size);
    json_end_object(w);
}

static void offer_text(void *arg, const struct hub_choice *c)
{
    struct buf *out = arg;
    char size[24];
    hub_size_text(c->size, size);
    buf_printf(out, "    %-12s %10s  " STR_FMT "\n", c->precision.len ? c->precision.ptr : "?", size, STR_ARG(c->main));
}

/* The folder, as an offer of its own; false: there is none. */
static bool folder_of(const struct model_heads *h, struct hub_choice *out)
{
    struct hub_reference r = {.kind = HUB_REPO, .precision = "safetensors"};
    struct error ignored = {0};
    return hub_has_folder(&h->listing) && hub_choose(&h->listing, &r, HUB_FOLDER_FIRST, h->arena, out, &ignored);
}

static void remote_json(const struct model_heads *h, struct json_writer *w)
{
    struct hub_choice folder;
    json_member_cstr(w, "commit", h->listing.commit);
    json_member_uint(w, "download", h->choice.size);
    json_member_str(w, "precision", h->choice.precision);
    json_key(w, "offers");
    json_begin_array(w);
    if (folder_of(h, &folder)) {
        offer_json(w, &folder);
    }
    hub_choose_each_gguf(&h->listing, h->arena, offer_json, w);
    json_end_array(w);
}

static void remote_text(const struct model_heads *h, struct buf *out)
{
    struct hub_choice folder;
    char size[24];
    hub_size_text(h->choice.size, size);
    buf_printf(out, "  on the Hub    %s to bring in %zu files (" STR_FMT "), commit %.12s; on offer:\n", size,
               h->choice.n, STR_ARG(h->choice.precision), h->listing.commit);
    if (folder_of(h, &folder)) {
        offer_text(out, &folder);
    }
    hub_choose_each_gguf(&h->listing, h->arena, offer_text, out);
}

/* ---- inspect: all of it ---- */

static void inspect_json(const struct model_facts *f, const struct subject *s, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, s->heads ? "reference" : "path", s->path);
    json_member_str(&w, "name", f->name);
    json_member_str(&w, "architecture", f->arch);
    json_member_uint(&w, "parameters", f->n_params);
    json_member_uint(&w, "size", f->size);
    if (s->heads) {
        remote_json(s->heads, &w);
    }
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
        struct fit_options o = fit_options_of(f, s);
        struct fit fit;
        fit_compute(&o, &fit);
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
        fit_json(&o, &fit, &w);
    } else {
        json_member_cstr(&w, "reason", f->why_not.msg);
    }
    json_end_object(&w);
    buf_putc(out, '\n');
}

static void head_text(const struct model_facts *f, const struct subject *s, struct buf *out)
{
    char name[SHOWN_MAX], arch[SHOWN_MAX];
    buf_printf(out, "%s\n  name          %s\n  architecture  %s\n  parameters    %.1f M\n", s->path,
               shown(f->name, name), shown(f->arch, arch), (double)f->n_params / 1e6);
    if (s->heads) {
        remote_text(s->heads, out);
    }
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
}

static void inspect_text(const struct model_facts *f, const struct subject *s, struct buf *out)
{
    head_text(f, s, out);
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
    struct fit_options o = fit_options_of(f, s);
    struct fit fit;
    fit_compute(&o, &fit);
    fit_text(&o, &fit, out);
}

/* *out 0: not wanted. */
static bool measure(const struct options *o, double *out, struct error *err)
{
    struct cpu_limits limits;
    *out = 0;
    if (!o->measure) {
        return true;
    }
    if (!cpu_limits_measure(&(struct cpu_backend_options){0}, &limits, err)) {
        return false;
    }
    *out = limits.per_second[CPU_LIMIT_READ];
    return true;
}

/* What `tandem serve` would load it in; that it does not fit is worth saying too. */
static void plan_precision(const struct options *o, const struct subject *s, struct model_facts *f)
{
    struct precision_wanted wanted =
        precision_wanted_by(o, s->kv_type, PRECISION_SERVE_SEQUENCES, SERVED_DEFAULT_SEQUENCES);
    f->has_precision = true;
    if (!precision_plan(s->path, &wanted, &f->precision, &f->why_not)) {
        snprintf(f->precision.why, sizeof f->precision.why, "%.230s", f->why_not.msg);
    }
}

static bool inspect(const struct options *o, struct model_file *file, struct subject *s, struct error *err)
{
    struct model_facts f;
    struct buf out;
    if (!read_facts_of(file, s->name ? str_of(s->name) : str_path_name(str_of(s->path)), o, &f, err) ||
        (f.has_config && !measure(o, &s->bandwidth, err))) {
        return false;
    }
    if (f.has_config && !s->heads) {
        plan_precision(o, s, &f);
    }
    buf_init(&out, LIST_OUT_MAX);
    if (o->json) {
        inspect_json(&f, s, &out);
    } else {
        inspect_text(&f, s, &out);
    }
    flush(&out);
    return true;
}

static bool inspect_here(const struct options *o, const char *path, struct subject *s, struct error *err)
{
    struct model_file *file = model_file_open(path, err);
    s->path = path;
    s->name = model_path_is_name(o->model) ? o->model : NULL; /* a snapshot's last part is its commit */
    bool ok = file && inspect(o, file, s, err);
    model_file_close(file);
    return ok;
}

static bool inspect_there(const struct options *o, const struct hub_reference *r, struct subject *s, struct error *err)
{
    struct model_hub hub = {0};
    struct model_heads heads = {0};
    s->path = s->name = o->model;
    bool ok = model_hub_open(&hub, r->repo, err) && model_hub_heads(&hub, r, &heads, err);
    s->heads = &heads;
    ok = ok && inspect(o, heads.file, s, err);
    model_heads_release(&heads);
    model_hub_close(&hub);
    return ok;
}

int command_inspect(const struct options *o)
{
    struct error err = {0};
    struct subject s = {0};
    struct hub_reference r;
    char path[MODEL_PATH_MAX];
    bool is_remote;
    if (!o->model) {
        error_set(&err, ERR_INVALID,
                  "`tandem inspect` needs a model: a path, a name such as smollm2:135m, or owner/name.");
        return command_fail(&err);
    }
    bool ok = kv_type_parse(o->kv_type, &s.kv_type, &err) && model_path_find(o->model, path, &r, &is_remote, &err) &&
              (is_remote ? inspect_there(o, &r, &s, &err) : inspect_here(o, path, &s, &err));
    return ok ? 0 : command_fail(&err);
}
