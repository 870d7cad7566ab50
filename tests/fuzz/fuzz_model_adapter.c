/* Files of adapters over arbitrary bytes. The first byte says what they are: the text of an adapter_config.json beside
 * a fixed safetensors file, a safetensors file beside a fixed configuration, or a GGUF file. What opens is bound to a
 * small model, in its weights' place a backend that only looks at what it is given. */
#include "model/adapter.h"
#include "model/model_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"rank_pattern\":{\"k_proj\":1}}";

/* One pair: model.layers.0.self_attn.q_proj, [2, 4] and [4, 2] of zeros. */
static const char header[] = "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":"
                             "{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]},"
                             "\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\":"
                             "{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[32,64]}}";

static float sum; /* of all values given: they are there to be read */

static bool look_at(struct backend *be, struct weight *w, int adapter, const struct adapter_part *part,
                    struct error *err)
{
    (void)be, (void)w, (void)adapter, (void)err;
    const struct tensor_view *views[2] = {part ? part->a : NULL, part ? part->b : NULL};
    for (int i = 0; part && i < 2; i++) {
        float *row = malloc((size_t)views[i]->shape[1] * sizeof(*row));
        for (uint64_t r = 0; row && r < views[i]->shape[0]; r++) {
            tensor_row_to_f32(views[i], r, row);
            sum += row[0];
        }
        free(row);
    }
    return true;
}

static void bind(const struct adapter_file *f, const char *family, bool from_folder)
{
    static const struct backend_ops ops = {.name = "look", .weight_adapt = look_at};
    static char weights[2];
    struct backend be = {&ops};
    struct weight *layers[2][PART_COUNT];
    struct model m = {.be = &be,
                      .config = {.arch = family,
                                 .n_layers = 2,
                                 .n_embd = 4,
                                 .n_vocab = 6,
                                 .n_heads = 2,
                                 .n_kv_heads = 1,
                                 .k_dim = 2,
                                 .v_dim = 2,
                                 .rot_dim = 2,
                                 .n_ff = 6,
                                 .mlp_gated = true},
                      .family = decoder_family_find(str_of(family)),
                      .from_folder = from_folder,
                      .weights = {.layers = layers}};
    struct error err = {0};
    for (int p = 0; p < PART_COUNT; p++)
        layers[0][p] = layers[1][p] = (struct weight *)(void *)weights;
    for (int p = 0; p < PART_FIRST_OF_LAYER; p++)
        m.weights.global[p] = (struct weight *)(void *)weights;
    if (!model_adapter_load(&m, f, 1, &err) && err.msg[0] == 0)
        abort(); /* a failure has to say why */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const families[] = {"llama", "phi3", "internlm2", "gpt-oss"};
    uint8_t tensors[8 + sizeof(header) - 1 + 64] = {(sizeof(header) - 1) & 0xff, (sizeof(header) - 1) >> 8};
    struct error err = {0};
    struct adapter_file *f;
    if (size == 0)
        return 0;
    memcpy(tensors + 8, header, sizeof(header) - 1);
    uint8_t choice = data[0];
    struct str rest = {(const char *)data + 1, size - 1};
    if (choice % 3 == 0)
        f = rest.len ? adapter_file_open_memory(rest, tensors, sizeof(tensors), &err) : NULL;
    else
        f = adapter_file_open_memory(choice % 3 == 1 ? str_of(config) : STR(""), rest.ptr, rest.len, &err);
    if (!f) {
        if (rest.len && err.msg[0] == 0)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        bind(f, families[i], choice & 0x80);
    adapter_file_close(f);
    return 0;
}
