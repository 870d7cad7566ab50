/* From what the user names to a model, which is a .gguf file or a folder with a config.json: the one way, for every
 * command and option that takes a model. In this order:
 *
 *     a path that exists            as it is
 *     an alias of the registry      what it leads to (hub/registry.h)
 *     owner/name[@revision][:...]   from the cache of the Hugging Face Hub, and brought there first where it is not
 * there whole, with progress on standard error (hub/reference.h) a name such as smollm2:135m   a file or folder in the
 * models folder ($TANDEM_MODELS, or "models" in the cache folder) */
#ifndef TANDEM_CLI_MODEL_PATH_H
#define TANDEM_CLI_MODEL_PATH_H

#include "hub/reference.h"

#include <stddef.h>

#define MODEL_PATH_MAX 4096

bool models_folder(char *out, size_t size); /* false when there is no home */

/* A name matches the models that begin with it, ':' read as '-': "smollm2:135m" finds smollm2-135m-instruct-q4_1.gguf.
 * The only match is taken, or among several the one whose whole name was given (".gguf" may be left out); else several
 * are an error that names the first two. A path, which is anything with a '/', is never looked up. */
NODISCARD bool model_path_resolve(const char *model, char out[MODEL_PATH_MAX], struct error *err);

/* The same without bringing anything: *is_remote says that it is a repository that is not here whole, in *reference;
 * then *out is empty. */
NODISCARD bool model_path_find(const char *model, char out[MODEL_PATH_MAX], struct hub_reference *reference,
                               bool *is_remote, struct error *err);
/* The same for who must not wait: what would have to be brought first is NOT_FOUND, and the error says how to bring it.
 */
NODISCARD bool model_path_here(const char *model, char out[MODEL_PATH_MAX], struct error *err);
/* Whether the text is a better name for the model than its path: an alias, or a repository. */
bool model_path_is_name(const char *model);

/* Calls each(arg, path, file name) for every model in the models folder (of split files the first), sorted. */
NODISCARD bool models_each(void (*each)(void *arg, const char *path, const char *file), void *arg, struct error *err);

#endif
