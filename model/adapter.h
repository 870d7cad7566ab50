/* Low-rank adapters of a decoder ("LoRA"): read from a folder as PEFT writes it (adapter_config.json,
 * adapter_model.safetensors) or from a GGUF file as llama.cpp's convert_lora_to_gguf.py does, and bound to the weights
 * of a model under a number, which a batch's sequences then name (struct batch_seq). Container of adapter and model are
 * independent: names go through the tables of the model's family, and rows of Q and K are put in the model's order.
 * The tensors of a file are kept as they are; the backend has copies of its own.
 *
 *     struct adapter_file *file = adapter_file_open("my-adapter", err);
 *     if (!file || !model_adapter_load(model, file, 3, err)) ...
 *     adapter_file_close(file);
 *     seq.adapter = 3;  ...  model_adapter_drop(model, 3);
 *
 * What PEFT can say and is not done here is refused by name: other methods than LoRA, DoRA, biases, modules_to_save,
 * trained embeddings and tokens, adapters that begin with a token (aLoRA), replicated layers, weights that have to be
 * initialized from the base model's (PiSSA, OLoRA, CorDA, LoftQ), parameters of experts, and what adapter_config.c's
 * table names besides. So is a field that is not in that table, unless it is null, false or empty: what PEFT comes to
 * say later, or others add, may change what the tensors mean. */
#ifndef TANDEM_MODEL_ADAPTER_H
#define TANDEM_MODEL_ADAPTER_H

#include "base/hash.h"
#include "model/model.h"

#define ADAPTER_MAX_ALPHA 1e6 /* lora_alpha, adapter.lora.alpha; either sign */

struct adapter_file;

struct adapter_facts {
    bool gguf;            /* else PEFT's */
    int rank;             /* the largest of its parts */
    double alpha;         /* as the file says; parts may have another one (alpha_pattern) */
    bool rslora;          /* scales are alpha / sqrt(rank) instead of alpha / rank */
    size_t n_parts;       /* weights that it changes, as the file counts them */
    size_t memory_size;   /* bytes that a backend keeps of it, about */
    struct sha256 digest; /* of its parts: names, shapes, scales and all values */
};

/* A folder, or a .gguf file. The whole file is checked but for the values of tensors. NOT_FOUND, FORMAT and UNSUPPORTED
 * name the field or the tensor. Any thread. */
NODISCARD struct adapter_file *adapter_file_open(const char *path, struct error *err);

/* The same over memory: config is the text of adapter_config.json and data a safetensors file; or config is empty and
 * data a GGUF file. data has to live as long as the result. */
NODISCARD struct adapter_file *adapter_file_open_memory(struct str config, const void *data, size_t size,
                                                        struct error *err);
void adapter_file_close(struct adapter_file *f); /* NULL is fine */

/* Calls each(arg, path) with every file that adapter_file_open(path) opens, whether it is there or not; see
 * model_paths_each (tensor/model_paths.h). */
void adapter_paths_each(const char *path, void (*each)(void *arg, const char *path), void *arg);
const struct adapter_facts *adapter_file_facts(const struct adapter_file *f);

/* Binds the adapter to the model's weights as number 1 to BACKEND_MAX_ADAPTERS, instead of what had that number: all of
 * its parts, or none, and then the number has none. Between steps, by the engine's thread. FORMAT names a tensor that
 * has no place in the model, is of another shape, or holds what is no number; UNSUPPORTED one of a part that takes no
 * adapter (embeddings, experts, latent K and V by heads). The file may be closed afterwards. */
NODISCARD bool model_adapter_load(struct model *m, const struct adapter_file *f, int number, struct error *err);
void model_adapter_drop(struct model *m, int number); /* also of a number that has none */

#endif
