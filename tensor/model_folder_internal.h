/* Shared by model_folder.c (files and shards), model_folder_source.c (where files come from), model_folder_meta.c
 * (metadata from JSON), model_folder_group.c and model_folder_packed.c (grouped tensors). */
#ifndef TANDEM_TENSOR_MODEL_FOLDER_INTERNAL_H
#define TANDEM_TENSOR_MODEL_FOLDER_INTERNAL_H

#include "base/json.h"
#include "tensor/model_file_internal.h"
#include "tensor/model_folder.h"

#define FOLDER_CONFIG           "config.json"
#define FOLDER_GENERATION       "generation_config.json"
#define FOLDER_TOKENIZER_CONFIG "tokenizer_config.json"
#define FOLDER_TEMPLATE         "chat_template.jinja"
#define FOLDER_TEMPLATE_JSON    "chat_template.json"
#define FOLDER_TEMPLATES        "additional_chat_templates" /* a folder of NAME.jinja */
#define FOLDER_INDEX            "model.safetensors.index.json"
#define FOLDER_WEIGHTS          "model.safetensors"

/* ---- files by name, on disk or in memory ---- */

struct folder_source {
    const char *path;                      /* NULL: in memory */
    const struct model_folder_file *files; /* [n_files] in memory */
    size_t n_files;
};

struct folder_names {  /* in the arena */
    struct str *items; /* sorted; NUL-terminated */
    size_t n;
};

bool folder__has(const struct folder_source *source, const char *name);

/* *map is zero for a file in memory. TOO_LARGE beyond max_size. */
NODISCARD bool folder__open(const struct folder_source *source, const char *name, size_t max_size,
                            struct mapped_file *map, struct str *content, struct error *err);

/* Names in a folder inside ("" for the model's own) that end in suffix; hidden ones are left out. TOO_LARGE beyond max.
 */
NODISCARD bool folder__list(const struct folder_source *source, const char *inside, const char *suffix, size_t max,
                            struct arena *arena, struct folder_names *out, struct error *err);

/* ---- one folder while it is opened ---- */

struct folder {
    struct folder_source source;
    struct model_file *f;
    struct json *config, *generation, *tokenizer, *template_json; /* parsed documents; NULL when absent */
};

/* Parses a file of a folder; FORMAT names it. */
NODISCARD struct json *folder__parse(struct str text, const char *name, struct error *err);

/* Metadata of f from the parsed documents and templates. */
NODISCARD bool folder__flatten(const struct folder *folder, struct error *err);

/* Makes one tensor of every .weight with its .scales and .biases in f->tensors. */
NODISCARD bool folder__group(const struct folder *folder, struct error *err);

/* ---- what other programs pack (model_folder_packed.c) ---- */

bool folder__packs(struct str quant_method); /* whether it is one whose modules are read */

/* The tensors of f, those of packed modules made one. quantization: whose quant_method folder__packs. list: room for as
 * many as f has. Errors name the field of config.json, or the tensor. */
NODISCARD bool folder__pack(struct model_file *f, const struct json *quantization, struct tensor_view *list, size_t *n,
                            struct error *err);

#endif
