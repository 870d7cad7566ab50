/* Request targets (RFC 9112, section 3.2; RFC 3986): the four forms, and the path that routing sees. */
#include "base/utf8.h"
#include "http/parser_internal.h"
#include "http/percent.h"

static bool is_reg_name_char(char c) /* unreserved, sub-delims and escapes */
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~!$&'()*+,;=%", c));
}

static bool valid_port(struct str s) /* what follows the host: "" or ":" and digits */
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
    }
    return s.len == 0 || s.ptr[0] == ':';
}

bool parser__valid_authority(struct str s)
{
    size_t end = 0;
    if (s.len && s.ptr[0] == '[') {
        end = str_find_char(s, ']');
        if (end == STR_NPOS || end < 3) {
            return false;
        }
        for (size_t i = 1; i < end; i++) {
            if (hex_digit(s.ptr[i]) < 0 && s.ptr[i] != ':' && s.ptr[i] != '.') {
                return false;
            }
        }
        end++;
    } else {
        while (end < s.len && is_reg_name_char(s.ptr[end])) {
            end++;
        }
    }
    return end > 0 && percent_valid(str_slice(s, 0, end)) && valid_port(str_slice(s, end, s.len));
}

static bool check_characters(struct str target, struct error *err)
{
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return error_set(err, ERR_INVALID, "The request target may not hold the byte 0x%02x; it must be escaped.",
                             c);
        }
    }
    if (!percent_valid(target)) {
        return error_set(err, ERR_INVALID, "Every '%%' in the request target must begin an escape such as %%20.");
    }
    return target.len > 0 || error_set(err, ERR_INVALID, "The request target is empty.");
}

/* Length of "http://" or "https://" at the start of s; 0 when there is neither. */
static size_t scheme_run(struct str s)
{
    if (str_eq_nocase(str_slice(s, 0, 7), STR("http://"))) {
        return 7;
    }
    return str_eq_nocase(str_slice(s, 0, 8), STR("https://")) ? 8 : 0;
}

static bool decode_path(struct str raw, struct buf *path, struct error *err)
{
    buf_clear(path);
    for (size_t i = 0, used; i < raw.len; i += used) {
        int byte = percent_byte(str_slice(raw, i, raw.len), &used);
        if (byte < 0x20 || byte == 0x7f) {
            return error_set(err, ERR_INVALID, "The path may not hold the control character 0x%02x.", byte);
        }
        buf_putc(path, (char)byte);
    }
    return buf_ok(path, "the path", err) &&
           (utf8_valid(buf_view(path)) || error_set(err, ERR_INVALID, "The decoded path must be valid UTF-8."));
}

/* RFC 3986, section 5.2.4, in place. After decoding, so that "%2e%2e" and "..%2f" cannot climb either. */
static void remove_dot_segments(struct buf *path)
{
    char *s = path->data;
    size_t n = path->len, w = 0, end;
    for (size_t i = 0; i < n; i = end) { /* s[i] is the '/' before a segment */
        for (end = i + 1; end < n && s[end] != '/'; end++) {
        }
        struct str segment = {s + i + 1, end - i - 1};
        bool up = str_eq(segment, STR("..")), dot = up || str_eq(segment, STR("."));
        while (up && w > 0 && s[--w] != '/') {
        }
        if (!dot) {
            memmove(s + w, s + i, end - i);
            w += end - i;
        } else if (end == n) {
            s[w++] = '/';
        }
    }
    buf_truncate(path, w);
}

bool parser__target(struct http_request *r, struct buf *path, struct error *err)
{
    if (!check_characters(r->target, err)) {
        return false;
    }
    if (str_eq(r->method, STR("CONNECT"))) {
        return error_set(err, ERR_NOT_IMPLEMENTED, "CONNECT is not supported: this server is no proxy.");
    }
    if (str_eq(r->target, STR("*")) && str_eq(r->method, STR("OPTIONS"))) {
        r->path = r->target;
        r->query = (struct str){NULL, 0};
        return true;
    }
    struct str rest = r->target;
    size_t scheme = scheme_run(rest), end = scheme;
    if (scheme) {
        while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?') {
            end++;
        }
        if (!parser__valid_authority(str_slice(rest, scheme, end))) {
            return error_set(err, ERR_INVALID, "The request target must name a host after its scheme, without a user.");
        }
        rest = str_slice(rest, end, rest.len);
    } else if (rest.ptr[0] != '/') {
        return error_set(err, ERR_INVALID, "The request target must begin with '/' or 'http://'.");
    }
    size_t mark = str_find_char(rest, '?');
    struct str raw = str_slice(rest, 0, mark);
    r->query = mark == STR_NPOS ? (struct str){NULL, 0} : str_slice(rest, mark + 1, rest.len);
    if (!decode_path(raw.len ? raw : STR("/"), path, err)) {
        return false;
    }
    remove_dot_segments(path);
    r->path = buf_view(path);
    return true;
}
