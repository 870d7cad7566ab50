/* What the exporter writes and reads: OTLP's JSON, its endpoint, its headers. In that JSON ids are hex, 64-bit integers
 * are strings, enums are numbers, and keys are in camel case. */
#include "base/limits.h"
#include "gateway/otlp_internal.h"
#include "http/percent.h"

#include <stdio.h>

#define FLAG_SAMPLED      0x001
#define FLAG_REMOTE_KNOWN 0x100
#define FLAG_REMOTE       0x200
#define STATUS_ERROR      2
#define MAX_HEADERS_SIZE  KIB(16)
#define DEFAULT_PATH      "/v1/traces"
#define REPLY_MAX_VALUES  1024

/* ---- spans ---- */

static void put_hex(struct json_writer *w, const char *key, const uint8_t *bytes, size_t n)
{
    char text[2 * TRACE_ID_SIZE + 1];
    hex_write(bytes, n, text);
    json_member_cstr(w, key, text);
}

static void put_int64(struct json_writer *w, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    json_member_cstr(w, key, text);
}

static void put_text(struct json_writer *w, struct str text)
{
    json_member_str(w, "stringValue", text);
}

static void put_array_of_one(struct json_writer *w, struct str text)
{
    json_key(w, "arrayValue");
    json_begin_object(w);
    json_key(w, "values");
    json_begin_array(w);
    json_begin_object(w);
    put_text(w, text);
    json_end_object(w);
    json_end_array(w);
    json_end_object(w);
}

static void put_attribute(struct json_writer *w, const struct otlp_attribute *a)
{
    json_begin_object(w);
    json_member_cstr(w, "key", a->key);
    json_key(w, "value");
    json_begin_object(w);
    switch (a->type) {
    case OTLP_STR:
        put_text(w, a->text);
        break;
    case OTLP_INT:
        put_int64(w, "intValue", a->number);
        break;
    case OTLP_DOUBLE:
        json_member_double(w, "doubleValue", a->real);
        break;
    case OTLP_BOOL:
        json_member_bool(w, "boolValue", a->number != 0);
        break;
    case OTLP_STR_ARRAY:
        put_array_of_one(w, a->text);
        break;
    }
    json_end_object(w);
    json_end_object(w);
}

static void put_attributes(struct json_writer *w, const struct otlp_attribute *attributes, size_t n)
{
    json_key(w, "attributes");
    json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        put_attribute(w, &attributes[i]);
    }
    json_end_array(w);
}

static bool has_parent(const struct otlp_span *s)
{
    static const uint8_t none[SPAN_ID_SIZE];
    return memcmp(s->parent_id, none, sizeof none) != 0;
}

void otlp_write_span(struct buf *out, const struct otlp_span *s)
{
    struct json_writer w = json_writer(out);
    bool parent = has_parent(s);
    json_begin_object(&w);
    put_hex(&w, "traceId", s->trace_id, TRACE_ID_SIZE);
    put_hex(&w, "spanId", s->span_id, SPAN_ID_SIZE);
    if (s->trace_state.len) {
        json_member_str(&w, "traceState", s->trace_state);
    }
    if (parent) {
        put_hex(&w, "parentSpanId", s->parent_id, SPAN_ID_SIZE);
    }
    json_member_uint(&w, "flags", FLAG_SAMPLED | FLAG_REMOTE_KNOWN | (parent && s->parent_is_remote ? FLAG_REMOTE : 0));
    json_member_cstr(&w, "name", s->name);
    json_member_int(&w, "kind", s->kind);
    put_int64(&w, "startTimeUnixNano", s->start_ns);
    put_int64(&w, "endTimeUnixNano", s->end_ns > s->start_ns ? s->end_ns : s->start_ns);
    put_attributes(&w, s->attributes, s->n_attributes);
    json_key(&w, "status");
    json_begin_object(&w);
    if (s->failed) {
        json_member_int(&w, "code", STATUS_ERROR);
    }
    json_end_object(&w);
    json_end_object(&w);
}

/* ---- batches ---- */

