/* Folders as AutoAWQ, AutoGPTQ and compressed-tensors write them, made of a folder in f32: every matrix of a layer's
 * "_proj" or experts is quantized by rounding to the nearest of each group, and packed; and the same values in other
 * forms, to compare with. */
#ifndef TANDEM_TESTS_SUPPORT_MODEL_PACKED_H
#define TANDEM_TESTS_SUPPORT_MODEL_PACKED_H

#include "base/buf.h"
#include "tensor/group_packed.h"
#include "tensor/model_folder.h"

enum packed_form {
    PACKED_FORM_PACKED, /* as the program writes it */
    PACKED_FORM_DENSE,  /* the values in f32 */
    PACKED_FORM_MLX     /* the codes as MLX has them, scales and biases in f32; not of shuffled columns */
};

struct packed_folder_options {
    enum packed_order order;
    int bits, group_size; /* -1: whole rows */
    bool shuffled;        /* columns belong to groups in no order: g_idx */
    bool symmetric;       /* of PACKED_ROWS: no zeros */
    bool v2;              /* of PACKED_GPTQ: gptq_v2 */
    enum packed_form form;
};

struct packed_folder {
    struct buf config, shard;
    struct model_folder_file files[16];
    size_t n_files;
};

/* floats: files of a folder in memory with one model.safetensors in f32. Failures end the test. */
void packed_folder_make(struct packed_folder *f, const struct model_folder_file *floats, size_t n,
                        const struct packed_folder_options *o);
void packed_folder_release(struct packed_folder *f);

#endif
