/* Shared by fetch.c and fetch_explain.c: what a reply that is no success means to a user. */
#ifndef TANDEM_HUB_FETCH_INTERNAL_H
#define TANDEM_HUB_FETCH_INTERNAL_H

#include "hub/fetch.h"

struct fetch_refusal {
    const struct http_reply *reply; /* of 300 and above */
    const struct hub_settings *settings;
    const char *what;
    bool at_hub; /* not from a storage host */
};

/* A sentence that says what to do. UNAVAILABLE and RATE_LIMITED may be tried again. */
void fetch__explain(const struct fetch_refusal *r, struct error *err);

#endif
