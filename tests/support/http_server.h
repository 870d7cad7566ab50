/* An HTTP server for tests: on a loop in a thread of its own, with a handler for these routes. Failures end the test.
 *
 *     /echo                    the body, at once        /info        method, path and query, at once
 *     /later?ms=N              the query, after N ms    /never       no reply
 *     /big?n=N                 N bytes                  /headers     good and bad reply fields
 *     /nothing                 204                      /huge        a body over the limit
 *     /tag                     what the check left
 *     /stream?n=N&size=S&ms=M  N pieces of S bytes, one in M ms (0: as fast as they are pulled; without: one per wake,
 *                              woken from inside pull); abort=1: ends with ABORT; keepalive=K */
#ifndef TANDEM_TESTS_HTTP_SERVER_H
#define TANDEM_TESTS_HTTP_SERVER_H

#include "http/server.h"
#include "tests/support/http_client.h"

#include <stdatomic.h>

enum command { COMMAND_NONE, COMMAND_STOP_ACCEPTING, COMMAND_CLOSE, COMMAND_RELOAD_TLS };

struct fixture {
    uv_loop_t loop;
    uv_async_t wake;
    uv_thread_t thread;
    uv_sem_t started, done;
    struct http_server *server;
    struct http_server_options options;
    atomic_int command;
    atomic_int gone, ended, pulls, requests, timeouts, connections, refused, tls_failures;
    atomic_llong pulled; /* bytes */
    bool failed;         /* to start */
    bool reloaded;       /* by COMMAND_RELOAD_TLS; else err says why not */
    struct error err;
    int port;
    bool closed;
};

void server_start(struct fixture *f, struct http_server_options options); /* 127.0.0.1 and any port, unless it says */
void server_try_start(struct fixture *f, struct http_server_options options); /* f->failed: then only server_join */
void server_join(struct fixture *f);
void server_stop(struct fixture *f); /* closes the server; aborts when it leaves a handle in the loop */
void server_command(struct fixture *f, enum command what); /* on the loop's thread; updates timeouts and connections */

bool count_reaches(atomic_int *value, int n); /* within 20 seconds */
bool server_connections_become(struct fixture *f, int n);

void client_send_text(struct raw_client *c, const char *text);
bool answer_has(const struct http_answer *a, const char *text); /* its head */

bool server_head_check(struct http_exchange *x, void *arg,
                       struct error *err); /* refuses X-Refuse with 403; tags with the number of fields */
/* The code's name, and " with head". */
void server_error_body(const struct http_request *head, const struct error *err, struct buf *out, void *arg);

#endif
