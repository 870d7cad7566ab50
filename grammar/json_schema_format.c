/* `format`, asserted: RFC 5321 (email), 1123 (hostname), 2673 and 4291 (addresses), 3986 (URIs), 6901 (JSON Pointer),
 * 4122 (uuid). */
#include "grammar/json_schema_internal.h"

#define LABEL_MAX 63
#define HOST_MAX  253
#define LOCAL_MAX 64

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(char c, const char *set)
{
    return c && strchr(set, c);
}

/* ---- hosts ---- */

static bool is_hostname(struct str s)
{
    struct str label;
    if (!s.len || s.len > HOST_MAX || s.ptr[s.len - 1] == '.') {
        return false;
    }
    while (str_split(&s, '.', &label)) {
        if (!label.len || label.len > LABEL_MAX || label.ptr[0] == '-' || label.ptr[label.len - 1] == '-') {
            return false;
        }
        for (size_t i = 0; i < label.len; i++) {
            if (!is_alpha(label.ptr[i]) && !is_digit(label.ptr[i]) && label.ptr[i] != '-') {
                return false;
            }
        }
    }
    return true;
}

static bool is_ipv4(struct str s)
{
    struct str part;
    uint64_t value;
    int n = 0;
    while (str_split(&s, '.', &part)) {
        bool plain = part.len >= 1 && part.len <= 3 && is_digit(part.ptr[0]) && (part.len == 1 || part.ptr[0] != '0');
        if (!plain || !str_to_u64(part, &value) || value > 255) {
            return false;
        }
        n++;
    }
    return n == 4;
}

static bool is_group(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (hex_digit(s.ptr[i]) < 0) {
            return false;
        }
    }
    return s.len >= 1 && s.len <= 4;
}

/* Counts the groups between colons; -1 when one is none. The last may be an IPv4 address, which is two. */
static int count_groups(struct str s, bool last)
{
    struct str part;
    int n = 0;
    if (!s.len) {
        return 0;
    }
    bool ends_empty = s.ptr[s.len - 1] == ':';
    while (str_split(&s, ':', &part)) {
        bool at_end = !s.len;
        if (is_group(part)) {
            n++;
        } else if (last && at_end && is_ipv4(part)) {
            n += 2;
        } else {
            return -1;
        }
    }
    return ends_empty ? -1 : n;
}

static bool is_ipv6(struct str s)
{
    size_t gap = str_find(s, STR("::"));
    if (gap == STR_NPOS) {
        return count_groups(s, true) == 8;
    }
    int before = count_groups(str_slice(s, 0, gap), false), after = count_groups(str_slice(s, gap + 2, s.len), true);
    return before >= 0 && after >= 0 && before + after <= 7;
}

static bool is_atom(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        bool dot = s.ptr[i] == '.' && i > 0 && i + 1 < s.len && s.ptr[i + 1] != '.';
        if (!is_alpha(s.ptr[i]) && !is_digit(s.ptr[i]) && !dot && !is_one_of(s.ptr[i], "!#$%&'*+-/=?^_`{|}~")) {
            return false;
        }
    }
    return s.len > 0;
}

static bool is_quoted(struct str s)
{
    if (s.len < 2 || s.ptr[0] != '"' || s.ptr[s.len - 1] != '"') {
        return false;
    }
    for (size_t i = 1; i + 1 < s.len; i++) {
        if (s.ptr[i] == '\\' && i + 2 < s.len) {
            i++;
        } else if (s.ptr[i] == '"' || s.ptr[i] == '\\' || s.ptr[i] < ' ') {
            return false;
        }
    }
    return true;
}

static bool is_email(struct str s)
{
    size_t at = s.len;
    while (at > 0 && s.ptr[at - 1] != '@') {
        at--;
    }
    if (at < 2 || at - 1 > LOCAL_MAX) {
        return false;
    }
    struct str local = str_slice(s, 0, at - 1), host = str_slice(s, at, s.len);
    bool literal = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    struct str address = str_slice(host, 1, literal ? host.len - 1 : 1);
    bool v6 = str_starts(address, STR("IPv6:"));
    bool host_ok = literal ? (v6 ? is_ipv6(str_slice(address, 5, address.len)) : is_ipv4(address)) : is_hostname(host);
    return host_ok && (is_atom(local) || is_quoted(local));
}

/* ---- URIs ---- */

static bool is_uri_text(struct str s, const char *more)
{
    for (size_t i = 0; i < s.len; i++) {
        bool escape = s.ptr[i] == '%' && i + 2 < s.len && hex_digit(s.ptr[i + 1]) >= 0 && hex_digit(s.ptr[i + 2]) >= 0;
        if (!escape && !is_alpha(s.ptr[i]) && !is_digit(s.ptr[i]) && !is_one_of(s.ptr[i], "-._~!$&'()*+,;=") &&
            !is_one_of(s.ptr[i], more)) {
            return false;
        }
    }
    return true;
}

