/* Shared by the files of api/ only. A call is one HTTP request on its way:
 *
 *   loop    handler: route found, body copied                      call_create
 *   worker  JSON parsed, route->decode                             what the body says
 *   loop    the model looked up
 *   worker  route->work                                            templates, tokens
 *   loop    route->finish                                          reply, or a generation is started
 *
 * When the client leaves in between, the call ends at its next step on the loop. */
#ifndef TANDEM_API_API_INTERNAL_H
#define TANDEM_API_API_INTERNAL_H

#include "api/app.h"
#include "api/fields.h"
#include "api/request_record.h"
#include "http/server.h"

struct app {
    struct app_options options;
    struct gateway *gateway;
    struct loop *loop;
    struct http_server *server;
    struct access *access;
    struct metrics_access_now access_counts;
    uint64_t n_reading; /* calls that will generate, and whose model is not known yet */
    size_t n_calls;     /* not freed yet: a worker may still read one whose client is gone */
    bool server_closed;
    struct kept_set *kept;          /* NULL: no journal */
    struct batch_set *batches;      /* likewise */
    struct loop_timer *close_timer; /* while closing waits for last bytes */
    int64_t close_until_ms;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

struct call;
struct gen_encoder;

struct route {
    const char *method, *path; /* "{model}" matches the rest of the path, "{id}" one segment */
    const char *help;
    const struct field *const *fields; /* [n_fields] tables of its body, for documents */
    int n_fields;
    /* Answers at once, on the loop. rest: what "{id}" matched. Either this or the three below. */
    void (*answer)(struct app *a, struct http_exchange *x, struct str rest);
    bool (*decode)(struct call *c, struct error *err); /* worker; c->body is parsed */
    bool (*work)(struct call *c, struct error *err);   /* worker; c->model is known; NULL: decode's fetch does it all */
    void (*finish)(struct call *c);                    /* loop; NULL: c->reply is the reply */
    const struct gen_encoder *encoder;                 /* of routes that generate */
};
extern const struct route api__routes[];
extern const int api__n_routes;
/* The route of a request's path and method, or else the first of its path; NULL: none has that path. */
const struct route *api__find_route(const struct http_request *head);
bool api__route_is_quiet(const struct route *r); /* asked by machines every few seconds: health, metrics */

struct call {
    struct app *app;
    struct http_exchange *x; /* NULL once the client has left or the reply is given */
    const struct route *route;
    struct arena *arena; /* owns everything here; NULL once a generation has taken it over */
    struct str text;     /* the body, copied */
    struct str rest;     /* what "{id}" or "{model}" matched, likewise */
    int64_t received_us; /* monotonic: when all of it had come */
    struct json *body;   /* parsed; freed with the arena */
    struct gen_request request;
    uint64_t key;         /* id of the API key; 0: there are none */
    bool charged;         /* its prompt's tokens, to that key */
    bool rebuilt;         /* text is what the journal had of it */
    bool in_batch;        /* it is a row of a batch: it has no exchange, and is not kept */
    bool attached;        /* it is kept, and ends when its client leaves */
    uint64_t first_event; /* of a numbered stream: those before it are not sent */
    const void *extra;    /* what a route's decode keeps for its work */
    /* Set by decode: gets what else the request needs, on the loop. True: it goes on later, by api__call_go_on, or
     * ends without it. */
    bool (*fetch)(struct call *c);
    struct served_model *model;     /* held; api__call_set_model */
    struct str adapter_name;        /* of the model's adapters, as api__find_model has found; empty: none */
    struct served_adapter *adapter; /* held; api__call_take_adapter; NULL: none */
    char served_name[ADAPTER_ID_SIZE], adapter_fingerprint[17];
    bool load_only;      /* it asks for nothing but its model to be there, or gone */
    bool has_keep_alive; /* how long the model is to stay after it: served_model_keep_alive */
    int64_t keep_alive_ms;
    char resumed_from[17]; /* fingerprint of another engine that made the first tokens of it; empty: no such thing */
    char fingerprint[17];  /* of an answer of old; empty: the engine's */
    bool reading;          /* counts in n_reading */
    bool streams;          /* its reply has begun as a stream, before its generation */
    bool stream_fails;     /* error ends that */
    uint64_t n_places;     /* taken of the model's admission */
    struct buf ignored;    /* names of unknown fields */
    struct buf widened;    /* what decoding does not enforce of schemas */
    uint64_t n_volatile;   /* lines that were left out of its system prompt */
    struct buf reply;      /* JSON */
    bool ok;               /* of the last worker step */
    struct error error;
    char key_name[64]; /* of the API key that it came with; "": none */
};

/* ---- replies ---- */
void api__reply_error(struct http_exchange *x, const struct error *err);
/* Likewise, with when to try again; -1: never. */
void api__reply_error_after(struct http_exchange *x, const struct error *err, int64_t retry_ms);
void api__reply_json(struct http_exchange *x, struct buf *json); /* 200; releases it; a failed buf is a 500 */
/* OpenAI's shape: {"error": {...}} */
void api__write_error(struct buf *out, const struct error *err);
/* Anthropic's: {"type": "error", "error": {...}, "request_id": ...}; request_id "": unknown. */
void api__write_anthropic_error(struct buf *out, const struct error *err, const char *request_id);
/* Does who sent this speak Anthropic's API? By the path, or by a header that only its clients send. */
bool api__speaks_anthropic(const struct http_request *head);
void api__write_ollama_error(struct buf *out, const struct error *err); /* {"error": "..."} */
/* The error in the shape of the API that was spoken. */
void api__write_error_for(const struct http_request *head, const struct error *err, const char *request_id,
                          struct buf *out);
bool api__speaks_ollama(const struct http_request *head); /* likewise, by the path */
/* "key": milliseconds to the microsecond; null when negative: not known. */
void api__put_ms(struct json_writer *w, const char *key, int64_t us);
void api__error_body(const struct http_request *head, const struct error *err, struct buf *out, void *arg);

/* ---- calls ---- */
/* NULL: no memory. x may be NULL: nobody waits for it. */
struct call *api__call_create(struct app *a, const struct route *route, struct http_exchange *x);
void api__call_decode(struct call *c);                     /* c->text by its route: c->ok, or c->error; any thread */
void api__call_go_on(struct call *c);                      /* its fetch has what it needs, or c->error says why not */
void api__refuse(struct call *c, const struct error *err); /* answers it, where somebody waits, and frees it */
/* What it waited for is done, or err says why not. False: nobody waits, or it is refused; it is freed. */
bool api__call_waited(struct call *c, const struct error *err);
void api__reply_call(struct call *c, int status); /* c->reply, JSON, with the call's headers; frees it */
/* Something is under way that uses the app: it is not freed until the release. */
void api__hold(struct app *a);
void api__release(struct app *a);
void api__call_start(struct app *a, const struct route *route, struct http_exchange *x, struct str rest);

/* ---- its model (call_model.c) ---- */
struct served_model *api__find_model(struct call *c);             /* by its request; NULL: unknown */
void api__call_set_model(struct call *c, struct served_model *m); /* it is there until the call is freed */
/* Once the model is open: the adapter that was found by the name is there until the call is freed. */
NODISCARD bool api__call_take_adapter(struct call *c, struct error *err);
/* Into its request, again where that was decoded since: the adapter, and what it does not say itself. Any thread. */
void api__call_apply_model(struct call *c);
void api__call_leave_model(struct call *c);
const char *api__call_served_name(const struct call *c); /* "base" or "base:adapter"; lives as long as the call */
/* Of its answers as the engine is now, which may be put into out; "": unknown. */
const char *api__call_fingerprint(const struct call *c, char out[17]);
struct listed_name { /* not to be copied */
    const char *text;
    const struct served_adapter *adapter; /* NULL: the model itself */
    char whole[ADAPTER_ID_SIZE];          /* where it is made of two */
};
/* The i-th of what lists show of a model: its names that are no patterns, then its adapters. False: there are fewer. */
bool api__name_at(struct served_model *m, size_t i, struct listed_name *out);
void api__call_free(struct call *c);
void api__call_gone(void *call); /* its client has left: whoever has it frees it at its next step */
/* The reply has begun or is given: adds the call's headers first. */
void api__call_headers(struct call *c);

/* ---- keys (call_key.c) ---- */

/* The check of every request, before its body is read (head_check of http/server.h). */
bool api__check_access(struct http_exchange *x, void *app, struct error *err);
size_t api__max_body(const struct app *a); /* bytes of the largest body; an upload's is another */
/* The answer to a preflight that passed it. False: the request is none. */
bool api__answer_preflight(struct http_exchange *x);
uint64_t api__key_of(const struct http_exchange *x); /* id; 0: without */

/* A call takes its place among those of its key, and later the tokens of its prompt. False: refused, and answered. */
bool api__key_begin(struct app *a, struct http_exchange *x, uint64_t key);
bool api__key_take_tokens(struct call *c);
void api__key_give_back_tokens(struct call *c);
void api__key_end(struct call *c);
void api__key_headers(const struct call *c); /* x-ratelimit-... */

/* ---- models that come and go (model_routes.c) ---- */
extern const struct field api__load_fields[], api__unload_fields[];
bool api__decode_model_command(struct call *c, struct error *err); /* of c->rest */
bool api__work_nothing(struct call *c, struct error *err);
void api__finish_load(struct call *c);
void api__finish_unload(struct call *c);
/* What c->reply says is replied once its model is loaded, or, after a keep-alive of 0, unloaded. */
void api__reply_when_loaded(struct call *c);
/* "loading (42%)", "waits for memory" ... as a comment of an event stream. Nothing where it is ready. */
void api__put_load_comment(struct served_model *m, struct buf *out);
/* state, pinned, keep_alive_ms, idle_ms, waiting: of any model. */
void api__put_residence(struct json_writer *w, struct served_model *m);

/* ---- adapters (adapter_routes.c) ---- */
extern const struct field api__load_adapter_fields[], api__unload_adapter_fields[];
bool api__decode_load_adapter(struct call *c, struct error *err);
bool api__decode_unload_adapter(struct call *c, struct error *err);
void api__finish_load_adapter(struct call *c);
void api__finish_unload_adapter(struct call *c);
void api__put_adapters(struct json_writer *w, const struct served_model *m); /* "adapters": of one that is open */

/* ---- decoding (fields of the OpenAI routes) ---- */
/* Of every generation, whatever its API; those of OpenAI's routes besides. */
extern const struct field api__house_fields[], api__common_fields[], api__chat_fields[], api__completion_fields[],
    api__infill_fields[], api__tokenize_fields[], api__detokenize_fields[], api__template_fields[];
/* How the call's body becomes target: by the tables of its route; what these do not name is noted, or refused. */
struct decoding api__decoding(struct call *c, void *target);
NODISCARD bool api__decode_body(struct call *c, struct decoding *d, const struct json *body, struct error *err);
/* gen_request_init with what the server says where the client does not, the call's time, and a new id. */
void api__init_request(const struct call *c, struct gen_request *r, enum gen_input input, const char *id_prefix);
bool api__decode_chat(struct call *c, struct error *err);
bool api__decode_completion(struct call *c, struct error *err);
bool api__decode_infill(struct call *c, struct error *err);
/* False: it asks to be kept, and nothing keeps requests here. */
bool api__check_kept(const struct call *c, struct error *err);

/* ---- models that are read, made or brought first (opening.c) ---- */
/* fn(c, NULL) when c->model is open, at once or later; else why not. c->x is there; c may come to nothing meanwhile. */
void api__open_model(struct call *c, void (*fn)(void *call, const struct error *err));
/* The error in a stream that has begun so, and c is freed; false: none has. */
bool api__early_error(struct call *c, const struct error *err);

/* ---- generating ---- */
/* The places that the call has taken are given back: its generation counts from now on, or it comes to nothing. */
void api__leave_places(struct call *c);
bool api__prepare(struct call *c, struct error *err);
void api__generate(struct call *c);

/* ---- requests that are kept ---- */
void api__request_get(struct app *a, struct http_exchange *x, struct str rest);
void api__request_list(struct app *a, struct http_exchange *x, struct str rest);
bool api__cancel_kept(struct app *a, struct http_exchange *x, struct str id); /* false: it is no kept one */
void api__request_delete(struct app *a, struct http_exchange *x, struct str rest);

/* ---- routes that answer at once, and the text tools ---- */
/* "tool_format" and "reasoning_format": in which a model's output is looked for them; null: it is not. */
void api__put_formats(struct json_writer *w, struct served_model *m);
void api__health(struct app *a, struct http_exchange *x, struct str rest);
void api__ready(struct app *a, struct http_exchange *x, struct str rest);
void api__models(struct app *a, struct http_exchange *x, struct str rest);
void api__model(struct app *a, struct http_exchange *x, struct str rest);
void api__status(struct app *a, struct http_exchange *x, struct str rest);
void api__metrics(struct app *a, struct http_exchange *x, struct str rest);
void api__cancel(struct app *a, struct http_exchange *x, struct str rest);
void api__clear_cache(struct app *a, struct http_exchange *x, struct str rest);
bool api__decode_tokenize(struct call *c, struct error *err);
bool api__work_tokenize(struct call *c, struct error *err);
bool api__decode_detokenize(struct call *c, struct error *err);
bool api__work_detokenize(struct call *c, struct error *err);
bool api__decode_template(struct call *c, struct error *err);
bool api__work_template(struct call *c, struct error *err);

#endif
