/* Who may call: Host, Origin and API key of every request, looked at in one place before routing and before the body is
 * read. The loop's thread owns it. docs/SECURITY.md has the rules and their reasons; in short, in this order:
 *
 *     Host      without keys, a name that is neither loopback nor an address nor allowed is refused: 403. That is what
 *               a page of another site sends whose name was pointed at this server (DNS rebinding).
 *     Origin    a page of another origin that is not in the list is refused: 403; its preflights too.
 *     key       with keys, every request needs one of them, whatever its path: 401.
 *
 * GET and HEAD of /health and /ready are open to all. A unix socket is exempt from the first rule only. */
#ifndef TANDEM_API_ACCESS_H
#define TANDEM_API_ACCESS_H

#include "gateway/api_keys.h"
#include "http/message.h"

struct access;

struct access_options {
    const char *const *allowed_hosts; /* [n_allowed_hosts] names or patterns ("*.example.com"; "*": any) */
    int n_allowed_hosts;
    const char *const *cors_origins; /* [n_cors_origins] "https://chat.example.com", or "*": any, but only with keys */
    int n_cors_origins;
};

struct access *access_create(const struct api_keys *keys, struct error *err); /* keys: outlive it; NULL: none */
void access_free(struct access *a);

/* Copies. INVALID names the option; everything stays as it was then. */
NODISCARD bool access_configure(struct access *a, const struct access_options *o, struct error *err);

enum access_refusal { ACCESS_OK, ACCESS_NO_KEY, ACCESS_BAD_KEY, ACCESS_BAD_HOST, ACCESS_BAD_ORIGIN, ACCESS_N_REFUSALS };

struct access_verdict {
    enum access_refusal refusal;
    struct error error;       /* when refused */
    uint64_t key;             /* id; 0: there are no keys, or none is needed */
    bool preflight;           /* to be answered with access_preflight_* and nothing else */
    bool varies;              /* the reply says Vary: Origin */
    struct str allow_origin;  /* for Access-Control-Allow-Origin; a view into the head; empty: no such field */
    const char *authenticate; /* for WWW-Authenticate; NULL: no such field */
};

/* is_local: it came through a unix socket. */
void access_check(const struct access *a, const struct http_request *head, bool is_local, struct access_verdict *out);

/* What scripts of an allowed origin may send and read. */
extern const char access_methods[], access_exposed[];
/* Access-Control-Allow-Headers: those that the preflight asks for, since clients send fields of their own
 * ("x-stainless-..."); a constant where it asks for none or too many. */
struct str access_headers(const struct http_request *head);

#endif
