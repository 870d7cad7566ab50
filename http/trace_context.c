#include "http/trace_context.h"

#include <string.h>

#define KEY_MAX      256
#define VALUE_MAX    256
#define LARGE_MEMBER 128 /* bytes; members that are larger go first when not all fit */

/* ---- hex ---- */

void hex_write(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

static int lower_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_read(const char *text, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = lower_hex(text[2 * i]), low = lower_hex(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* ---- traceparent ---- */

/* 0         3                                36               53
 * 00      - 0af7651916cd43dd8448eb211c80319c - b7ad6b7169203331 - 01 */
bool traceparent_parse(struct str value, struct trace_context *out)
{
    struct trace_context c;
    uint8_t version, flags;
    if (value.len < TRACEPARENT_LEN || value.ptr[2] != '-' || value.ptr[35] != '-' || value.ptr[52] != '-' ||
        !hex_read(value.ptr, &version, 1) || !hex_read(value.ptr + 3, c.trace_id, TRACE_ID_SIZE) ||
        !hex_read(value.ptr + 36, c.span_id, SPAN_ID_SIZE) || !hex_read(value.ptr + 53, &flags, 1)) {
        return false;
    }
    bool longer = value.len > TRACEPARENT_LEN;
    if (version == 0xff || (longer && (version == 0 || value.ptr[TRACEPARENT_LEN] != '-')) ||
        all_zero(c.trace_id, TRACE_ID_SIZE) || all_zero(c.span_id, SPAN_ID_SIZE)) {
        return false;
    }
    c.sampled = flags & 1;
    *out = c;
    return true;
}

void traceparent_write(const struct trace_context *c, char out[TRACEPARENT_LEN + 1])
{
    memcpy(out, "00-", 3);
    hex_write(c->trace_id, TRACE_ID_SIZE, out + 3);
    out[35] = '-';
    hex_write(c->span_id, SPAN_ID_SIZE, out + 36);
    memcpy(out + 52, c->sampled ? "-01" : "-00", 4);
}

/* ---- tracestate ---- */

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_key(struct str key)
{
    if (key.len == 0 || key.len > KEY_MAX || !is_lower_or_digit(key.ptr[0])) {
        return false;
    }
    for (size_t i = 0; i < key.len; i++) {
        if (!is_lower_or_digit(key.ptr[i]) && (key.ptr[i] == '\0' || !strchr("_-*/@", key.ptr[i]))) {
            return false;
        }
    }
    return true;
}

static bool is_value(struct str value)
{
    if (value.len == 0 || value.len > VALUE_MAX) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < 0x20 || value.ptr[i] > 0x7e || value.ptr[i] == '=') { /* a comma ends the member */
            return false;
        }
    }
    return value.ptr[value.len - 1] != ' ';
}

static struct str key_of(struct str member)
{
    return str_slice(member, 0, str_find_char(member, '='));
}

struct members {
    struct str items[TRACESTATE_MEMBERS];
    size_t n, size; /* size: of all with the commas between them */
};

static bool add_member(struct members *m, struct str member)
{
    size_t equals = str_find_char(member, '=');
    if (equals == STR_NPOS || m->n == TRACESTATE_MEMBERS || !is_key(str_slice(member, 0, equals)) ||
        !is_value(str_slice(member, equals + 1, member.len))) {
        return false;
    }
    for (size_t i = 0; i < m->n; i++) {
        if (str_eq(key_of(m->items[i]), key_of(member))) {
            return false;
        }
    }
    m->items[m->n++] = member;
    m->size += member.len + (m->n > 1);
    return true;
}

static void drop_member(struct members *m, size_t at)
{
    m->size -= m->items[at].len + (m->n > 1);
    memmove(&m->items[at], &m->items[at + 1], (m->n - at - 1) * sizeof m->items[0]);
    m->n--;
}

static void shorten(struct members *m)
{
    for (size_t i = m->n; i-- > 0 && m->size > TRACESTATE_MAX;) {
        if (m->items[i].len > LARGE_MEMBER) {
            drop_member(m, i);
        }
    }
    while (m->size > TRACESTATE_MAX) {
        drop_member(m, m->n - 1);
    }
}

bool tracestate_parse(struct str value, struct buf *out)
{
    struct members m = {.n = 0};
    struct str part;
    while (str_split(&value, ',', &part)) {
        struct str member = str_trim(part);
        if (member.len && !add_member(&m, member)) {
            return false;
        }
    }
    shorten(&m);
    for (size_t i = 0; i < m.n; i++) {
        buf_puts(out, i ? "," : "");
        buf_append(out, m.items[i]);
    }
    return m.n > 0;
}

/* ---- a request's ---- */

struct str http_header_only(const struct http_request *r, const char *name)
{
    struct str found = {0};
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        if (str_eq_nocase(r->headers[i].name, str_of(name))) {
            found = r->headers[i].value;
            n++;
        }
    }
    return n == 1 ? found : (struct str){0};
}

bool trace_context_of(const struct http_request *r, struct trace_context *out, struct buf *state)
{
    struct buf joined;
    if (!traceparent_parse(http_header_only(r, "traceparent"), out)) {
        return false;
    }
    buf_init(&joined, LIMIT_HTTP_HEADERS);
    for (size_t i = 0; i < r->n_headers; i++) {
        if (str_eq_nocase(r->headers[i].name, STR("tracestate"))) {
            buf_puts(&joined, joined.len ? "," : "");
            buf_append(&joined, r->headers[i].value);
        }
    }
    if (!joined.failed && !tracestate_parse(buf_view(&joined), state)) {
        buf_truncate(state, 0); /* an invalid one does not make the traceparent invalid */
    }
    buf_release(&joined);
    return true;
}

/* ---- X-Request-Id ---- */

static bool is_id_char(char c)
{
    return (c >= 'A' && c <= 'Z') || is_lower_or_digit(c) || (c != '\0' && strchr("-_.:+=@~", c));
}

bool request_id_valid(struct str id)
{
    if (id.len == 0 || id.len > REQUEST_ID_MAX ||
        (!is_lower_or_digit(id.ptr[0]) && !(id.ptr[0] >= 'A' && id.ptr[0] <= 'Z'))) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        if (!is_id_char(id.ptr[i])) {
            return false;
        }
    }
    return true;
}
