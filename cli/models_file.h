/* The file of --models: which models `tandem serve` has, each with options of its own.
 *
 *     {"memory": "20GiB", "keep_alive": "5m", "folder": true,
 *      "models": [{"name": "small", "model": "smollm2:135m", "names": ["gpt-*"], "pin": true, "preload": true,
 *                  "keep_alive": "10m", "options": {"max-context": 4096}}]}
 *
 * Reads the text and nothing else: no model is looked for (cli/models_list.h does that). Errors name the line and the
 * path of the field. Any thread. */
#ifndef TANDEM_CLI_MODELS_FILE_H
#define TANDEM_CLI_MODELS_FILE_H

#include "cli/options.h"

#define MODELS_FILE_MAX  256 /* models; gateway/gateway_internal.h has room for as many */
#define MODELS_NAMES_MAX 31  /* of one model */

struct models_entry {
    const char *name, *model;   /* name: as given, or the text of model */
    struct option_list aliases; /* "names" */
    bool pinned, preload, has_keep_alive;
    int64_t keep_alive_ms;  /* -1: for ever */
    struct options options; /* base with those of the entry over it */
    uint64_t version;       /* of all its text */
};

struct models_file {
    uint64_t memory; /* bytes; 0: not said */
    bool folder;     /* the models of the models folder, too */
    bool has_keep_alive;
    int64_t keep_alive_ms;
    struct models_entry *entries; /* [n]; in the arena */
    size_t n;
};

/* base: the options of models that say nothing; its strings and the arena outlive *out. */
NODISCARD bool models_file_parse(struct str text, const struct options *base, struct arena *arena,
                                 struct models_file *out, struct error *err);

#endif
