/* Constants of the safetensors container, for its reader and writer:
 *
 *     length of the header as u64, little-endian | header, JSON | data
 *
 *     {"__metadata__": {"format": "pt"}, "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *
 * Offsets count from the beginning of the data. */
#ifndef TANDEM_TENSOR_SAFETENSORS_FORMAT_H
#define TANDEM_TENSOR_SAFETENSORS_FORMAT_H

#include "base/array.h"
#include "tensor/model_file_internal.h"

#define SAFETENSORS_METADATA "__metadata__"

/* The format's name of a type; NULL when it has none. */
const char *safetensors__type_name(enum dtype type);

#endif
