/* Writing a model anew as commands and the loading of models do it: a GGUF file, or a folder with everything that
 * belongs to it. */
#ifndef TANDEM_CLI_REWRITE_H
#define TANDEM_CLI_REWRITE_H

#include "model/export.h"

struct rewrite_options {
    enum export_container container;
    struct precision precision;
    const struct importance *importance;          /* NULL: none */
    int n_threads;                                /* 0: as many as may be used */
    bool (*progress)(void *arg, double fraction); /* as that of model/export.h */
    void *arg;
};

/* out appears when it is complete; a folder must not be there yet. */
NODISCARD bool rewrite_model(const struct model_file *file, const char *out, const struct rewrite_options *o,
                             struct error *err);

#endif
