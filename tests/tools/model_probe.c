/* gguf_probe FILE.gguf: what the reader sees, one line per fact, for tests/parity/check_gguf.py.
 *
 *     open VERSION N_META N_TENSORS MILLISECONDS
 *     meta KEY int|float|bool VALUE
 *     meta KEY str LENGTH SHA256
 *     meta KEY array ITEM_TYPE N SHA256      items as i64, f64, one byte, or u64 length and bytes
 *     tensor NAME DTYPE SHAPE(outermost first, by commas) SHA256(packed) SHA256(f32)
 */
#include "base/clock.h"
#include "base/hash.h"
#include "tensor/model_file.h"

#include <stdio.h>
#include <stdlib.h>

static void print_digest(struct sha256_ctx *ctx)
{
    struct sha256 digest = sha256_finish(ctx);
    char hex[2 * SHA256_SIZE + 1];
    sha256_hex(&digest, hex);
    fputs(hex, stdout);
}

static void add_item(struct sha256_ctx *ctx, const struct meta_value *v, size_t i)
{
    int64_t integer;
    double number;
    bool flag;
    struct str s;
    if (meta_array_int(v, i, &integer)) {
        sha256_update(ctx, &integer, sizeof(integer));
    } else if (meta_array_float(v, i, &number)) {
        sha256_update(ctx, &number, sizeof(number));
    } else if (meta_array_bool(v, i, &flag)) {
        sha256_update(ctx, flag ? "\1" : "\0", 1);
    } else if (meta_array_str(v, i, &s)) {
        uint64_t len = s.len;
        sha256_update(ctx, &len, sizeof(len));
        sha256_update(ctx, s.ptr, s.len);
    }
}

static void print_meta(struct sha256_ctx *ctx, struct str key, const struct meta_value *v)
{
    static const char *const names[] = {"none", "int", "float", "bool", "str", "array"};
    printf("meta " STR_FMT " %s ", STR_ARG(key), names[v->type]);
    sha256_start(ctx);
    switch (v->type) {
    case META_INT:
        printf("%lld", (long long)v->i);
        break;
    case META_FLOAT:
        printf("%.17g", v->f);
        break;
    case META_BOOL:
        printf("%d", v->b);
        break;
    case META_STRING:
        printf("%zu ", v->s.len);
        sha256_update(ctx, v->s.ptr, v->s.len);
        print_digest(ctx);
        break;
    default:
        printf("%s %zu ", names[v->item_type], v->n);
        for (size_t i = 0; i < v->n; i++)
            add_item(ctx, v, i);
        print_digest(ctx);
    }
    putchar('\n');
}

static bool print_tensor(struct sha256_ctx *ctx, const struct tensor_view *t)
{
    const struct dtype_info *info = dtype_info(t->type);
    printf("tensor " STR_FMT " %s ", STR_ARG(t->name), info->name);
    for (int i = 0; i < t->n_dims; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
    putchar(' ');
    sha256_start(ctx);
    sha256_update(ctx, t->data, t->size);
    print_digest(ctx);
    putchar(' ');
    size_t row_len = (size_t)t->shape[t->n_dims - 1];
    size_t row_size = row_len / (size_t)info->block_len * (size_t)info->block_size;
    float *row = malloc(row_len * sizeof(*row));
    if (!row)
        return false;
    sha256_start(ctx);
    for (size_t at = 0; at < t->size; at += row_size) {
        dtype_to_f32(t->type, (const uint8_t *)t->data + at, row_len, row);
        sha256_update(ctx, row, row_len * sizeof(*row));
    }
    free(row);
    print_digest(ctx);
    putchar('\n');
    return true;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: gguf_probe FILE.gguf\n");
        return 2;
    }
    int64_t start = clock_ns();
    struct model_file *f = model_file_open(argv[1], &err);
    double ms = (double)(clock_ns() - start) / 1e6;
    if (!f) {
        fprintf(stderr, "%s\n", err.msg);
        return error_info(err.code)->exit_status;
    }
    struct sha256_ctx *ctx = sha256_create();
    printf("open %d %zu %zu %.1f\n", model_file_version(f), model_file_n_meta(f), model_file_n_tensors(f), ms);
    for (size_t i = 0; i < model_file_n_meta(f); i++) {
        struct meta_value v = model_file_meta_at(f, i);
        print_meta(ctx, model_file_meta_key(f, i), &v);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < model_file_n_tensors(f); i++)
        ok = print_tensor(ctx, model_file_tensor_at(f, i));
    sha256_free(ctx);
    model_file_close(f);
    return ok ? 0 : 1;
}
