#include "tests/support/model_vectors.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "tests/support/random_model.h"
#include "tests/support/vector_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

const char *model_vectors_random(size_t i)
{
    static const char *const names[MODEL_VECTORS_MAX_RANDOM] = {
        "llama-plain",  "llama-linear", "llama-llama3", "llama-yarn",
        "mistral",      "mixtral",      "qwen2-tied",   "qwen2-yarn",
        "qwen2-window", "qwen3",        "qwen3moe",     "qwen3moe-dense",
        "gemma2",       "gemma3",       "gemma3n",      "smollm3",
        "phi3-long",    "phi3-short",   "granite",      "olmo2",
        "olmo3",        "gemma",        "cohere",       "cohere-qk-norm",
        "cohere2",      "glm",          "glm4",         "exaone4",
        "seed_oss",     "ernie4_5",     "stablelm",     "stablelm-parallel",
        "internlm2",    "internlm3",    "minicpm",      "qwen2moe",
        "gpt-oss",      "deepseek2",    "deepseek3",    "ernie-moe",
        "llama4",       "lfm2",         "lfm2moe",      "qwen3next"};
    return i < MODEL_VECTORS_MAX_RANDOM ? names[i] : NULL;
}

/* ---- reading ---- */

static void *items(const struct vector_file *f, size_t field, size_t item_size, size_t want, int *n)
{
    size_t size;
    void *p = vector_file_bytes(f, field, &size);
    if (size % item_size != 0 || (want && size != want * item_size))
        fail_msg("%s: a field of %zu bytes", f->path, size);
    if (n)
        *n = (int)(size / item_size);
    return p;
}

static int64_t number(const struct vector_file *f, size_t field)
{
    int64_t n;
    if (!str_to_i64(f->fields[field], &n))
        fail_msg("%s: '" STR_FMT "' is no number", f->path, STR_ARG(f->fields[field]));
    return n;
}

static void copy_text(char *dst, size_t size, struct str s)
{
    assert_true(s.len < size);
    memcpy(dst, s.ptr, s.len);
    dst[s.len] = '\0';
}

static void read_at(struct model_vectors *v, const struct vector_file *f)
{
    assert_true(f->n_fields == 5 && v->n_at < MODEL_VECTORS_MAX_AT);
    struct logits_at *at = &v->at[v->n_at++];
    float *lse = items(f, 2, sizeof(float), 1, NULL);
    at->pos = (int32_t)number(f, 1);
    at->lse = *lse;
    at->ids = items(f, 3, sizeof(int32_t), MODEL_VECTORS_TOP, NULL);
    at->values = items(f, 4, sizeof(float), MODEL_VECTORS_TOP, NULL);
    free(lse);
}

static void read_greedy(struct model_vectors *v, const struct vector_file *f)
{
    assert_true(f->n_fields == 4 && v->n_greedy < MODEL_VECTORS_PROMPTS);
    struct greedy_text *g = &v->greedy[v->n_greedy++];
    g->n = (int)number(f, 1);
    g->prompt = items(f, 2, sizeof(int32_t), 0, &g->n_prompt);
    g->output = items(f, 3, sizeof(int32_t), 0, &g->n_output);
    assert_true(g->n <= g->n_output && g->n_prompt > 0);
}

static void read_line(struct model_vectors *v, const struct vector_file *f)
{
    int n;
    assert_true(f->n_fields >= 2);
    if (str_eq(f->fields[0], STR("model"))) {
        copy_text(v->name, sizeof(v->name), f->fields[1]);
    } else if (str_eq(f->fields[0], STR("rope_scaling"))) {
        copy_text(v->rope_scaling, sizeof(v->rope_scaling), f->fields[1]);
    } else if (str_eq(f->fields[0], STR("rope_freqs"))) {
        v->rope_freqs = items(f, 1, sizeof(float), 0, &n);
        v->n_rope_freqs = (size_t)n;
    } else if (str_eq(f->fields[0], STR("std"))) {
        assert_true(str_to_f64(f->fields[1], &v->std));
    } else if (str_eq(f->fields[0], STR("text"))) {
        v->text = items(f, 1, sizeof(int32_t), 0, &v->n_text);
    } else if (str_eq(f->fields[0], STR("at"))) {
        read_at(v, f);
    } else if (str_eq(f->fields[0], STR("greedy"))) {
        read_greedy(v, f);
    } else {
        fail_msg("%s: what is '" STR_FMT "'?", f->path, STR_ARG(f->fields[0]));
    }
}