static bool is_authority(struct str s)
{
    size_t at = str_find_char(s, '@');
    if (at != STR_NPOS) {
        if (!is_uri_text(str_slice(s, 0, at), ":")) {
            return false;
        }
        s = str_slice(s, at + 1, s.len);
    }
    size_t bracket = str_starts(s, STR("[")) ? str_find_char(s, ']') : STR_NPOS;
    size_t end = bracket != STR_NPOS ? bracket + 1 : str_find_char(s, ':');
    struct str host = str_slice(s, 0, end), port = str_slice(s, host.len, s.len);
    bool host_ok = bracket != STR_NPOS ? is_ipv6(str_slice(s, 1, bracket)) : is_uri_text(host, "");
    bool port_ok = !port.len || port.ptr[0] == ':';
    for (size_t i = 1; i < port.len; i++) {
        port_ok = port_ok && is_digit(port.ptr[i]);
    }
    return host_ok && port_ok;
}

static bool is_scheme(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_alpha(s.ptr[i]) && (i == 0 || (!is_digit(s.ptr[i]) && !is_one_of(s.ptr[i], "+-.")))) {
            return false;
        }
    }
    return s.len > 0;
}

/* What follows the scheme, or a relative reference. */
static bool is_rest(struct str s)
{
    size_t hash = str_find_char(s, '#');
    struct str fragment = hash == STR_NPOS ? (struct str){"", 0} : str_slice(s, hash + 1, s.len);
    s = str_slice(s, 0, hash);
    size_t question = str_find_char(s, '?');
    struct str query = question == STR_NPOS ? (struct str){"", 0} : str_slice(s, question + 1, s.len);
    s = str_slice(s, 0, question);
    if (str_starts(s, STR("//"))) {
        size_t slash = str_find_char(str_slice(s, 2, s.len), '/');
        size_t end = slash == STR_NPOS ? s.len : slash + 2;
        if (!is_authority(str_slice(s, 2, end))) {
            return false;
        }
        s = str_slice(s, end, s.len);
    }
    return is_uri_text(s, ":@/") && is_uri_text(query, ":@/?") && is_uri_text(fragment, ":@/?");
}

static size_t scheme_len(struct str s)
{
    size_t colon = str_find_char(s, ':');
    return colon != STR_NPOS && is_scheme(str_slice(s, 0, colon)) ? colon + 1 : 0;
}

static bool is_uri(struct str s)
{
    size_t n = scheme_len(s);
    return n > 0 && is_rest(str_slice(s, n, s.len));
}

static bool is_uri_reference(struct str s)
{
    struct str first = s;
    size_t end = 0;
    while (end < s.len && !is_one_of(s.ptr[end], "/?#")) {
        end++;
    }
    first.len = end;
    return is_uri(s) || (str_find_char(first, ':') == STR_NPOS && is_rest(s));
}

/* ---- others ---- */

static bool is_uuid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s.ptr[i] != '-' : hex_digit(s.ptr[i]) < 0) {
            return false;
        }
    }
    return s.len == 36;
}

static bool is_json_pointer(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '~' && (i + 1 == s.len || (s.ptr[i + 1] != '0' && s.ptr[i + 1] != '1'))) {
            return false;
        }
    }
    return !s.len || s.ptr[0] == '/';
}

static bool is_relative_json_pointer(struct str s)
{
    size_t n = 0;
    while (n < s.len && is_digit(s.ptr[n])) {
        n++;
    }
    struct str rest = str_slice(s, n, s.len);
    return n > 0 && (n == 1 || s.ptr[0] != '0') && (str_eq(rest, STR("#")) || is_json_pointer(rest));
}

json_schema_format_fn *json_schema__format(struct str name)
{
    static const struct {
        const char *name;
        json_schema_format_fn *fn;
    } formats[] = {{"date-time", json_schema__is_date_time},
                   {"date", json_schema__is_date},
                   {"time", json_schema__is_time},
                   {"duration", json_schema__is_duration},
                   {"email", is_email},
                   {"hostname", is_hostname},
                   {"ipv4", is_ipv4},
                   {"ipv6", is_ipv6},
                   {"uri", is_uri},
                   {"uri-reference", is_uri_reference},
                   {"uuid", is_uuid},
                   {"json-pointer", is_json_pointer},
                   {"relative-json-pointer", is_relative_json_pointer},
                   {"regex", json_schema__regex_is_valid}};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (str_eq(name, str_of(formats[i].name))) {
            return formats[i].fn;
        }
    }
    return NULL;
}
