/* The safetensors reader over arbitrary bytes, as the only file with tensors of a folder: whatever opens is walked
 * completely. What config.json says of grouped tensors is one of a few texts. */
#include "tensor/model_folder.h"
#include "tests/fuzz/walk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const configs[] = {
    "{}",
    "{\"quantization\":{\"group_size\":64,\"bits\":4}}",
    "{\"quantization\":{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\",\"a\":{\"group_size\":32,\"bits\":3}}}",
    "{\"quantization\":{\"group_size\":128,\"bits\":8,\"a\":true,\"b\":false}}",
    "{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32}}",
    "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32}}",
    "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":-1,\"checkpoint_format\":\"gptq_"
    "v2\"}}",
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"weights\":{\"num_"
    "bits\":4,"
    "\"group_size\":32,\"symmetric\":false}}}}}",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct model_folder_file files[] = {
        {"config.json", str_of(configs[size % (sizeof(configs) / sizeof(configs[0]))])},
        {"model.safetensors", {(const char *)data, size}},
    };
    struct model_file *f = model_folder_open_memory(files, 2, &err);
    if (!f) {
        if (err.code == ERR_NONE || err.msg[0] == 0)
            abort(); /* a failure has to say why */
        return 0;
    }
    walk_model(f);
    model_file_close(f);
    return 0;
}
