/* The Hub for the commands: a client with this user's settings, and models brought where a command needs one. What is
 * in the cache whole is taken without asking the Hub; `tandem pull` asks for a newer one. One thread. */
#ifndef TANDEM_CLI_MODEL_HUB_H
#define TANDEM_CLI_MODEL_HUB_H

#include "cli/hub_progress.h"
#include "cli/model_path.h"

struct model_hub { /* pinned: the client points into it */
    struct hub_settings settings;
    struct hub_client *client;
    struct hub_progress_view view;
    const struct hub_reference *pulled;  /* while it is */
    const struct model_hub_watch *watch; /* NULL: progress is shown on standard error */
};

struct model_hub_watch { /* of who is no terminal; all called on the thread that brings */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    bool (*stops)(void *arg); /* as in hub/client.h */
    void *arg;
};
/* With settings that were read before, token included. Both outlive it. */
NODISCARD bool model_hub_open_with(struct model_hub *h, const struct hub_settings *settings,
                                   const struct model_hub_watch *watch, struct error *err);

NODISCARD bool model_hub_open(struct model_hub *h, const char *what, struct error *err);
void model_hub_close(struct model_hub *h); /* fine on a zeroed struct */

/* Brings it, or what of it lacks, with progress on standard error. Where GGUF files lie beside a folder and the
 * reference does not say, the heads of the folder tell whether Tandem can serve it. */
NODISCARD bool model_hub_pull(struct model_hub *h, const struct hub_reference *r, struct hub_pulled *out,
                              struct error *err);
/* What the cache has of it: of a folder and a GGUF file the one that model_hub_pull would bring. */
NODISCARD bool model_hub_cached(const char *cache, const struct hub_reference *r, struct hub_cached *out,
                                struct error *err);
/* Its path in the cache; brought first where it is not there whole. */
NODISCARD bool model_hub_path(const struct hub_reference *r, char out[MODEL_PATH_MAX], struct error *err);

/* Takes the token out of the environment, which processes that are started would have too, and which /proc shows. */
void model_hub_forget_token(void);

/* A model of the Hub as far as its heads tell: a file that can be read but for its weights. */
struct model_heads {
    struct arena *arena; /* holds the rest */
    struct hub_listing listing;
    struct hub_choice choice;
    struct model_file *file;
};
/* Those of what model_hub_pull would bring. */
NODISCARD bool model_hub_heads(struct model_hub *h, const struct hub_reference *r, struct model_heads *out,
                               struct error *err);
void model_heads_release(struct model_heads *heads); /* fine on a zeroed struct */

#endif
