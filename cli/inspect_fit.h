/* What `tandem inspect` says of a model beyond its file: the memory it takes at each precision and context, whether
 * that is there, and how fast it could decode at most. Estimates: weights of b bits are counted with their scales
 * (groups of 64, 32 bits each), and what is no matrix stays as it is; every token reads the weights once and a
 * sequence's K and V. */
#ifndef TANDEM_CLI_INSPECT_FIT_H
#define TANDEM_CLI_INSPECT_FIT_H

#include "base/json.h"
#include "model/model.h"

#define FIT_CONTEXTS   5
#define FIT_PRECISIONS 4

struct fit_options {
    const struct model_file *file;
    const struct decoder_config *config;
    enum kv_type kv_type;
    uint64_t available; /* bytes of memory */
    double bandwidth;   /* bytes a second; 0: not measured */
};

struct fit_row {
    const char *name; /* "as stored", "8 bits" */
    int bits;         /* 0: as stored */
    uint64_t weights;
    double tokens_per_second; /* with a short context; 0: not known */
};

struct fit {
    uint32_t contexts[FIT_CONTEXTS]; /* [n_contexts] */
    uint64_t kv[FIT_CONTEXTS];
    int n_contexts;
    struct fit_row rows[FIT_PRECISIONS]; /* [n_rows] the stored one first, then smaller ones */
    int n_rows;
};

void fit_compute(const struct fit_options *o, struct fit *out);
void fit_text(const struct fit_options *o, const struct fit *f, struct buf *out);
/* "memory": of the file as it is stored; "precisions": of each; "bandwidth". */
void fit_json(const struct fit_options *o, const struct fit *f, struct json_writer *w);

#endif
