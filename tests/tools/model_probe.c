/* model_probe FILE.gguf|FOLDER [OUT.safetensors]: what the reader sees, one line per fact, for
 * tests/parity/check_gguf.py and check_safetensors.py; with a second name, also writes all tensors there.
 *
 *     open VERSION N_META N_TENSORS MILLISECONDS
 *     meta KEY int|float|bool VALUE
 *     meta KEY str LENGTH SHA256
 *     meta KEY array ITEM_TYPE N SHA256      items as i64, f64, one byte, or u64 length and bytes
 *     tensor NAME DTYPE SHAPE(outermost first, by commas) SHA256(packed) SHA256(f32)
 *
 * A grouped tensor's DTYPE is MODE:BITS:GROUP_SIZE:SCALE_TYPE.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "tensor/model_file.h"
#include "tensor/safetensors_writer.h"

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

static void print_type(const struct tensor_view *t)
{
    const struct group_quant *q = &t->quant;
    if (t->type == DTYPE_GROUPED)
        printf("%s:%d:%d:%s", group_mode_name(q->mode), q->bits, q->group_size, dtype_info(q->scale_type)->name);
    else
        fputs(dtype_info(t->type)->name, stdout);
}

static bool print_values(struct sha256_ctx *ctx, const struct tensor_view *t)
{
    struct tensor_view matrix = tensor_as_matrix(t);
    size_t row_len = (size_t)matrix.shape[1];
    float *row = malloc(row_len * sizeof(*row));
    if (!row)
        return false;
    sha256_start(ctx);
    for (uint64_t i = 0; i < matrix.shape[0]; i++) {
        tensor_row_to_f32(&matrix, i, row);
        sha256_update(ctx, row, row_len * sizeof(*row));
    }
    free(row);
    print_digest(ctx);
    return true;
}

static bool print_tensor(struct sha256_ctx *ctx, const struct tensor_view *t)
{
    printf("tensor " STR_FMT " ", STR_ARG(t->name));
    print_type(t);
    putchar(' ');
    for (int i = 0; i < t->n_dims; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
    putchar(' ');
    sha256_start(ctx);
    sha256_update(ctx, t->data, t->size);
    print_digest(ctx);
    putchar(' ');
    bool ok = print_values(ctx, t);
    putchar('\n');
    return ok;
}

static bool write_copy(const struct model_file *f, const char *path, struct error *err)
{
    struct safetensors_writer *w = safetensors_writer_create();
    if (!w)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a writer.");
    safetensors_put_metadata(w, "format", "pt");
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const struct tensor_view *t = model_file_tensor_at(f, i);
        struct gguf_tensor copy = {.type = t->type, .n_dims = t->n_dims, .data = t->data};
        char name[256];
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(t->name));
        copy.name = name;
        memcpy(copy.shape, t->shape, sizeof(copy.shape));
        safetensors_add_tensor(w, &copy);
    }
    bool ok = safetensors_write_file(w, path, err);
    safetensors_writer_free(w);
    return ok;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: model_probe FILE.gguf|FOLDER [OUT.safetensors]\n");
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
    if (ok && argc == 3 && !write_copy(f, argv[2], &err)) {
        fprintf(stderr, "%s\n", err.msg);
        ok = false;
    }
    model_file_close(f);
    return ok ? 0 : 1;
}
