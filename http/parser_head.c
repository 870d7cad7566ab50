/* What the lines of a head say (RFC 9112, sections 3, 5, 6 and 9; RFC 9110, sections 7.2, 8.6 and 10.1.1). */
#include "http/parser_internal.h"
#include "http/percent.h"

/* ---- request line ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool parse_version(struct http_request *r, struct str s, struct error *err)
{
    if (s.len != 8 || !str_starts(s, STR("HTTP/")) || !is_digit(s.ptr[5]) || s.ptr[6] != '.' || !is_digit(s.ptr[7])) {
        return error_set(err, ERR_INVALID, "The request line must end with 'HTTP/1.1' or 'HTTP/1.0'.");
    }
    if (s.ptr[5] != '1' || s.ptr[7] > '1') { /* no later minor has ever been: what claims one is no ordinary client */
        return error_set(err, ERR_HTTP_VERSION, "HTTP/%c.%c is not supported; use HTTP/1.1.", s.ptr[5], s.ptr[7]);
    }
    r->minor_version = s.ptr[7] - '0';
    return true;
}

bool parser__request_line(struct http_parser *p, struct error *err)
{
    struct http_request *r = &p->request;
    struct str rest = str_slice(buf_view(&p->text), 0, p->request_line_len), version, extra;
    if (!str_split(&rest, ' ', &r->method) || !str_split(&rest, ' ', &r->target) || !str_split(&rest, ' ', &version) ||
        str_split(&rest, ' ', &extra)) {
        return error_set(err, ERR_INVALID,
                         "A request line must be a method, a target and a version with one blank between each.");
    }
    if (!is_token(r->method)) {
        return error_set(err, ERR_INVALID, "The method must be a word of letters, digits and !#$%%&'*+-.^_`|~.");
    }
    r->is_head = str_eq(r->method, STR("HEAD"));
    return parse_version(r, version, err) && parser__target(r, &p->path, err);
}

/* ---- fields ---- */

static struct str trim_blanks(struct str s) /* space and tab only: nothing else is optional whitespace */
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = str_slice(s, 1, s.len);
    }
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static bool check_value(struct str value, struct str name, const char *what, struct error *err)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return error_set(err, ERR_INVALID, "The %s '%.*s' must hold no control characters; the byte 0x%02x came.",
                             what, (int)(name.len < 64 ? name.len : 64), name.ptr, c);
        }
    }
    return true;
}

bool parser__field(struct str line, const char *what, size_t index, struct http_header *out, struct error *err)
{
    size_t colon = str_find_char(line, ':');
    if (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
        return error_set(err, ERR_INVALID, "The %s %zu begins with a blank; folded lines are not supported.", what,
                         index);
    }
    if (colon == STR_NPOS) {
        return error_set(err, ERR_INVALID, "The %s %zu has no colon.", what, index);
    }
    struct str name = str_slice(line, 0, colon);
    if (name.len && (name.ptr[name.len - 1] == ' ' || name.ptr[name.len - 1] == '\t')) {
        return error_set(err, ERR_INVALID, "The %s %zu has a blank before its colon.", what, index);
    }
    if (!is_token(name)) {
        return error_set(err, ERR_INVALID,
                         "The name of the %s %zu must consist of letters, digits and !#$%%&'*+-.^_`|~.", what, index);
    }
    *out = (struct http_header){name, trim_blanks(str_slice(line, colon + 1, line.len))};
    return check_value(out->value, name, what, err);
}

/* ---- meaning ---- */

struct member_walk { /* the members of a list that may be spread over several fields of one name */
    const struct http_request *request;
    const char *name;
    size_t next_field;
    struct str rest; /* of the current field; {NULL, 0} between fields */
};

static bool next_member(struct member_walk *w, struct str *member)
{
    while (!str_split(&w->rest, ',', member)) {
        const struct http_request *r = w->request;
        while (w->next_field < r->n_headers && !str_eq_nocase(r->headers[w->next_field].name, str_of(w->name))) {
            w->next_field++;
        }
        if (w->next_field == r->n_headers) {
            return false;
        }
        w->rest = r->headers[w->next_field++].value;
    }
    *member = trim_blanks(*member);
    return true;
}

static size_t count_fields(const struct http_request *r, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        n += str_eq_nocase(r->headers[i].name, str_of(name));
    }
    return n;
}

static bool check_host(const struct http_request *r, struct error *err)
{
    size_t n = count_fields(r, "host");
    if (n > 1 || (n == 0 && r->minor_version > 0)) {
        return error_set(err, ERR_INVALID, "An HTTP/1.1 request must have exactly one Host field; %zu came.", n);
    }
    struct str host = http_header_get(r, "host");
    if (host.len && !parser__valid_authority(host)) {
        return error_set(err, ERR_INVALID, "The Host field must be a host name or address with an optional port.");
    }
    return true;
}

