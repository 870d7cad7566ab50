/* Which files a model is made of, before any of them is opened: for a process that gives up everything else. */
#ifndef TANDEM_TENSOR_MODEL_PATHS_H
#define TANDEM_TENSOR_MODEL_PATHS_H

#include "base/str.h"

/* Calls each(arg, path) with what model_file_open(path) may open: the file, or all shards by their names; or the
 * folder, and behind it the files that links in it lead to (as in the cache of Hugging Face's hub, where a snapshot is
 * a folder of links). Paths that are not there are named all the same. Nothing is read but names. The string lives
 * during the call. */
void model_paths_each(const char *path, void (*each)(void *arg, const char *path), void *arg);

/* What a model is called after its path: the name of the file or folder, without ".gguf". A view of path. */
struct str model_path_stem(struct str path);

#endif