void model_vectors_load(struct model_vectors *v, const char *name)
{
    struct vector_file f;
    char path[512];
    snprintf(path, sizeof(path), "%s/parity/%s.vec", TEST_DATA_DIR, name);
    *v = (struct model_vectors){0};
    vector_file_open(&f, path);
    while (vector_file_next(&f))
        read_line(v, &f);
    vector_file_close(&f);
    assert_true(v->n_at > 0 && v->n_text > 0 && v->std > 0);
}

void model_vectors_release(struct model_vectors *v)
{
    for (int i = 0; i < v->n_at; i++) {
        free(v->at[i].ids);
        free(v->at[i].values);
    }
    for (int i = 0; i < v->n_greedy; i++) {
        free(v->greedy[i].prompt);
        free(v->greedy[i].output);
    }
    free(v->rope_freqs);
    free(v->text);
}

static struct buf read_description(const struct model_vectors *v)
{
    struct error err = {0};
    struct buf json;
    char path[512];
    snprintf(path, sizeof(path), "%s/parity/%s.json", TEST_DATA_DIR, v->name);
    if (!file_read(path, MIB(1), &json, &err))
        fail_msg("%s", err.msg);
    return json;
}

static struct model_file *make_folder(const struct model_vectors *v, const struct random_folder_options *o,
                                      struct random_folder **folder)
{
    struct error err = {0};
    struct buf json = read_description(v);
    size_t n = 0;
    *folder = random_folder_create(buf_view(&json), o, &err);
    const struct model_folder_file *files = *folder ? random_folder_files(*folder, &n) : NULL;
    struct model_file *file = files ? model_folder_open_memory(files, n, &err) : NULL;
    buf_release(&json);
    if (!file)
        fail_msg("%s: %s", v->name, err.msg);
    return file;
}

struct model_file *model_vectors_folder(const struct model_vectors *v, const char *experts, bool wrapped,
                                        struct random_folder **folder)
{
    return make_folder(v, &(struct random_folder_options){.type = DTYPE_F32, .layout = experts, .wrapped = wrapped},
                       folder);
}

struct model_file *model_vectors_mxfp4_folder(const struct model_vectors *v, struct random_folder **folder)
{
    return make_folder(v, &(struct random_folder_options){.type = DTYPE_F32, .layout = "fused", .mxfp4 = true}, folder);
}

static struct model_file *make_file(const struct model_vectors *v, struct str json, struct buf *bytes)
{
    struct error err = {0};
    buf_init(bytes, MIB(64));
    struct random_model *m = random_model_create(json, NULL, &err);
    if (m && v->rope_freqs)
        gguf_add_tensor(random_model_writer(m), &(struct gguf_tensor){.name = "rope_freqs.weight",
                                                                      .type = DTYPE_F32,
                                                                      .n_dims = 1,
                                                                      .shape = {v->n_rope_freqs},
                                                                      .data = v->rope_freqs});
    bool ok = m && gguf_write_buf(random_model_writer(m), bytes, &err);
    random_model_free(m);
    struct model_file *file = ok ? model_file_open_memory(bytes->data, bytes->len, &err) : NULL;
    if (!file)
        fail_msg("%s: %s", v->name, err.msg);
    return file;
}

struct model_file *model_vectors_file(const struct model_vectors *v, struct buf *bytes)
{
    struct buf json = read_description(v);
    struct model_file *file = make_file(v, buf_view(&json), bytes);
    buf_release(&json);
    return file;
}

/* The description has a line for each tensor. */
struct model_file *model_vectors_file_without(const struct model_vectors *v, int layer, const char *tensors,
                                              struct buf *bytes)
{
    struct buf json = read_description(v), kept;
    struct str rest = buf_view(&json), line;
    char begin[96];
    snprintf(begin, sizeof(begin), "{\"name\": \"blk.%d.%s", layer, tensors);
    buf_init(&kept, MIB(2));
    while (str_split(&rest, '\n', &line)) {
        if (str_starts(line, str_of(begin)))
            continue;
        buf_append(&kept, line);
        buf_puts(&kept, "\n");
    }
    struct model_file *file = make_file(v, buf_view(&kept), bytes);
    buf_release(&json);
    buf_release(&kept);
    return file;
}

