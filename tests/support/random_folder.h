/* The random models of random_model.h as model folders: config.json, model.safetensors, and a tokenizer, with the very
 * values that the GGUF file has. The description has a member more:
 *
 *     "folder": {
 *         "config": {"model_type": "llama", ...},
 *         "tensors": [{"name": "model.layers.0.self_attn.q_proj.weight", "parts": ["blk.0.attn_q.weight"],
 *                      "unpermute": 4}],
 *         "each": [...], "fused": [...], "switch": [...]}
 *
 * A tensor is one of "tensors" of the description, or the rows of several one after the other (in each block, where
 * there are three axes). "expert": only that block of each part, without the outermost axis. "unpermute": in each of so
 * many heads (a number for all parts, or one for each), rows (0, 1), (2, 3) ... become (0, d/2), (1, d/2 + 1) ...
 * "by_kv_head": parts are cut into so many groups of rows, and come group by group. "minus": taken off each value.
 * "one_row": a vector that is a matrix of one row there. "unit_axis": a matrix that has an axis of 1 in its middle
 * there. With "mlx" in the folder, values of the layout "switch" are as mlx-lm has them: nothing is taken off, and the
 * axis of 1 is the last; other layouts have a tensor mtp.norm.weight besides. "layout": the parts' rows are
 * "alternating" in each block, or they are "columns", or "alternating columns";
 * "turned": rows, but of the first part its columns, and all blocks one behind the other. A part may be some of the
 * rows of one: "blk.0.attn_qkv.weight[0:48]". "log": values are the logarithms of what they are below 0. Parts of two
 * axes are blocks of vectors there. "each", "fused" and "switch" are layouts of the tensors of experts: one of them is
 * added, where there are any. */
#ifndef TANDEM_TESTS_SUPPORT_RANDOM_FOLDER_H
#define TANDEM_TESTS_SUPPORT_RANDOM_FOLDER_H

#include "base/buf.h"
#include "tensor/model_folder.h"

struct random_folder_options {
    enum dtype type;    /* F32, F16 or BF16, of all tensors */
    const char *layout; /* of experts; NULL: "each" */
    bool wrapped;       /* as the text model of a multimodal one: config.json's text_config, names with language_model.,
                           a tensor of a vision tower */
    bool mxfp4;         /* experts that lie in columns as X_blocks and X_scales, rows again, as gpt-oss is published */
    const struct model_file *tokenizer_from; /* a folder; NULL: the byte-level tokenizer of random_model.h */
};

struct random_folder;

NODISCARD struct random_folder *random_folder_create(struct str description, const struct random_folder_options *o,
                                                     struct error *err);
void random_folder_free(struct random_folder *f);

/* For model_folder_open_memory; they live as long as f. */
const struct model_folder_file *random_folder_files(const struct random_folder *f, size_t *n);

/* Writes the files into a folder, which is made when it is not there. */
NODISCARD bool random_folder_write(const struct random_folder *f, const char *path, struct error *err);

#endif
