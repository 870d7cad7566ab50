/* Adapters of random models, as tests/data/parity/adapter-NAME.json describes them (tools/parity/adapter_vectors.py),
 * in both containers. Failures end the test. */
#ifndef TANDEM_TESTS_SUPPORT_MODEL_ADAPTER_H
#define TANDEM_TESTS_SUPPORT_MODEL_ADAPTER_H

#include "base/buf.h"
#include "model/adapter.h"

struct random_adapter {
    struct buf config; /* adapter_config.json, and */
    struct buf peft;   /* adapter_model.safetensors */
    struct buf gguf;
};

/* seed_more: 0 for the very values of the vectors, others for other adapters. arch: general.architecture. */
void random_adapter_make(struct random_adapter *a, const char *name, int seed_more, const char *arch);
void random_adapter_release(struct random_adapter *a);

/* That of random_adapter_make(name, seed_more) as a GGUF file at path, and its digest. */
struct sha256 random_adapter_write(const char *name, int seed_more, const char *path);

struct adapter_file *random_adapter_open(const struct random_adapter *a, bool gguf);

#endif
