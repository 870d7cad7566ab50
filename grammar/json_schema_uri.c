/* References of URIs (RFC 3986, section 5), as far as identifiers need it: nothing is normalised but dot segments. */
#include "grammar/json_schema_internal.h"

#include "base/buf.h"

#define URI_MAX KIB(64)

struct uri {
    struct str scheme, authority, path, query; /* with their delimiters: "http:", "//host", "/a/b", "?x" */
    struct str fragment;
};

static size_t find_any(struct str s, const char *characters)
{
    size_t i = 0;
    while (i < s.len && !strchr(characters, s.ptr[i])) {
        i++;
    }
    return i;
}

static struct str cut(struct str *rest, size_t n)
{
    struct str part = str_slice(*rest, 0, n);
    *rest = str_slice(*rest, n, rest->len);
    return part;
}

static struct uri parse(struct str s)
{
    struct uri u = {0};
    size_t colon = find_any(s, ":/?#");
    if (colon < s.len && s.ptr[colon] == ':' && colon > 0) {
        u.scheme = cut(&s, colon + 1);
    }
    if (str_starts(s, STR("//"))) {
        u.authority = cut(&s, 2 + find_any(str_slice(s, 2, s.len), "/?#"));
    }
    u.path = cut(&s, find_any(s, "?#"));
    u.query = cut(&s, find_any(s, "#"));
    u.fragment = s;
    return u;
}

/* Appends path without "." and ".." segments (5.2.4); out holds nothing else of a path behind `start`. */
static void put_path(struct buf *out, struct str path)
{
    size_t start = out->len;
    while (path.len) {
        bool slash = path.ptr[0] == '/';
        size_t n = slash + find_any(str_slice(path, slash, path.len), "/");
        struct str segment = cut(&path, n), name = str_slice(segment, slash, n);
        bool up = str_eq(name, STR("..")), here = str_eq(name, STR("."));
        while (up && out->len > start) {
            buf_truncate(out, out->len - 1);
            if (out->data[out->len] == '/') {
                break;
            }
        }
        if (!up && !here) {
            buf_append(out, segment);
        } else if (slash && !path.len) {
            buf_putc(out, '/');
        }
    }
}

static void put_merged(struct buf *out, const struct uri *base, struct str path)
{
    struct buf merged;
    size_t last = base->path.len;
    buf_init(&merged, URI_MAX);
    while (last > 0 && base->path.ptr[last - 1] != '/') {
        last--;
    }
    if (base->authority.len && !base->path.len) {
        buf_putc(&merged, '/');
    }
    buf_append(&merged, str_slice(base->path, 0, last));
    buf_append(&merged, path);
    put_path(out, buf_view(&merged));
    out->failed = out->failed || merged.failed;
    buf_release(&merged);
}

struct str json_schema__uri_resolve(struct arena *a, struct str base, struct str reference)
{
    struct uri b = parse(base), r = parse(reference);
    struct buf out;
    struct str result = {NULL, 0};
    buf_init(&out, URI_MAX);
    bool inherits = !r.scheme.len && !r.authority.len;
    buf_append(&out, r.scheme.len ? r.scheme : b.scheme);
    buf_append(&out, inherits ? b.authority : r.authority);
    if (inherits && !r.path.len) {
        buf_append(&out, b.path);
        buf_append(&out, r.query.len ? r.query : b.query);
    } else {
        if (inherits && r.path.ptr[0] != '/') {
            put_merged(&out, &b, r.path);
        } else {
            put_path(&out, r.path);
        }
        buf_append(&out, r.query);
    }
    buf_append(&out, r.fragment);
    if (!out.failed) {
        result = out.len ? arena_str(a, buf_view(&out)) : STR("");
    }
    buf_release(&out);
    return result;
}

struct str json_schema__uri_unescape(struct arena *a, struct str s)
{
    char *out = arena_alloc(a, s.len + 1);
    size_t n = 0, used;
    if (!out) {
        return (struct str){NULL, 0};
    }
    for (size_t i = 0; i < s.len; i += used) {
        out[n++] = (char)percent_byte(str_slice(s, i, s.len), &used);
    }
    return (struct str){out, n};
}
