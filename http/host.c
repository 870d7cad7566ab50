#include "http/host.h"

#include <arpa/inet.h>
#include <stdio.h>

#define MAX_PORT 65535

union address {
    struct in_addr v4;
    struct in6_addr v6;
    uint8_t bytes[16];
};

/* AF_INET, AF_INET6, or 0: a name. */
static int family_of(const struct http_host *h, union address *out)
{
    char text[INET6_ADDRSTRLEN + 1];
    if (h->name.len >= sizeof text) {
        return 0;
    }
    snprintf(text, sizeof text, STR_FMT, STR_ARG(h->name));
    if (inet_pton(AF_INET, text, &out->v4) == 1) {
        return AF_INET;
    }
    return inet_pton(AF_INET6, text, &out->v6) == 1 ? AF_INET6 : 0;
}

static bool parse_port(struct str text, int *out)
{
    uint64_t port;
    if (text.len == 0) { /* "host:" is "host" (RFC 3986, section 3.2.3) */
        *out = -1;
        return true;
    }
    if (!str_to_u64(text, &port) || port > MAX_PORT) {
        return false;
    }
    *out = (int)port;
    return true;
}

bool http_host_parse(struct str text, struct http_host *out)
{
    bool bracket = text.len && text.ptr[0] == '[';
    size_t end = str_find_char(text, bracket ? ']' : ':');
    if (bracket && end == STR_NPOS) {
        return false;
    }
    struct str name = str_slice(text, bracket, end), rest = str_slice(text, end == STR_NPOS ? text.len : end, text.len);
    rest = str_slice(rest, bracket, rest.len);
    if (!bracket && name.len && name.ptr[name.len - 1] == '.') {
        name.len--;
    }
    if (name.len == 0 || (rest.len && rest.ptr[0] != ':')) {
        return false;
    }
    out->name = name;
    return parse_port(str_slice(rest, 1, rest.len), &out->port);
}

bool http_host_is_address(const struct http_host *h)
{
    union address a;
    return family_of(h, &a) != 0;
}

bool http_host_is_loopback(const struct http_host *h)
{
    static const uint8_t one[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, 0xff};
    static const struct str local = {"localhost", 9}, below = {".localhost", 10};
    union address a;
    switch (family_of(h, &a)) {
    case AF_INET:
        return a.bytes[0] == 127;
    case AF_INET6:
        return memcmp(a.bytes, one, 16) == 0 || (memcmp(a.bytes, mapped, 12) == 0 && a.bytes[12] == 127);
    default:
        return str_eq_nocase(h->name, local) ||
               (h->name.len > below.len &&
                str_eq_nocase(str_slice(h->name, h->name.len - below.len, h->name.len), below));
    }
}
