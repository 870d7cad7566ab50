/* The JSON files and templates of a model folder. The input is cut at bytes 0xFF, which are never part of UTF-8, into
 * the contents of the files below, in this order; an empty part is a file that is not there. */
#include "base/array.h"
#include "tensor/model_folder.h"
#include "tests/fuzz/walk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.json",
    "model.safetensors.index.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "tokenizer.json",
};

/* m.weight: [2, 128] in 4 bits and groups of 64, or others that fit 16 columns of codes and 2 of scales. Where
 * config.json says so: a, [8, 32] of AWQ; w, [8, 64] of compressed-tensors. */
#define HEADER                                                                            \
    "{\"m.weight\":{\"dtype\":\"U32\",\"shape\":[2,16],\"data_offsets\":[0,128]},"        \
    "\"m.scales\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[128,136]},"        \
    "\"m.biases\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[136,144]},"        \
    "\"e.weight\":{\"dtype\":\"U32\",\"shape\":[2,2,16],\"data_offsets\":[144,400]},"     \
    "\"e.scales\":{\"dtype\":\"U8\",\"shape\":[2,2,4],\"data_offsets\":[400,416]},"       \
    "\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[32,1],\"data_offsets\":[416,544]},"      \
    "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[544,548]},"        \
    "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,8],\"data_offsets\":[548,564]},"        \
    "\"w.weight_packed\":{\"dtype\":\"I32\",\"shape\":[8,8],\"data_offsets\":[564,820]}," \
    "\"w.weight_scale\":{\"dtype\":\"F16\",\"shape\":[8,2],\"data_offsets\":[820,852]},"  \
    "\"w.weight_zero_point\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[852,860]}}"

#define HEADER_SIZE (sizeof(HEADER) - 1)
#define DATA_SIZE   860

static struct str shard(uint8_t *out)
{
    uint64_t len = HEADER_SIZE;
    memset(out, 0x3c, 8 + HEADER_SIZE + DATA_SIZE);
    memcpy(out, &len, sizeof(len));
    memcpy(out + 8, HEADER, HEADER_SIZE);
    return (struct str){(const char *)out, 8 + HEADER_SIZE + DATA_SIZE};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t tensors[8 + HEADER_SIZE + DATA_SIZE];
    struct error err = {0};
    struct model_folder_file files[ARRAY_LEN(names) + 1];
    struct str rest = {(const char *)data, size}, part;
    size_t n = 0;
    files[n++] = (struct model_folder_file){size % 2 ? "model.safetensors" : "a.safetensors", shard(tensors)};
    for (size_t i = 0; i < ARRAY_LEN(names) && str_split(&rest, (char)0xff, &part); i++) {
        if (part.len > 0)
            files[n++] = (struct model_folder_file){names[i], part};
    }
    struct model_file *f = model_folder_open_memory(files, n, &err);
    if (!f) {
        if (err.code == ERR_NONE || err.msg[0] == 0)
            abort(); /* a failure has to say why */
        return 0;
    }
    walk_model(f);
    (void)!model_file_override(f, "config.hidden_size=int:3", &err);
    (void)!model_file_override(f, "config.eps=float:3", &err);
    model_file_close(f);
    return 0;
}
