/* Ollama's API, for clients that speak nothing else: shared by the ollama_*.c only.
 *
 *     ollama_decode.c   bodies of /api/chat and /api/generate, their messages as chat completions have them
 *     ollama_encode.c   events to lines of JSON, or to one object
 *     ollama_info.c     /api/tags, /api/show, /api/ps, /api/version
 *
 * Streams are lines of JSON and the default; errors are {"error": "..."}. A name may have ":latest" behind it. */
#ifndef TANDEM_API_OLLAMA_H
#define TANDEM_API_OLLAMA_H

#include "api/generate.h"

struct ollama_request {         /* lies in the request's arena */
    struct gen_request request; /* first: the fields of the house write into it; the call has a copy */
    const struct json *messages;
    struct str prompt, suffix, system;
    bool raw, load_only;
    bool needs_thinking; /* think: true */
    int64_t num_ctx, num_predict;
    int64_t repeat_last_n; /* -1: all, which is what there is */
    bool has_keep_alive;
    int64_t keep_alive_ms; /* -1: for ever */
};

extern const struct field api__ollama_chat_fields[], api__ollama_generate_fields[], api__ollama_show_fields[];
bool api__decode_ollama_chat(struct call *c, struct error *err);
bool api__decode_ollama_generate(struct call *c, struct error *err);
bool api__work_ollama(struct call *c, struct error *err);
bool api__decode_ollama_show(struct call *c, struct error *err);
bool api__work_ollama_show(struct call *c, struct error *err);

extern const struct gen_encoder api__ollama_chat_encoder, api__ollama_generate_encoder;
/* The object of a request that only loads its model, or unloads it. */
void ollama_put_loaded(struct buf *out, const struct call *c);
void ollama_put_time(struct json_writer *w, const char *key, int64_t wall_ns); /* RFC 3339 */

void api__ollama_tags(struct app *a, struct http_exchange *x, struct str rest);
void api__ollama_ps(struct app *a, struct http_exchange *x, struct str rest);
void api__ollama_version(struct app *a, struct http_exchange *x, struct str rest);

#endif
