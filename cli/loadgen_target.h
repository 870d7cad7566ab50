/* What `tandem bench-serve` measures: a model of an OpenAI-compatible server, named [LABEL=]URL[#MODEL].
 *
 *     127.0.0.1:8000                                http://, /v1 and the server's first model are filled in
 *     tandem=http://127.0.0.1:8000/v1#smollm2      a label for the report, a model
 *     https://api.example.com/openai/v1/chat/completions    the endpoint itself is fine too
 *
 * An '=' counts as a label's end only before any of : / ? #. Strings live in the arena. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_TARGET_H
#define TANDEM_CLI_LOADGEN_TARGET_H

#include "base/arena.h"
#include "cli/options.h"

#define LOADGEN_LABEL_MAX 40

enum loadgen_api { LOADGEN_CHAT, LOADGEN_COMPLETIONS };

struct loadgen_target {
    const char *label;       /* unique among the targets */
    const char *url;         /* of the endpoint: ".../v1/chat/completions" */
    const char *models_url;  /* ".../v1/models" */
    const char *model;       /* NULL: to be asked for */
    const char *auth;        /* "Bearer ...", or NULL: no key. Never shown. */
    const char *server;      /* what the probe's reply said: Server header, "" without */
    const char *fingerprint; /* system_fingerprint, "" without */
};

NODISCARD bool loadgen_api_parse(const char *name, enum loadgen_api *out, struct error *err);
const char *loadgen_api_name(enum loadgen_api api);

/* All targets of the options, with unique labels and with keys from the environment: of the variables that
 * --api-key-env names, else of TANDEM_BENCH_API_KEY or OPENAI_API_KEY where they are set. *targets: [*n], in the arena.
 * INVALID names the word at fault: no host, a label twice, a key's variable that is not set. */
NODISCARD bool loadgen_targets_parse(const struct options *o, enum loadgen_api api, struct arena *arena,
                                     struct loadgen_target **targets, int *n, struct error *err);

#endif
