#include "mcp/http_text.h"

#define SESSION_MAX 1024

struct str http_text_origin(struct str url)
{
    struct str none = {NULL, 0};
    size_t scheme = str_starts(url, STR("http://")) ? 7 : str_starts(url, STR("https://")) ? 8 : 0;
    size_t end = scheme;
    while (end < url.len && url.ptr[end] != '/' && url.ptr[end] != '?' && url.ptr[end] != '#') {
        end++;
    }
    return scheme && end > scheme ? str_slice(url, 0, end) : none;
}

static bool is_visible(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= 0x20 || s.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

/* The base's path up to its last '/', which is kept; "/" where it has none. */
static void put_folder(struct str base, size_t origin, struct buf *out)
{
    size_t end = origin, last = origin;
    for (; end < base.len && base.ptr[end] != '?' && base.ptr[end] != '#'; end++) {
        last = base.ptr[end] == '/' ? end + 1 : last;
    }
    buf_append(out, str_slice(base, 0, last));
    if (last == origin) {
        buf_putc(out, '/');
    }
}

bool http_text_join(struct str base, struct str reference, struct buf *out, struct error *err)
{
    struct str origin = http_text_origin(base), other = http_text_origin(reference);
    bool absolute = str_find(reference, STR("://")) < str_find_char(reference, '?') || str_starts(reference, STR("//"));
    if (!origin.len || !reference.len || !is_visible(reference)) {
        return error_set(err, ERR_INVALID, "'%.*s' is no address to send messages to.",
                         STR_ARG(str_slice(reference, 0, 100)));
    }
    if (absolute && !str_eq_nocase(origin, other)) {
        return error_set(err, ERR_FORBIDDEN, "the address to send messages to is not at '" STR_FMT "'.",
                         STR_ARG(str_slice(origin, 0, 100)));
    }
    if (!absolute && reference.ptr[0] == '/') {
        buf_append(out, origin);
    } else if (!absolute && reference.ptr[0] == '?') {
        buf_append(out, str_slice(base, 0, str_find_char(base, '?')));
    } else if (!absolute) {
        put_folder(base, origin.len, out);
    }
    buf_append(out, reference);
    return buf_ok(out, "an address", err);
}

static void put_base64(struct str bytes, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t v = 0;
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        for (size_t k = 0; k < 3; k++) {
            v = v << 8 | (k < n ? (unsigned char)bytes.ptr[i + k] : 0);
        }
        for (size_t k = 0; k < 4; k++) {
            buf_putc(out, k <= n ? digits[v >> (18 - 6 * k) & 63] : '=');
        }
    }
}

static bool is_plain(struct str s)
{
    bool ok = s.len == 0 || (s.ptr[0] != ' ' && s.ptr[s.len - 1] != ' ');
    for (size_t i = 0; ok && i < s.len; i++) {
        ok = s.ptr[i] >= 0x20 && s.ptr[i] < 0x7f;
    }
    return ok && !(str_starts(s, STR("=?base64?")) && str_ends(s, STR("?=")));
}

void http_text_value(struct str value, struct buf *out)
{
    if (is_plain(value)) {
        buf_append(out, value);
        return;
    }
    buf_puts(out, "=?base64?");
    put_base64(value, out);
    buf_puts(out, "?=");
}

bool http_text_is_session(struct str id)
{
    return id.len > 0 && id.len <= SESSION_MAX && is_visible(id);
}

bool http_text_is_type(struct str content_type, struct str type)
{
    return str_eq_nocase(str_trim(str_slice(content_type, 0, str_find_char(content_type, ';'))), type);
}
