/* The public HTTP APIs over a gateway: routes, decoders, encoders. Everything on the loop's thread but the decoding and
 * preparing of requests, which the loop's workers do. */
#ifndef TANDEM_API_APP_H
#define TANDEM_API_APP_H

#include "api/access.h"
#include "gateway/gateway.h"
#include "gateway/journal.h"
#include "gateway/otlp.h"
#include "http/server.h"

struct app;

struct app_options {
    struct gateway *gateway;   /* outlives the app */
    const char *const *listen; /* [n_listen] as in http/server.h */
    int n_listen;
    int64_t stream_interval_ms, stream_interval_tokens; /* flush defaults: 0 and 1: at once */
    bool strict_fields;
    bool drop_volatile_lines; /* of system prompts (api/anthropic/anthropic.h) */
    struct http_limits limits;
    int64_t keepalive_ms;  /* between comments of a silent stream */
    const char *version;   /* for /v1/status */
    struct mcp_host *mcp;  /* as gateway_options; NULL: none */
    struct api_keys *keys; /* outlive the app; NULL or without a key: anybody may call */
    struct access_options access;
    bool cache_salt_per_key; /* prefix-cache hits do not cross keys */
    struct otlp *otlp;       /* takes the spans of requests; outlives the app; NULL: none */
    bool log_content;        /* prompts and answers go to the log */
    struct tls_files tls;    /* as in http/server.h */
    struct journal *journal; /* keeps requests that outlive their client; NULL: none; outlives the app */
    /* Files and batches, which need the journal: bytes of one file, of all together; rows of one batch, and of all that
     * run at a time (0: half of the model's sequences). */
    uint64_t max_file, max_files, batch_max_rows;
    size_t batch_max_running;
    /* A model that no list names, for a request that does: added to the gateway's. NULL and *err NONE: it is no name of
     * such a model. NULL: there are none. */
    struct served_model *(*ask_for_model)(void *arg, struct str name, struct error *err);
    void *ask_arg;
    int64_t
        batch_patience_ms; /* as rows_patience_ms of gateway_options, and until one is begun before others that wait */
};
struct app_options app_options_default(void);

NODISCARD struct app *app_create(const struct app_options *options, struct error *err);
int app_port(const struct app *a, int listener); /* the bound TCP port */

/* Takes from *options what may change while it runs, without dropping a connection: `limits`, the comments of silent
 * streams, the stream intervals, `access`. On failure everything stays as it was. */
NODISCARD bool app_reload(struct app *a, const struct app_options *options, struct error *err);
/* Certificate and key from their files again; false: those of before stay in use. Nothing where TLS is off. */
NODISCARD bool app_reload_tls(struct app *a, struct error *err);
void app_count_reload(struct app *a, bool ok); /* for metrics */

void app_stop_accepting(struct app *a);
/* Requests of the journal that had not ended go on, once the models are there. Call it once. */
void app_resume(struct app *a);
/* Ends every connection, after a moment in which they may send what is on its way; on_closed runs from the loop once no
 * worker prepares a request any more; the app is freed before it. */
void app_close(struct app *a, void (*on_closed)(void *arg), void *arg);

/* docs/API.md, from the tables of routes and fields. */
void app_write_docs(struct buf *out);

#endif