void otlp__begin_batch(struct buf *out, const struct otlp_options *o)
{
    bool named = o->service_name && o->service_name[0];
    struct otlp_attribute resource[] = {
        {.key = "service.name", .text = str_of(named ? o->service_name : "tandem")},
        {.key = "service.version", .text = str_of(o->version)},
    };
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "resourceSpans");
    json_begin_array(&w);
    json_begin_object(&w);
    json_key(&w, "resource");
    json_begin_object(&w);
    put_attributes(&w, resource, o->version ? 2 : 1);
    json_end_object(&w);
    json_key(&w, "scopeSpans");
    json_begin_array(&w);
    json_begin_object(&w);
    json_key(&w, "scope");
    json_begin_object(&w);
    json_member_cstr(&w, "name", "tandem");
    json_end_object(&w);
    json_key(&w, "spans");
    json_begin_array(&w);
}

void otlp__end_batch(struct buf *out)
{
    buf_puts(out, "]}]}]}");
}

uint64_t otlp__rejected(struct str reply)
{
    struct error ignored = {0};
    struct json *root = reply.len ? json_parse_bounded(reply, LIMIT_JSON_DEPTH, REPLY_MAX_VALUES, &ignored) : NULL;
    const struct json *partial = json_type(root) == JSON_OBJECT ? json_get(root, "partialSuccess") : NULL;
    const struct json *n = json_type(partial) == JSON_OBJECT ? json_get(partial, "rejectedSpans") : NULL;
    uint64_t rejected = 0;
    if (n && !str_to_u64(json_type(n) == JSON_STRING ? json_str(n) : json_number_text(n), &rejected)) {
        rejected = 0;
    }
    json_free(root);
    return rejected;
}

/* ---- configuration ---- */

bool otlp_url(const char *endpoint, struct buf *out, struct error *err)
{
    struct str url = str_of(endpoint);
    size_t scheme = str_find(url, STR("://"));
    if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://"))) {
        return error_set(err, ERR_INVALID, "the endpoint must begin with http:// or https://.");
    }
    struct str rest = str_slice(url, scheme + 3, url.len);
    size_t host_len = strcspn(rest.ptr, "/?#");
    if (host_len == 0) {
        return error_set(err, ERR_INVALID, "the endpoint names no host.");
    }
    struct str path = str_slice(rest, host_len, rest.len);
    bool bare = path.len == 0 || str_eq(path, STR("/"));
    buf_append(out, bare ? str_slice(url, 0, scheme + 3 + host_len) : url);
    buf_puts(out, bare ? DEFAULT_PATH : "");
    return buf_ok(out, "the endpoint", err);
}

static struct str decode(struct arena *arena, struct str text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t n = 0;
    for (size_t at = 0, used; out && at < text.len; at += used) {
        out[n++] = (char)percent_byte(str_slice(text, at, text.len), &used);
    }
    return (struct str){out, n};
}

static bool is_field_value(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return s.ptr != NULL;
}

static bool add_header(struct otlp_headers *h, struct str member, struct error *err)
{
    size_t equals = str_find_char(member, '=');
    struct str name = str_trim(str_slice(member, 0, equals));
    if (equals == STR_NPOS || !is_token(name)) {
        return error_set(err, ERR_INVALID, "item %zu is not of the form key=value.", h->n);
    }
    if (h->n == OTLP_MAX_HEADERS) {
        return error_set(err, ERR_INVALID, "at most %d headers are possible.", OTLP_MAX_HEADERS - 1);
    }
    struct str value = decode(h->arena, str_trim(str_slice(member, equals + 1, member.len)));
    if (!is_field_value(value)) {
        return error_set(err, ERR_INVALID, "the value of item %zu holds what a header cannot.", h->n);
    }
    h->items[h->n++] = (struct http_header){arena_str(h->arena, name), value};
    return true;
}

bool otlp__read_headers(struct otlp_headers *h, const char *text, struct error *err)
{
    struct str rest = str_of(text), member;
    h->arena = arena_create(4 * MAX_HEADERS_SIZE);
    if (!h->arena || rest.len > MAX_HEADERS_SIZE) {
        return error_set(err, ERR_INVALID, "OTEL_EXPORTER_OTLP_HEADERS: at most %zu bytes are possible.",
                         MAX_HEADERS_SIZE);
    }
    h->items[h->n++] = (struct http_header){STR("Content-Type"), STR("application/json")};
    while (str_split(&rest, ',', &member)) {
        if (str_trim(member).len && !add_header(h, str_trim(member), err)) {
            return error_wrap(err, "OTEL_EXPORTER_OTLP_HEADERS");
        }
    }
    return true;
}
