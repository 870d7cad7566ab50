/* The quantizer and what it makes, for scripts that compare it with others:
 *
 *     quantize_probe TYPE K [IMPORTANCE] < f32 rows > the same rows, quantized and dequantized, as f32
 *
 * TYPE is Q4_K ..., round:Q4_K (to nearest, without a search) or affine:BITS:GROUP:SCALE_TYPE. IMPORTANCE is a file of
 * K f32. Rows of K elements, until the input ends. */
#include "tensor/model_file.h"
#include "tensor/quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct probe {
    enum dtype type; /* GROUPED: q */
    bool round;
    struct group_quant q;
    size_t k;
    float *importance; /* [k] or NULL */
};

static void *need(size_t n)
{
    void *p = calloc(1, n);
    if (!p)
        exit(1);
    return p;
}

static bool read_type(const char *text, struct probe *p)
{
    char scale_type[16];
    if (strncmp(text, "affine:", 7) == 0) {
        p->type = DTYPE_GROUPED;
        return sscanf(text + 7, "%d:%d:%15s", &p->q.bits, &p->q.group_size, scale_type) == 3 &&
               dtype_from_name(scale_type, &p->q.scale_type) && group_quant_valid(&p->q);
    }
    p->round = strncmp(text, "round:", 6) == 0;
    return dtype_from_name(p->round ? text + 6 : text, &p->type) && (p->round || quantize_type_known(p->type));
}

static float *read_importance(const char *path, size_t k)
{
    FILE *file = fopen(path, "rb");
    float *out = need(k * sizeof *out);
    if (!file || fread(out, sizeof *out, k, file) != k)
        exit(1);
    fclose(file);
    return out;
}

static void run_affine(struct probe *p, const float *x, float *y, void *codes, void *scales, void *biases)
{
    quantize_affine_row(&p->q, x, p->k, p->importance, codes, scales, biases);
    p->q.scales = scales;
    p->q.biases = biases;
    grouped_row_to_f32(&p->q, codes, 0, p->k, y);
}

int main(int argc, char **argv)
{
    struct probe p = {.q.mode = GROUP_AFFINE};
    if (argc < 3 || !read_type(argv[1], &p) || (p.k = strtoul(argv[2], NULL, 10)) == 0 || p.k > 1 << 20)
        return 2;
    p.importance = argc > 3 ? read_importance(argv[3], p.k) : NULL;
    float *x = need(p.k * 4), *y = need(p.k * 4);
    void *blocks = need(p.k * 4), *scales = need(p.k * 4), *biases = need(p.k * 4);
    while (fread(x, 4, p.k, stdin) == p.k) {
        if (p.type == DTYPE_GROUPED) {
            run_affine(&p, x, y, blocks, scales, biases);
        } else {
            if (!p.round)
                quantize_row(p.type, x, p.k, p.importance, blocks);
            else if (!dtype_from_f32(p.type, x, p.k, blocks))
                return 2;
            dtype_to_f32(p.type, blocks, p.k, y);
        }
        fwrite(y, 4, p.k, stdout);
    }
    free(x);
    free(y);
    free(blocks);
    free(scales);
    free(biases);
    free(p.importance);
    return 0;
}
