/* What client.c (the loop's side) and client_call.c (one call: its options, its reply, its failures) share. */
#ifndef TANDEM_HTTP_CLIENT_INTERNAL_H
#define TANDEM_HTTP_CLIENT_INTERNAL_H

#include "base/arena.h"
#include "http/client.h"

#include <curl/curl.h>

struct http_client {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer;        /* the only one: libcurl keeps its own list of what is due */
    struct http_call *calls; /* all that have not ended */
    char *user_agent, *ca_file;
    int64_t now_ns;         /* when the socket or timer that libcurl is looking at woke us */
    bool in_curl, in_drive; /* in_drive: also where on_done is called */
    bool unsettled;         /* some call is pending */
};

enum call_pending { CALL_RUNS, CALL_TO_START, CALL_TO_CANCEL };

struct http_call {
    struct http_client *client;
    struct http_call *prev, *next;
    CURL *easy;
    struct curl_slist *sent_headers;
    enum call_pending pending;
    struct http_call_events events;
    struct http_reply reply;

    struct arena *head;          /* names and values of the header fields; NULL: none yet */
    struct http_header *headers; /* [reply.n_headers] */
    size_t headers_cap;
    bool head_complete; /* the final one: what comes behind the body are trailers, and left out */
    bool follows;       /* redirects */
    struct buf body;    /* when there is no on_data */
    uint64_t body_size, max_reply;

    struct error failure; /* found in a callback of libcurl, which then only knows that it was told to stop */
    char where[128];      /* "host:port" */
    char curl_message[CURL_ERROR_SIZE];
};

/* Everything set up, nothing started. */
struct http_call *client__call_create(struct http_client *c, const struct http_call_options *options,
                                      struct error *err);
void client__call_free(struct http_call *call); /* not in libcurl's hands any more */

/* Makes the reply ready for on_done; true: the call has failed, *err says how. */
bool client__call_result(struct http_call *call, CURLcode result, struct error *err);

#endif
