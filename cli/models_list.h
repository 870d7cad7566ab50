/* The models of a server that loads them on demand: those that the command line names, those of the file of --models,
 * and those of the models folder, each found and with its options. Made at the start, and again on SIGHUP. */
#ifndef TANDEM_CLI_MODELS_LIST_H
#define TANDEM_CLI_MODELS_LIST_H

#include "cli/models_file.h"
#include "gateway/gateway.h"
#include "hub/settings.h"

struct models_list {
    struct served_model_options *items; /* [n]; each owns its arena until the gateway takes it */
    size_t n;
    uint64_t memory; /* what the file says; 0: nothing */
};

/* More than one model, or none, or a file of them: they are loaded on demand. */
bool models_list_wanted(const struct options *o);

struct models_bring {                    /* what becomes of models of the Hub that are not here whole */
    bool now;                            /* they are brought before anything else, which may take hours */
    const struct hub_settings *settings; /* with the token: they are brought at their first use; NULL: they are not, and
                                            unless now, they are NOT_FOUND. Outlive the models */
};

/* base outlives the models. In this order: the command line's, the file's and, where no model is named on the command
 * line and the file does not say no, those of the folder that have neither the name nor the file of another. Release it
 * in any case. */
NODISCARD bool models_list_make(const struct options *base, const struct models_bring *bring, struct models_list *out,
                                struct error *err);
/* One that a request has named, a repository of the Hub, brought at its first use. Nothing else is looked for: *is_one
 * false, it is no such name. Its arena is to be freed. */
NODISCARD bool models_list_ask(const struct options *base, const struct hub_settings *settings, struct str name,
                               struct served_model_options *out, bool *is_one, struct error *err);
void models_list_release(struct models_list *l); /* the arenas too, unless n is 0 */

/* What the gateway is told of a model with these options; paths are resolved. Views of o's strings. */
struct served_model_options served_options(const struct options *o, const char *path, const char *draft_path);

#endif
