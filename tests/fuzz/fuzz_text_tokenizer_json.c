/* tokenizer.json from anybody: what is accepted encodes a few texts and decodes every id. */
#include "text/tokenizer.h"

#include "base/array.h"
#include "tensor/model_folder.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct str texts[] = {
    {"", 0}, {"Hello  world, it's 12345 \n\t<s>x</s>", 35}, {"\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80 \xFF", 11}};

static void use(const struct tokenizer *t)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct token_list list = {.max = 4096};
        struct error err = {0};
        if (tokenizer_encode(t, texts[i], (struct encode_options){true, i % 2 == 1}, &list, &err))
            tokenizer_decode(t, list.ids, list.n, false, &out);
        for (size_t k = 0; k < list.n; k++) {
            if (list.ids[k] < 0 || list.ids[k] >= tokenizer_n_vocab(t))
                abort();
        }
        token_list_release(&list);
    }
    for (int32_t id = 0; id < tokenizer_n_vocab(t) && id < 2000; id++)
        tokenizer_decode(t, &id, 1, true, &out);
    buf_release(&out);
}

/* A folder as small as one can be. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char tensors[] = "\x40\0\0\0\0\0\0\0"
                                  "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}          \0\0\0\0";
    const struct model_folder_file files[] = {
        {"config.json", STR("{\"model_type\":\"llama\",\"eos_token_id\":[1,2]}")},
        {"tokenizer_config.json", STR("{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"}}")},
        {"tokenizer.json", {(const char *)data, size}},
        {"model.safetensors", {tensors, sizeof tensors - 1}},
    };
    struct error err = {0};
    struct model_file *folder = model_folder_open_memory(files, ARRAY_LEN(files), &err);
    struct tokenizer *t = folder ? tokenizer_from_model_file(folder, &err) : NULL;
    if (t)
        use(t);
    tokenizer_free(t);
    model_file_close(folder);
    return 0;
}