static bool parse_transfer_coding(struct http_request *r, struct error *err)
{
    struct member_walk walk = {.request = r, .name = "transfer-encoding"};
    struct str coding;
    if (r->minor_version == 0) {
        return error_set(err, ERR_INVALID, "An HTTP/1.0 request may not have a Transfer-Encoding field.");
    }
    if (count_fields(r, "content-length")) {
        return error_set(err, ERR_INVALID, "A request may not have both Content-Length and Transfer-Encoding fields.");
    }
    for (size_t n = 0; next_member(&walk, &coding); n++) {
        if (n > 0 || coding.len == 0) {
            /* "gzip, chunked" is well-formed, but not understood; "chunked, x" and repeated ones are attacks */
            return r->chunked || coding.len == 0
                       ? error_set(err, ERR_INVALID, "The transfer coding 'chunked' must be the last and only one.")
                       : error_set(err, ERR_NOT_IMPLEMENTED, "The only supported transfer coding is 'chunked'.");
        }
        r->chunked = str_eq_nocase(coding, STR("chunked"));
    }
    return r->chunked || error_set(err, ERR_NOT_IMPLEMENTED, "The only supported transfer coding is 'chunked'.");
}

static bool parse_content_length(struct http_request *r, struct error *err)
{
    struct str value = http_header_get(r, "content-length");
    size_t n = count_fields(r, "content-length");
    if (n == 0) {
        return true;
    }
    if (n > 1) {
        return error_set(err, ERR_INVALID, "A request must have at most one Content-Length field; %zu came.", n);
    }
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.ptr[i])) {
            value.len = 0;
        }
    }
    if (value.len == 0) {
        return error_set(err, ERR_INVALID, "The Content-Length field must be one decimal number.");
    }
    return str_to_u64(value, &r->content_length) ||
           error_set(err, ERR_TOO_LARGE, "The Content-Length field must be below 2^64.");
}

static bool parse_framing(struct http_request *r, struct error *err)
{
    return count_fields(r, "transfer-encoding") ? parse_transfer_coding(r, err) : parse_content_length(r, err);
}

static void parse_connection(struct http_request *r)
{
    struct member_walk walk = {.request = r, .name = "connection"};
    struct str option;
    bool close = false, keep_alive = false;
    while (next_member(&walk, &option)) {
        close |= str_eq_nocase(option, STR("close"));
        keep_alive |= str_eq_nocase(option, STR("keep-alive"));
    }
    r->keep_alive = !close && (r->minor_version > 0 || keep_alive);
}

static bool parse_expect(struct http_request *r, struct error *err)
{
    struct member_walk walk = {.request = r, .name = "expect"};
    struct str expectation;
    while (r->minor_version > 0 && next_member(&walk, &expectation)) { /* 1.0 clients cannot wait for a 100 */
        if (!str_eq_nocase(expectation, STR("100-continue"))) {
            return error_set(err, ERR_EXPECTATION, "The only supported expectation is '100-continue'.");
        }
        r->expect_continue = true;
    }
    return true;
}

bool parser__meaning(struct http_request *r, struct error *err)
{
    if (!check_host(r, err) || !parse_framing(r, err)) {
        return false;
    }
    parse_connection(r);
    return parse_expect(r, err);
}

/* ---- chunks ---- */

static size_t token_run(struct str s)
{
    size_t n = 0;
    while (n < s.len && is_token_char(s.ptr[n])) {
        n++;
    }
    return n;
}

/* Length of the quoted string that s starts with, quotes included; 0 when it is none. */
static size_t quoted_run(struct str s)
{
    for (size_t i = 1; s.len && s.ptr[0] == '"' && i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"') {
            return i + 1;
        }
        if (c == '\\' && ++i == s.len) {
            return 0;
        }
        c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return 0;
        }
    }
    return 0;
}

/* *( ";" name [ "=" value ] ), without the blanks that the grammar tolerates from old senders. */
static bool valid_extensions(struct str s)
{
    while (s.len) {
        size_t n = s.ptr[0] == ';' ? token_run(str_slice(s, 1, s.len)) : 0;
        if (n == 0) {
            return false;
        }
        s = str_slice(s, 1 + n, s.len);
        if (s.len && s.ptr[0] == '=') {
            s = str_slice(s, 1, s.len);
            n = s.len && s.ptr[0] == '"' ? quoted_run(s) : token_run(s);
            if (n == 0) {
                return false;
            }
            s = str_slice(s, n, s.len);
        }
    }
    return true;
}

bool parser__chunk_size(struct str line, uint64_t *size, struct error *err)
{
    size_t n = 0;
    *size = 0;
    for (; n < line.len && hex_digit(line.ptr[n]) >= 0; n++) {
        if (*size >> 60) {
            return error_set(err, ERR_TOO_LARGE, "The size of a chunk must be below 2^64.");
        }
        *size = *size << 4 | (uint64_t)hex_digit(line.ptr[n]);
    }
    if (n == 0) {
        return error_set(err, ERR_INVALID, "A chunk must begin with its size in hexadecimal digits.");
    }
    return valid_extensions(str_slice(line, n, line.len)) ||
           error_set(err, ERR_INVALID, "The size of a chunk must be followed by CR LF or by valid extensions.");
}
