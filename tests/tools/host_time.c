/* host_time MODEL ROWS [STEPS]: what a greedy decode step of ROWS sequences costs the host on the mlx backend's CPU
 * device, in f32: building the graph (step_begin to sample), enqueueing it (step_end), waiting for it (read). Means,
 * without the first five steps. */
#include "base/clock.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_ROWS 256
#define WARM_UP  5
#define PAGES    8 /* of each sequence: 2,048 positions */

struct times {
    int64_t build, enqueue, wait;
    int n;
};

struct bench {
    struct backend *be;
    struct model *model;
    struct decoder_config config;
    int n_groups;
    uint32_t tables[MAX_ROWS][PAGES];
    struct batch_seq seqs[MAX_ROWS];
    int32_t ids[MAX_ROWS], positions[MAX_ROWS], out[MAX_ROWS];
    struct sample_row rows[MAX_ROWS];
    struct sample_result results[MAX_ROWS];
};

static bool open_bench(struct bench *b, const struct model_file *file, int n_rows, struct error *err)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    struct model_load_options load = {.config = &b->config, .kv_type = KV_F32};
    if (!decoder_config_read(file, &b->config, err))
        return false;
    b->be = mlx_backend_create(&(struct mlx_backend_options){.device = MLX_DEVICE_CPU, .type = MLX_TYPE_F32}, err);
    b->model = b->be ? model_load(b->be, file, &load, err) : NULL;
    if (!b->model)
        return false;
    b->n_groups = decoder_kv_groups(&b->config, KV_F32, groups, layer_group, layer_index);
    size_t largest = 0;
    for (int g = 0; g < b->n_groups; g++) {
        size_t size = b->be->ops->kv_page_size(b->be, &groups[g]);
        largest = size > largest ? size : largest;
    }
    return b->be->ops->kv_bind(b->be, groups, b->n_groups, NULL, largest * (size_t)n_rows * PAGES, err);
}

static void plan(struct bench *b, int n_rows, int position)
{
    for (int i = 0; i < n_rows; i++) {
        b->seqs[i] = (struct batch_seq){.first_row = i, .n_rows = 1, .start = position, .n_pages = PAGES};
        for (int p = 0; p < PAGES; p++)
            b->tables[i][p] = (uint32_t)(i * PAGES + p);
        for (int g = 0; g < b->n_groups; g++)
            b->seqs[i].pages[g] = b->tables[i];
        b->ids[i] = 100 + i;
        b->positions[i] = position;
        b->out[i] = i;
        b->rows[i] = (struct sample_row){
            .logits_row = i, .score_id = -1, .top_p = 1, .typical_p = 1, .top_n_sigma = -1, .repetition_penalty = 1};
    }
}

static bool step(struct bench *b, int n_rows, struct times *t, struct error *err)
{
    const struct backend_ops *ops = b->be->ops;
    struct batch batch = {.n_rows = n_rows,
                          .ids = b->ids,
                          .positions = b->positions,
                          .n_seqs = n_rows,
                          .seqs = b->seqs,
                          .n_out = n_rows,
                          .out_rows = b->out};
    int64_t start = clock_ns();
    if (!ops->step_begin(b->be, &batch, err))
        return false;
    struct tensor *samples = ops->sample(b->be, model_forward(b->model, &batch), b->rows, n_rows);
    int64_t built = clock_ns();
    if (!ops->step_end(b->be, err))
        return false;
    int64_t enqueued = clock_ns();
    if (!ops->read_samples(b->be, samples, b->results, err))
        return false;
    t->build += built - start;
    t->enqueue += enqueued - built;
    t->wait += clock_ns() - enqueued;
    t->n++;
    return true;
}

static bool run(const char *path, int n_rows, int n_steps, struct error *err)
{
    static struct bench b;
    struct times t = {0};
    struct model_file *file = model_file_open(path, err);
    bool ok = file && open_bench(&b, file, n_rows, err);
    for (int i = 0; ok && i < n_steps; i++) {
        if (i == WARM_UP)
            t = (struct times){0};
        plan(&b, n_rows, i);
        ok = step(&b, n_rows, &t, err);
    }
    if (ok)
        printf("%d rows: build %.3f ms, enqueue %.3f ms, wait %.3f ms\n", n_rows, (double)t.build / t.n / 1e6,
               (double)t.enqueue / t.n / 1e6, (double)t.wait / t.n / 1e6);
    model_free(b.model);
    if (b.be)
        b.be->ops->free(b.be);
    model_file_close(file);
    return ok;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    int n_rows = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0,
        n_steps = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 25;
    if (n_rows < 1 || n_rows > MAX_ROWS || n_steps <= WARM_UP || n_steps > PAGES * 256) {
        fprintf(stderr, "usage: host_time MODEL ROWS [STEPS]; rows from 1 to %d, steps from %d to %d\n", MAX_ROWS,
                WARM_UP + 1, PAGES * 256);
        return 2;
    }
    if (!run(argv[1], n_rows, n_steps, &err)) {
        fprintf(stderr, "host_time: %s\n", err.msg);
        return 1;
    }
    return 0;
}
