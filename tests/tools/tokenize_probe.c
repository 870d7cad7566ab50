/* Tokenizes texts for the parity checks: tokenize_probe MODEL.gguf [--parse-special] [--add-special] [--decode]
 * Standard input: texts, each ended by a NUL. Standard output: per text one line of ids; with --decode a '|' and the
 * text of the ids in hex follow. With --time: no ids, but seconds to create the tokenizer and megabytes per second. */
#include "base/array.h"
#include "base/clock.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

struct options {
    struct encode_options encode;
    bool decode, time;
};

static bool read_all(FILE *in, struct buf *out, struct error *err)
{
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, in)) > 0)
        buf_append_bytes(out, chunk, n);
    return buf_ok(out, "input", err);
}

static bool print_text(const struct tokenizer *t, struct str text, const struct options *options,
                       struct token_list *list, struct error *err)
{
    list->n = 0;
    if (!tokenizer_encode(t, text, options->encode, list, err))
        return false;
    for (size_t i = 0; i < list->n; i++)
        printf(i ? " %d" : "%d", (int)list->ids[i]);
    if (options->decode) {
        struct buf decoded;
        buf_init(&decoded, SIZE_MAX / 2);
        tokenizer_decode(t, list->ids, list->n, true, &decoded);
        putchar('|');
        for (size_t i = 0; i < decoded.len; i++)
            printf("%02x", (unsigned char)decoded.data[i]);
        buf_release(&decoded);
    }
    putchar('\n');
    return true;
}

static bool time_all(const struct tokenizer *t, struct str all, int64_t create_ns, struct error *err)
{
    struct token_list list = {.max = SIZE_MAX / 64};
    int64_t best = INT64_MAX;
    for (int round = 0; round < 5; round++) {
        list.n = 0;
        int64_t start = clock_ns();
        if (!tokenizer_encode(t, all, (struct encode_options){0}, &list, err))
            return false;
        int64_t took = clock_ns() - start;
        best = took < best ? took : best;
    }
    printf("create %.1f ms, %zu bytes, %zu tokens, %.2f MB/s\n", (double)create_ns / 1e6, all.len, list.n,
           (double)all.len / ((double)best / 1e3));
    token_list_release(&list);
    return true;
}

static bool run(const char *path, const struct options *options, struct error *err)
{
    struct buf input;
    struct token_list list = {.max = SIZE_MAX / 64};
    bool ok = false;
    buf_init(&input, SIZE_MAX / 2);
    struct model_file *file = model_file_open(path, err);
    int64_t start = clock_ns();
    struct tokenizer *t = file ? tokenizer_from_model_file(file, err) : NULL;
    int64_t create_ns = clock_ns() - start;
    if (t && read_all(stdin, &input, err)) {
        struct str rest = buf_view(&input), text;
        ok = !options->time || time_all(t, rest, create_ns, err);
        while (ok && !options->time && rest.len && str_split(&rest, '\0', &text))
            ok = print_text(t, text, options, &list, err);
    }
    token_list_release(&list);
    tokenizer_free(t);
    model_file_close(file);
    buf_release(&input);
    return ok;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct error err = {0};
    for (int i = 2; i < argc; i++) {
        struct str arg = str_of(argv[i]);
        options.encode.parse_special |= str_eq(arg, STR("--parse-special"));
        options.encode.add_special |= str_eq(arg, STR("--add-special"));
        options.decode |= str_eq(arg, STR("--decode"));
        options.time |= str_eq(arg, STR("--time"));
    }
    if (argc < 2 || !run(argv[1], &options, &err)) {
        fprintf(stderr, "tokenize_probe: %s\n", argc < 2 ? "usage: tokenize_probe MODEL.gguf [OPTION]..." : err.msg);
        return 1;
    }
    return 0;
}
