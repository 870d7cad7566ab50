/* Folders as containers of a model, for model_file_open, and for tests and fuzzing that want one without a disk. What
 * such a model shows is said in tensor/model_file.h.
 *
 * Files read, when they are there (config.json has to be):
 *     config.json, generation_config.json, tokenizer_config.json     metadata, by path
 *     chat_template.jinja, additional_chat_templates/NAME.jinja      templates; else chat_template.json; else
 *                                                                    tokenizer_config.json's chat_template
 *     tokenizer.json, special_tokens_map.json, added_tokens.json     documents only
 *     model.safetensors; else the shards of model.safetensors.index.json; else the only *.safetensors */
#ifndef TANDEM_TENSOR_MODEL_FOLDER_H
#define TANDEM_TENSOR_MODEL_FOLDER_H

#include "tensor/model_file.h"

/* path is a folder. Errors as of model_file_open. */
NODISCARD struct model_file *model_folder_open(const char *path, struct error *err);

/* One safetensors file as a model without metadata and documents, its tensors as they are: an adapter's. */
NODISCARD struct model_file *safetensors_open(const char *path, struct error *err);
/* The same over memory: data must live as long as the result. */
NODISCARD struct model_file *safetensors_open_memory(const void *data, size_t size, struct error *err);

struct model_folder_file {
    const char *name; /* relative: "config.json", "additional_chat_templates/tool_use.jinja" */
    struct str content;
};

/* The same over memory: names and contents must live as long as the result. */
NODISCARD struct model_file *model_folder_open_memory(const struct model_folder_file *files, size_t n,
                                                      struct error *err);

#endif
