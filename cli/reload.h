/* What SIGHUP does to a server: API keys, certificates, the list of models, and the options that can change
 * (options_reload) are read again, without dropping a connection. Each part by itself: where a file is bad, what was
 * stays, and the log says so.
 */
#ifndef TANDEM_CLI_RELOAD_H
#define TANDEM_CLI_RELOAD_H

#include "api/app.h"
#include "cli/options.h"
#include "hub/settings.h"

struct reload {
    struct app *app;
    struct api_keys *keys;
    struct options options; /* as they are now */
    struct arena *arena;    /* of their strings; NULL: those of the start */
    struct gateway *gateway;
    const struct hub_settings *hub; /* of models that are brought when they are used; NULL: none are */
    const struct options *models;   /* those of the start, of which the list of models is made again; NULL: there is one
                                     model, which stays */
};

bool reload_all(struct reload *r); /* false: a part was not */
void reload_release(struct reload *r);

/* The part of the options that an app takes; listen is the caller's. */
void reload_app_options(const struct options *o, struct app_options *out);

#endif
