/* The models of a server that loads them on demand: those that the command line names, those of the file of --models,
 * and those of the models folder, each found and with its options. Made at the start, and again on SIGHUP. */
#ifndef TANDEM_CLI_MODELS_LIST_H
#define TANDEM_CLI_MODELS_LIST_H

#include "cli/models_file.h"
#include "gateway/gateway.h"

struct models_list {
    struct served_model_options *items; /* [n]; each owns its arena until the gateway takes it */
    size_t n;
    uint64_t memory; /* what the file says; 0: nothing */
};

/* More than one model, or none, or a file of them: they are loaded on demand. */
bool models_list_wanted(const struct options *o);

/* base outlives the models. In this order: the command line's, the file's and, where no model is named on the command
 * line and the file does not say no, those of the folder that have neither the name nor the file of another. may_bring:
 * a model of the Hub that is not here whole is brought first, which may take hours; else it is NOT_FOUND. Release it in
 * any case. */
NODISCARD bool models_list_make(const struct options *base, bool may_bring, struct models_list *out, struct error *err);
void models_list_release(struct models_list *l); /* the arenas too, unless n is 0 */

/* What the gateway is told of a model with these options; paths are resolved. Views of o's strings. */
struct served_model_options served_options(const struct options *o, const char *path, const char *draft_path);

#endif
