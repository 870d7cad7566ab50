/* logits_probe MODEL reference|cpu|mlx [CHUNK] < IDS: the logits of a text, for comparisons with reference
 * implementations. IDS: token ids in decimal, between blanks. Writes [n, n_vocab] f32 to standard output. */
#include "tests/support/model_driver.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_IDS 4096

static int read_ids(int32_t *ids)
{
    int n = 0;
    while (n < MAX_IDS && scanf("%d", &ids[n]) == 1)
        n++;
    return n;
}

static bool print_logits(struct model_driver *d, const int32_t *ids, int n, int chunk)
{
    size_t n_values = (size_t)n * (size_t)d->config.n_vocab;
    float *logits = malloc(n_values * sizeof *logits);
    int32_t *positions = malloc((size_t)n * sizeof *positions);
    bool ok = logits && positions;
    for (int i = 0; ok && i < n; i++)
        positions[i] = i;
    if (ok) {
        model_driver_text(d, ids, n, chunk, positions, n, logits);
        ok = fwrite(logits, sizeof *logits, n_values, stdout) == n_values;
    }
    free(logits);
    free(positions);
    return ok;
}

static bool run(const char *path, const char *backend, int chunk, struct error *err)
{
    static int32_t ids[MAX_IDS];
    int n = read_ids(ids);
    struct model_driver d;
    struct model_file *file = model_file_open(path, err);
    struct model_driver_options o = {.file = file,
                                     .mlx = strcmp(backend, "mlx") == 0,
                                     .kernels = strcmp(backend, "cpu") == 0 ? CPU_KERNELS_AUTO : CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_positions = n,
                                     .n_seqs = 1};
    bool ok = file && model_driver_open(&d, &o, err);
    if (ok) {
        ok = print_logits(&d, ids, n, chunk > 0 ? chunk : n) || error_set(err, ERR_IO, "Writing failed.");
        model_driver_close(&d);
    }
    model_file_close(file);
    return ok;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    if (argc < 3 || !run(argv[1], argv[2], argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0, &err)) {
        fprintf(stderr, "logits_probe: %s\n",
                argc < 3 ? "usage: logits_probe MODEL reference|cpu|mlx [CHUNK]" : err.msg);
        return 1;
    }
    return 0;
}
