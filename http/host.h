/* Hosts as the Host and Origin fields, request targets and listening addresses name them: "localhost:8000",
 * "192.168.0.7", "[::1]:8000". Any thread; views into the text. */
#ifndef TANDEM_HTTP_HOST_H
#define TANDEM_HTTP_HOST_H

#include "base/str.h"

struct http_host {
    struct str name; /* without brackets, port and a dot at its end */
    int port;        /* -1: none is given */
};

bool http_host_parse(struct str text, struct http_host *out); /* false: there is no name, or a bad port */

/* An IPv4 address in four decimal parts, or an IPv6 address: what no name server can point elsewhere. */
bool http_host_is_address(const struct http_host *h);

/* 127.0.0.0/8, ::1 (also mapped), "localhost" and names that end in ".localhost" (RFC 6761, section 6.3). */
bool http_host_is_loopback(const struct http_host *h);

#endif
