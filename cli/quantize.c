/* `tandem quantize` and `tandem convert`. */
#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/rewrite.h"
#include "cli/text_ids.h"
#include "model/text_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct progress {
    const char *what;
    bool shown;
};

static bool show(void *arg, double fraction)
{
    const struct progress *p = arg;
    if (p->shown) {
        fprintf(stderr, fraction < 1 ? "\r%s %3.0f%%" : "\r%s      \r", p->what, 100 * fraction);
        fflush(stderr);
    }
    return true;
}

/* ---- calibration ---- */

static bool run_windows(struct text_run *run, const struct token_list *ids, int window, struct progress *p,
                        struct error *err)
{
    size_t n_vocab = (size_t)text_run_config(run)->n_vocab;
    float *logits = malloc(TEXT_RUN_ROWS * n_vocab * sizeof *logits);
    bool ok = logits || error_set(err, ERR_NO_MEMORY, "no memory for logits.");
    for (size_t at = 0; ok && at < ids->n; at += (size_t)window) {
        size_t end = ids->n - at < (size_t)window ? ids->n : at + (size_t)window;
        for (size_t i = at; ok && i < end; i += TEXT_RUN_ROWS) { /* all rows go through all layers: all are wanted */
            int n = end - i < TEXT_RUN_ROWS ? (int)(end - i) : TEXT_RUN_ROWS;
            ok = text_run_rows(run, ids->ids + i, (int)(i - at), n, n, logits, err);
        }
        (void)show(p, (double)end / (double)ids->n);
    }
    free(logits);
    return ok;
}

static bool calibrate(const struct model_file *file, const struct options *o, struct importance *importance,
                      struct error *err)
{
    struct progress p = {"calibrating", !o->quiet && isatty(STDERR_FILENO)};
    struct token_list ids = {.max = TEXT_IDS_MAX};
    struct backend_words words = {.cpu_kernels = o->cpu_kernels};
    struct text_run_options run = {.file = file, .n_positions = (int)o->window, .importance = importance};
    run.backend.kind = BACKEND_CPU;
    run.backend.cpu.spin_us = -1;
    run.backend.cpu.n_threads = (int)o->threads;
    if (!kv_type_parse(o->kv_type, &run.kv_type, err) || !backend_options_parse(&words, &run.backend, err) ||
        !text_ids_read(file, o->calibrate, &ids, NULL, err)) {
        return false;
    }
    struct text_run *r = text_run_create(&run, err);
    bool ok = r && run_windows(r, &ids, (int)o->window, &p, err);
    text_run_free(r);
    token_list_release(&ids);
    return ok;
}

/* What --calibrate and --importance say; NULL: neither. */
static bool find_importance(const struct model_file *file, const struct options *o, struct importance **out,
                            struct error *err)
{
    struct decoder_config config;
    *out = NULL;
    if (!o->calibrate && !o->importance) {
        return true;
    }
    if (!decoder_config_read(file, &config, err)) {
        return false;
    }
    if (!o->calibrate) {
        return (*out = importance_read(o->importance, &config, err)) != NULL;
    }
    *out = importance_create(&config, err);
    return *out && calibrate(file, o, *out, err) && (!o->importance || importance_write(*out, o->importance, err));
}

/* ---- both commands ---- */

static bool read_format(const struct options *o, const char *out, enum export_container *container, struct error *err)
{
    bool automatic = strcmp(o->format, "auto") == 0;
    *container = EXPORT_FOLDER;
    if (automatic ? str_ends(str_of(out), STR(".gguf")) : strcmp(o->format, "gguf") == 0) {
        *container = EXPORT_GGUF;
    }
    return automatic || strcmp(o->format, "gguf") == 0 || strcmp(o->format, "mlx") == 0 ||
           error_set(err, ERR_INVALID, "--format: expected auto, gguf or mlx, but got '%.40s'.", o->format);
}

static bool check_kind(const struct options *o, const struct precision *p, const struct model_file *file,
                       enum export_container container, struct error *err)
{
    bool quantizes = p->kind == PRECISION_BITS || (p->kind == PRECISION_TYPE && plan_is_quantized(p->type));
    if (o->command == COMMAND_QUANTIZE && !quantizes) {
        return error_set(err, ERR_INVALID, "--type %.40s is not quantized: `tandem convert` writes that.",
                         o->precision);
    }
    if (o->command == COMMAND_CONVERT && quantizes) {
        return error_set(err, ERR_INVALID, "--type %.40s is quantized: `tandem quantize` writes that.", o->precision);
    }
    if (o->command == COMMAND_CONVERT && p->kind == PRECISION_KEEP &&
        model_file_is_folder(file) == (container == EXPORT_FOLDER) && !export_repacks(file, container)) {
        return error_set(err, ERR_INVALID, "The model is in that format already.");
    }
    return !quantizes || o->requantize || !export_is_quantized(file) ||
           error_set(err, ERR_INVALID,
                     "The model is quantized already: that again loses more than quantizing the original "
                     "(--requantize does it all the same).");
}

static void report(const char *out, const struct model_file *file)
{
    struct error ignored = {0};
    struct model_file *made = model_file_open(out, &ignored);
    if (!made) {
        return;
    }
    double before = (double)model_file_size(file), after = (double)model_file_size(made);
    printf("%s: %.1f MiB, %.0f%% of %.1f MiB; %.2f bits for each parameter\n", out, after / (1 << 20),
           100 * after / before, before / (1 << 20), 8 * after / (double)model_n_params(made));
    model_file_close(made);
}

static bool run(const struct options *o, const char *path, const char *out, struct error *err)
{
    struct progress p = {"writing", !o->quiet && isatty(STDERR_FILENO)};
    struct rewrite_options r = {.n_threads = (int)o->threads, .progress = show, .arg = &p};
    struct importance *importance = NULL;
    struct model_file *file = model_file_open(path, err);
    bool ok = file && precision_parse(o->precision, &r.precision, err) && read_format(o, out, &r.container, err) &&
              check_kind(o, &r.precision, file, r.container, err) && find_importance(file, o, &importance, err);
    r.importance = importance;
    ok = ok && rewrite_model(file, out, &r, err);
    if (ok) {
        report(out, file);
    }
    importance_free(importance);
    model_file_close(file);
    return ok;
}

static int rewrite(const struct options *o, const char *name)
{
    struct error err = {0};
    char path[MODEL_PATH_MAX];
    if (!o->model || o->arguments.n != 1) {
        error_set(&err, ERR_INVALID, "`tandem %s` needs a model and the name of what it writes.", name);
        return command_fail(&err);
    }
    if (!model_path_resolve(o->model, path, &err) || !run(o, path, o->arguments.items[0], &err)) {
        return command_fail(&err);
    }
    return 0;
}

int command_quantize(const struct options *o)
{
    return rewrite(o, "quantize");
}

int command_convert(const struct options *o)
{
    return rewrite(o, "convert");
}
