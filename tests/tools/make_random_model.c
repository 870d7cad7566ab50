/* make_random_model [--tokenizer-from FILE.gguf] CONFIG.json OUT.gguf: see tests/support/random_model.h. */
#include "tests/support/random_model.h"

#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <string.h>

static bool make(const char *config_path, const char *tokenizer_path, const char *out_path, struct error *err)
{
    struct buf config;
    struct model_file *from = NULL;
    struct random_model *model = NULL;
    bool ok = false;
    if (!file_read(config_path, MIB(64), &config, err))
        return false;
    if (tokenizer_path && !(from = model_file_open(tokenizer_path, err)))
        goto out;
    model = random_model_create(buf_view(&config), from, err);
    ok = model && gguf_write_file(random_model_writer(model), out_path, err);
out:
    random_model_free(model);
    model_file_close(from);
    buf_release(&config);
    return ok;
}

int main(int argc, char **argv)
{
    const char *tokenizer = NULL;
    struct error err = {0};
    if (argc == 5 && strcmp(argv[1], "--tokenizer-from") == 0) {
        tokenizer = argv[2];
        argv += 2;
        argc -= 2;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: make_random_model [--tokenizer-from FILE.gguf] CONFIG.json OUT.gguf\n");
        return 2;
    }
    if (!make(argv[1], tokenizer, argv[2], &err)) {
        fprintf(stderr, "make_random_model: %s\n", err.msg);
        return error_info(err.code)->exit_status;
    }
    return 0;
}
