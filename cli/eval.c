/* `tandem eval`: perplexity over a text, and how far one precision of a model is from another. */
#include "base/json.h"
#include "base/limits.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/text_ids.h"
#include "model/evaluate.h"

#include <stdio.h>
#include <unistd.h>

#define OUT_MAX ((size_t)1 << 20)

struct side { /* one of the two models */
    char path[MODEL_PATH_MAX];
    struct model_file *file;
    struct text_run *run;
};

static void show(void *arg, double fraction)
{
    (void)arg;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, fraction < 1 ? "\revaluating %3.0f%%" : "\r               \r", 100 * fraction);
        fflush(stderr);
    }
}

static bool open_side(struct side *s, const char *model, const struct options *o, struct error *err)
{
    struct backend_words words = options_backend(o);
    struct text_run_options run = {.n_positions = (int)o->window};
    run.backend.cpu.spin_us = -1;
    if (!backend_options_parse(&words, &run.backend, err) || !kv_type_parse(o->kv_type, &run.kv_type, err) ||
        !model_path_resolve(model, s->path, err) || !(s->file = model_file_open(s->path, err))) {
        return false;
    }
    run.backend.cpu.n_threads = (int)o->threads;
    run.file = s->file;
    s->run = text_run_create(&run, err);
    return s->run != NULL;
}

static void close_side(struct side *s)
{
    text_run_free(s->run);
    model_file_close(s->file);
}

static void put_json(const struct evaluation *e, const struct side sides[2], const struct evaluate_options *o,
                     struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "model", sides[0].path);
    json_member_uint(&w, "tokens", e->n_tokens);
    json_member_uint(&w, "windows", e->n_windows);
    json_member_int(&w, "window", o->window);
    json_member_int(&w, "stride", o->stride);
    json_member_double(&w, "loss", e->loss);
    json_member_double(&w, "perplexity", e->perplexity);
    if (e->compared) {
        json_member_cstr(&w, "against", sides[1].path);
        json_member_double(&w, "against_loss", e->other_loss);
        json_member_double(&w, "against_perplexity", e->other_perplexity);
        json_member_double(&w, "kl_mean", e->kl_mean);
        json_member_double(&w, "kl_p99", e->kl_p99);
        json_member_double(&w, "kl_max", e->kl_max);
        json_member_double(&w, "same_top", e->same_top);
    }
    json_end_object(&w);
    buf_putc(out, '\n');
}

static void put_text(const struct evaluation *e, const struct side sides[2], const struct evaluate_options *o,
                     struct buf *out)
{
    buf_printf(out, "%s\n  tokens        %zu in %zu windows of %d, every %d\n  perplexity    %.4f (loss %.5f)\n",
               sides[0].path, e->n_tokens, e->n_windows, o->window, o->stride, e->perplexity, e->loss);
    if (e->compared) {
        buf_printf(out,
                   "against %s\n  perplexity    %.4f (loss %.5f)\n  KL            mean %.6f, p99 %.6f, max %.6f\n"
                   "  same top 1    %.2f%%\n",
                   sides[1].path, e->other_perplexity, e->other_loss, e->kl_mean, e->kl_p99, e->kl_max,
                   100 * e->same_top);
    }
}

static bool same_tokens(const struct side sides[2], const char *text, const struct token_list *ids, struct error *err)
{
    struct token_list other = {.max = ids->n + 1};
    bool ok = text_ids_read(sides[1].file, text, &other, NULL, err);
    if (ok && (other.n != ids->n || memcmp(other.ids, ids->ids, ids->n * sizeof *ids->ids) != 0)) {
        ok = error_set(err, ERR_INVALID, "the two models read the text as different tokens: they cannot be compared.");
    }
    token_list_release(&other);
    return ok;
}

static bool evaluate(const struct options *o, struct side sides[2], struct error *err)
{
    struct evaluate_options e = {.window = (int)o->window, .stride = (int)o->stride, .bos = -1};
    struct token_list ids = {.max = TEXT_IDS_MAX};
    struct evaluation result;
    struct buf out;
    e.stride = e.stride ? e.stride : e.window / 2;
    e.progress = o->quiet ? NULL : show;
    bool ok = text_ids_read(sides[0].file, o->text, &ids, &e.bos, err) &&
              (!sides[1].file || same_tokens(sides, o->text, &ids, err)) &&
              evaluate_text(sides[0].run, sides[1].run, ids.ids, ids.n, &e, &result, err);
    token_list_release(&ids);
    if (!ok) {
        return false;
    }
    buf_init(&out, OUT_MAX);
    (o->json ? put_json : put_text)(&result, sides, &e, &out);
    fwrite(out.data ? out.data : "", 1, out.len, stdout);
    buf_release(&out);
    return true;
}

int command_eval(const struct options *o)
{
    struct error err = {0};
    struct side sides[2] = {0};
    if (!o->model || !o->text) {
        error_set(&err, ERR_INVALID, "`tandem eval` needs a model, and a text: --text FILE.");
        return command_fail(&err);
    }
    bool ok = open_side(&sides[0], o->model, o, &err) && (!o->against || open_side(&sides[1], o->against, o, &err)) &&
              evaluate(o, sides, &err);
    close_side(&sides[0]);
    close_side(&sides[1]);
    return ok ? 0 : command_fail(&err);
}
