#include "http/message.h"

#include "base/array.h"

struct str http_header_get(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        if (str_eq_nocase(r->headers[i].name, str_of(name))) {
            return r->headers[i].value;
        }
    }
    return (struct str){NULL, 0};
}

static void append_form_decoded(struct str s, struct buf *out)
{
    for (size_t i = 0, used; i < s.len; i += used) {
        int byte = percent_byte(str_slice(s, i, s.len), &used);
        buf_putc(out, s.ptr[i] == '+' ? ' ' : (char)byte);
    }
}

/* Compares without a copy: names are short and mostly not escaped. */
static bool form_equal(struct str encoded, struct str name)
{
    size_t n = 0;
    for (size_t i = 0, used; i < encoded.len; i += used, n++) {
        int byte = percent_byte(str_slice(encoded, i, encoded.len), &used);
        char c = encoded.ptr[i] == '+' ? ' ' : (char)byte;
        if (n >= name.len || name.ptr[n] != c) {
            return false;
        }
    }
    return n == name.len;
}

bool http_query_get(const struct http_request *r, const char *name, struct buf *out)
{
    struct str rest = r->query, part;
    while (str_split(&rest, '&', &part)) {
        size_t eq = str_find_char(part, '=');
        struct str key = str_slice(part, 0, eq);
        if (form_equal(key, str_of(name))) {
            append_form_decoded(eq == STR_NPOS ? STR("") : str_slice(part, eq + 1, part.len), out);
            return true;
        }
    }
    return false;
}

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {529, "Overloaded"},
};

const char *http_status_text(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (statuses[i].status == status) {
            return statuses[i].text;
        }
    }
    return "Unknown";
}
