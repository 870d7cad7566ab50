/* make_random_model [OPTION...] CONFIG.json OUT: see tests/support/random_model.h and random_folder.h. OUT is a .gguf
 * file or, with any other name, a folder.
 *     --tokenizer-from MODEL      a GGUF file, or a folder for a folder
 *     --type F32|F16|BF16         of a folder's tensors; F32
 *     --experts each|fused|switch of a folder's experts; each */
#include "tests/support/random_folder.h"
#include "tests/support/random_model.h"

#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <string.h>

struct arguments {
    const char *tokenizer, *type, *experts, *config, *out;
};

static bool make_gguf(const struct arguments *a, struct str config, const struct model_file *from, struct error *err)
{
    struct random_model *model = random_model_create(config, from, err);
    bool ok = model && gguf_write_file(random_model_writer(model), a->out, err);
    random_model_free(model);
    return ok;
}

static bool make_folder(const struct arguments *a, struct str config, const struct model_file *from, struct error *err)
{
    struct random_folder_options o = {.type = DTYPE_F32, .layout = a->experts, .tokenizer_from = from};
    if (a->type && !dtype_from_name(a->type, &o.type))
        return error_set(err, ERR_INVALID, "The type '%s' is unknown.", a->type);
    struct random_folder *folder = random_folder_create(config, &o, err);
    bool ok = folder && random_folder_write(folder, a->out, err);
    random_folder_free(folder);
    return ok;
}

static bool make(const struct arguments *a, struct error *err)
{
    struct buf config;
    struct model_file *from = NULL;
    bool ok = false;
    if (!file_read(a->config, MIB(64), &config, err))
        return false;
    if (a->tokenizer && !(from = model_file_open(a->tokenizer, err)))
        goto out;
    ok = str_ends(str_of(a->out), STR(".gguf")) ? make_gguf(a, buf_view(&config), from, err)
                                                : make_folder(a, buf_view(&config), from, err);
out:
    model_file_close(from);
    buf_release(&config);
    return ok;
}

static const char **option(struct arguments *a, const char *name)
{
    if (strcmp(name, "--tokenizer-from") == 0)
        return &a->tokenizer;
    if (strcmp(name, "--type") == 0)
        return &a->type;
    return strcmp(name, "--experts") == 0 ? &a->experts : NULL;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    struct error err = {0};
    int i = 1;
    for (; i + 1 < argc && option(&a, argv[i]); i += 2)
        *option(&a, argv[i]) = argv[i + 1];
    if (argc - i != 2) {
        fprintf(stderr, "usage: make_random_model [--tokenizer-from MODEL] [--type F32|F16|BF16] "
                        "[--experts each|fused|switch] CONFIG.json OUT.gguf|FOLDER\n");
        return 2;
    }
    a.config = argv[i];
    a.out = argv[i + 1];
    if (!make(&a, &err)) {
        fprintf(stderr, "make_random_model: %s\n", err.msg);
        return error_info(err.code)->exit_status;
    }
    return 0;
}
