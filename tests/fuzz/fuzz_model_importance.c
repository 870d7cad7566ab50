/* A file of importance: refused with a line, or means that are finite and not negative. */
#include "model/importance.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct importance *m, int layer, int part)
{
    for (size_t k = 1; k <= 64; k++) {
        const float *means = importance_of(m, (enum model_part)part, layer, k);
        for (size_t i = 0; means && i < k; i++) {
            if (!isfinite(means[i]) || means[i] < 0) {
                abort();
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoder_config config = {.n_layers = 3};
    struct error err = {0};
    struct importance *m = importance_parse((struct str){(const char *)data, size}, "file", &config, &err);
    if (!m && err.code == ERR_NONE) {
        abort();
    }
    for (int layer = -1; m && layer < config.n_layers; layer++) {
        for (int part = 0; part < PART_COUNT; part++) {
            check(m, layer, part);
        }
    }
    importance_free(m);
    return 0;
}