struct model_file *model_vectors_mxfp4_file(const struct model_vectors *v, struct buf *bytes)
{
    static const char mark[] = "_exps.weight\", \"shape\"",
                      instead[] = "_exps.weight\", \"dtype\": \"MXFP4\", \"shape\"";
    struct buf json = read_description(v), changed;
    buf_init(&changed, MIB(2));
    buf_append_bytes(&json, "", 1);
    const char *at = (const char *)json.data;
    for (const char *found; (found = strstr(at, mark)) != NULL; at = found + sizeof(mark) - 1) {
        buf_append_bytes(&changed, at, (size_t)(found - at));
        buf_puts(&changed, instead);
    }
    buf_puts(&changed, at);
    struct model_file *file = make_file(v, buf_view(&changed), bytes);
    buf_release(&json);
    buf_release(&changed);
    return file;
}

/* ---- comparing ---- */

static double worse(double worst, double deviation)
{
    return isfinite(deviation) ? fmax(worst, fabs(deviation)) : INFINITY;
}

static double log_sum_exp(const float *logits, int n)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int i = 0; i < n; i++)
        sum += exp(logits[i] - max);
    return max + log(sum);
}

double model_vectors_deviation(const struct model_vectors *v, struct model_driver *d, int chunk)
{
    int32_t positions[MODEL_VECTORS_MAX_AT];
    size_t n_vocab = (size_t)d->config.n_vocab;
    float *logits = malloc((size_t)v->n_at * n_vocab * sizeof(*logits));
    double worst = 0;
    assert_non_null(logits);
    for (int i = 0; i < v->n_at; i++)
        positions[i] = v->at[i].pos;
    model_driver_text(d, v->text, v->n_text, chunk, positions, v->n_at, logits);
    for (int i = 0; i < v->n_at; i++) {
        const float *row = logits + (size_t)i * n_vocab;
        worst = worse(worst, log_sum_exp(row, d->config.n_vocab) - v->at[i].lse);
        for (int k = 0; k < MODEL_VECTORS_TOP; k++) {
            assert_in_range(v->at[i].ids[k], 0, d->config.n_vocab - 1);
            worst = worse(worst, row[v->at[i].ids[k]] - v->at[i].values[k]);
        }
    }
    free(logits);
    return worst / v->std;
}

static bool same_text(const struct greedy_text *g, const int32_t *output, int prompt)
{
    for (int i = 0; i < g->n; i++) {
        if (output[i] != g->output[i]) {
            print_message("prompt %d: token %d is %d instead of %d\n", prompt, i, output[i], g->output[i]);
            return false;
        }
    }
    return true;
}

int model_vectors_greedy(const struct model_vectors *v, struct model_driver *d, int chunk)
{
    struct driver_prompt prompts[MODEL_VECTORS_PROMPTS];
    int n_output = v->n_greedy > 0 ? v->greedy[0].n_output : 0, n_same = 0;
    int32_t *outputs = calloc((size_t)(v->n_greedy * n_output), sizeof(*outputs));
    assert_non_null(outputs);
    for (int i = 0; i < v->n_greedy; i++) {
        assert_int_equal(v->greedy[i].n_output, n_output);
        prompts[i] = (struct driver_prompt){v->greedy[i].prompt, v->greedy[i].n_prompt, outputs + i * n_output};
    }
    model_driver_greedy(d, prompts, v->n_greedy, n_output, chunk);
    for (int i = 0; i < v->n_greedy; i++)
        n_same += same_text(&v->greedy[i], prompts[i].output, i);
    free(outputs);
    return n_same;
}

int model_vectors_max_positions(const struct model_vectors *v)
{
    int max = v->n_text;
    for (int i = 0; i < v->n_greedy; i++) {
        int n = v->greedy[i].n_prompt + v->greedy[i].n_output;
        max = n > max ? n : max;
    }
    return max;
}
