#include "cli/inspect_fit.h"

#include "engine/engine.h"
#include "model/cost.h"

#define MATRIX_MIN 4096 /* elements; smaller ones are not worth a thought */
#define SCALE_BITS 0.5  /* of a weight: 32 bits for 64 of them */
#define MIN_SAVED  0.97 /* a row that saves less than this is none of its own */

static double mib(uint64_t size)
{
    return (double)size / (1 << 20);
}

static uint64_t elements_of(const struct tensor_view *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        n *= t->shape[i];
    }
    return n;
}

/* Never larger than it is stored. */
static uint64_t weights_at(const struct model_file *file, int bits)
{
    double saved = 0;
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        double n = (double)elements_of(t), size = n * (bits + SCALE_BITS) / 8;
        if (t->n_dims >= 2 && n >= MATRIX_MIN && size < (double)t->size) {
            saved += (double)t->size - size;
        }
    }
    return model_file_size(file) - (uint64_t)saved;
}

/* Of one token at the end of a short context. */
static double bytes_of_step(const struct fit_options *o)
{
    struct decoder_cost c;
    decoder_cost_read(o->file, o->config, &c);
    double experts = c.n_experts ? c.expert_bytes * c.n_experts_used / c.n_experts : 0;
    return c.layer_bytes + c.head_bytes + c.embd_row_bytes + experts;
}

static void compute_contexts(const struct fit_options *o, struct fit *out)
{
    static const uint32_t steps[FIT_CONTEXTS] = {2048, 8192, 32768, 131072, UINT32_MAX};
    uint32_t trained = (uint32_t)o->config->n_context, context = 0;
    for (int i = 0; i < FIT_CONTEXTS && context < trained; i++) {
        context = steps[i] < trained ? steps[i] : trained;
        out->contexts[out->n_contexts] = context;
        out->kv[out->n_contexts++] = engine_kv_bytes(o->config, o->kv_type, CPU_PAGE_TOKENS, context);
    }
}

void fit_compute(const struct fit_options *o, struct fit *out)
{
    static const struct fit_row rows[FIT_PRECISIONS] = {{.name = "as stored"},
                                                        {.name = "8 bits", .bits = 8},
                                                        {.name = "6 bits", .bits = 6},
                                                        {.name = "4 bits", .bits = 4}};
    uint64_t size = model_file_size(o->file);
    double step = o->bandwidth > 0 ? bytes_of_step(o) : 0;
    *out = (struct fit){0};
    compute_contexts(o, out);
    for (int i = 0; i < FIT_PRECISIONS; i++) {
        uint64_t weights = rows[i].bits ? weights_at(o->file, rows[i].bits) : size;
        if (rows[i].bits && (double)weights > MIN_SAVED * (double)size) {
            continue;
        }
        struct fit_row *r = &out->rows[out->n_rows++];
        *r = rows[i];
        r->weights = weights;
        r->tokens_per_second = step > 0 ? o->bandwidth / (step * (double)weights / (double)size) : 0;
    }
}

void fit_text(const struct fit_options *o, const struct fit *f, struct buf *out)
{
    buf_printf(out, "  memory needed for one sequence, besides scratch (%.0f MiB are available):\n", mib(o->available));
    for (int i = 0; i < f->n_contexts; i++) {
        uint64_t total = f->rows[0].weights + f->kv[i];
        buf_printf(out, "    %7u tokens  weights %.0f + KV %.0f = %.0f MiB%s\n", f->contexts[i],
                   mib(f->rows[0].weights), mib(f->kv[i]), mib(total), total > o->available ? "  (does not fit)" : "");
    }
    buf_printf(out, "  by precision, estimated%s:\n    %-10s %10s", o->bandwidth > 0 ? "" : " (MiB; -: does not fit)",
               "", "weights");
    for (int i = 0; i < f->n_contexts; i++) {
        buf_printf(out, " %9u", f->contexts[i]);
    }
    buf_puts(out, o->bandwidth > 0 ? "   tokens/s at most\n" : "\n");
    for (int r = 0; r < f->n_rows; r++) {
        buf_printf(out, "    %-10s %10.0f", f->rows[r].name, mib(f->rows[r].weights));
        for (int i = 0; i < f->n_contexts; i++) {
            uint64_t total = f->rows[r].weights + f->kv[i];
            buf_printf(out, total > o->available ? " %8.0f-" : " %9.0f", mib(total));
        }
        if (o->bandwidth > 0) {
            buf_printf(out, " %18.1f", f->rows[r].tokens_per_second);
        }
        buf_putc(out, '\n');
    }
    if (o->bandwidth > 0) {
        buf_printf(out,
                   "    (MiB; -: does not fit; speed of one sequence with a short context, from %.1f GB/s measured)\n",
                   o->bandwidth / 1e9);
    }
}

static void put_memory(const struct fit_options *o, const struct fit *f, uint64_t weights, struct json_writer *w)
{
    json_key(w, "memory");
    json_begin_array(w);
    for (int i = 0; i < f->n_contexts; i++) {
        json_begin_object(w);
        json_member_uint(w, "context", f->contexts[i]);
        json_member_uint(w, "kv", f->kv[i]);
        json_member_uint(w, "total", weights + f->kv[i]);
        json_member_bool(w, "fits", weights + f->kv[i] <= o->available);
        json_end_object(w);
    }
    json_end_array(w);
}

void fit_json(const struct fit_options *o, const struct fit *f, struct json_writer *w)
{
    put_memory(o, f, f->rows[0].weights, w);
    json_member_uint(w, "available", o->available);
    if (o->bandwidth > 0) {
        json_member_double(w, "bandwidth", o->bandwidth);
    }
    json_key(w, "precisions");
    json_begin_array(w);
    for (int r = 0; r < f->n_rows; r++) {
        json_begin_object(w);
        json_member_cstr(w, "name", f->rows[r].name);
        if (f->rows[r].bits) {
            json_member_int(w, "bits", f->rows[r].bits);
        }
        json_member_uint(w, "weights", f->rows[r].weights);
        if (o->bandwidth > 0) {
            json_member_double(w, "tokens_per_second", f->rows[r].tokens_per_second);
        }
        put_memory(o, f, f->rows[r].weights, w);
        json_end_object(w);
    }
    json_end_array(w);
}
