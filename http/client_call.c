/* One call: its options made into a handle of libcurl, its reply taken from libcurl's callbacks, its failures. */
#include "base/array.h"
#include "base/limits.h"
#include "http/client_internal.h"
#include "http/percent.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 10000

/* ---- the reply, as libcurl's callbacks bring it. False or a short count makes libcurl give up. ---- */

static bool fail_limit(struct http_call *call, const char *what, uint64_t limit)
{
    return error_set(&call->failure, ERR_TOO_LARGE, "%s: the reply %s %llu bytes.", call->where, what,
                     (unsigned long long)limit);
}

static bool fail_memory(struct http_call *call)
{
    return error_set(&call->failure, ERR_NO_MEMORY, "%s: no memory for the reply.", call->where);
}

static bool start_head(struct http_call *call)
{
    call->reply.n_headers = 0;
    if (call->head) {
        arena_clear(call->head);
        return true;
    }
    return (call->head = arena_create(LIMIT_HTTP_HEADERS)) || fail_memory(call);
}

static bool add_field(struct http_call *call, struct str line)
{
    size_t colon = str_find_char(line, ':'), n = call->reply.n_headers;
    if (colon == STR_NPOS) {
        return true; /* no field; libcurl has seen to the framing */
    }
    struct str value = str_trim(str_slice(line, colon + 1, line.len));
    struct http_header h = {arena_str(call->head, str_slice(line, 0, colon)), {"", 0}};
    h.value = value.len ? arena_str(call->head, value) : h.value;
    if (!h.name.ptr || !h.value.ptr) {
        return fail_limit(call, "has a header of more than", LIMIT_HTTP_HEADERS);
    }
    if (!array_reserve(&call->headers, &call->headers_cap, n + 1, LIMIT_HTTP_HEADER_COUNT, "fields of a reply's header",
                       &call->failure)) {
        return error_wrap(&call->failure, "%s", call->where);
    }
    call->headers[n] = h;
    call->reply.headers = call->headers;
    call->reply.n_headers = n + 1;
    return true;
}

/* libcurl goes on from this reply to another one. */
static bool is_redirect(const struct http_call *call, long status)
{
    static const long followed[] = {301, 302, 303, 307, 308};
    for (size_t i = 0; call->follows && i < ARRAY_LEN(followed); i++) {
        if (status == followed[i] && http_reply_header(&call->reply, "location").ptr) {
            return true;
        }
    }
    return false;
}

static void end_head(struct http_call *call)
{
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || is_redirect(call, status)) {
        return;
    }
    call->head_complete = true;
    call->reply.status = (int)status;
    if (call->events.on_headers) {
        call->events.on_headers(call->events.arg, &call->reply);
    }
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    struct str line = {bytes, n * size};
    bool ok = true;
    call->reply.received_ns = call->client->now_ns;
    if (call->head_complete || call->pending == CALL_TO_CANCEL) {
        return call->head_complete ? line.len : 0;
    }
    if (str_starts(line, STR("HTTP/"))) {
        ok = start_head(call);
    } else if (str_trim(line).len) {
        ok = add_field(call, line);
    } else {
        end_head(call);
    }
    return ok && call->pending != CALL_TO_CANCEL ? line.len : CURL_WRITEFUNC_ERROR;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    struct str piece = {bytes, n * size};
    call->reply.received_ns = call->client->now_ns;
    if (call->pending == CALL_TO_CANCEL) {
        return CURL_WRITEFUNC_ERROR;
    }
    if (!call->head_complete) { /* HTTP/0.9, as libcurl sees it */
        error_set(&call->failure, ERR_PROTOCOL, "%s: what came is no HTTP reply.", call->where);
        return CURL_WRITEFUNC_ERROR;
    }
    if (piece.len > call->max_reply - call->body_size) {
        fail_limit(call, "is larger than", call->max_reply);
        return CURL_WRITEFUNC_ERROR;
    }
    call->body_size += piece.len;
    if (call->events.on_data) {
        call->events.on_data(call->events.arg, &call->reply, piece);
    } else {
        buf_append(&call->body, piece);
        if (call->body.failed) {
            fail_memory(call);
        }
    }
    return call->failure.code || call->pending == CALL_TO_CANCEL ? CURL_WRITEFUNC_ERROR : piece.len;
}

struct str http_reply_header(const struct http_reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->n_headers; i++) {
        if (str_eq_nocase(reply->headers[i].name, str_of(name))) {
            return reply->headers[i].value;
        }
    }
    return (struct str){NULL, 0};
}

/* ---- failures ---- */

static const struct failure {
    CURLcode curl;
    enum error_code code;
    const char *what;
} failures[] = {
    {CURLE_URL_MALFORMAT, ERR_INVALID, "the address is no URL"},
    {CURLE_UNSUPPORTED_PROTOCOL, ERR_INVALID, "it leads to what is neither http nor https"},
    {CURLE_COULDNT_RESOLVE_HOST, ERR_UNAVAILABLE, "the host is not known"},
    {CURLE_COULDNT_RESOLVE_PROXY, ERR_UNAVAILABLE, "the proxy is not known"},
    {CURLE_COULDNT_CONNECT, ERR_UNAVAILABLE, "no connection"},
    {CURLE_OPERATION_TIMEDOUT, ERR_DEADLINE, "no whole reply in time"},
    {CURLE_GOT_NOTHING, ERR_PROTOCOL, "the connection was closed without a reply"},
    {CURLE_SEND_ERROR, ERR_PROTOCOL, "the connection broke while sending"},
    {CURLE_RECV_ERROR, ERR_PROTOCOL, "the connection broke within the reply"},
    {CURLE_PARTIAL_FILE, ERR_PROTOCOL, "the connection ended within the reply"},
    {CURLE_WEIRD_SERVER_REPLY, ERR_PROTOCOL, "what came is no HTTP reply"},
    {CURLE_TOO_MANY_REDIRECTS, ERR_PROTOCOL, "too many redirects"},
    {CURLE_SSL_CONNECT_ERROR, ERR_PROTOCOL, "no TLS connection"},
    {CURLE_PEER_FAILED_VERIFICATION, ERR_FORBIDDEN, "its certificate is not trusted"},
    {CURLE_SSL_CACERT_BADFILE, ERR_IO, "the file of trusted certificates cannot be used"},
    {CURLE_OUT_OF_MEMORY, ERR_NO_MEMORY, "no memory"},
};

/* What libcurl or the system says of it, without a full stop. */
static void failure_detail(struct http_call *call, CURLcode result, char *out, size_t size)
{
    long system = 0;
    curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &system);
    const char *text = call->curl_message[0] ? call->curl_message : curl_easy_strerror(result);
    snprintf(out, size, "%s", result == CURLE_COULDNT_CONNECT && system > 0 ? strerror((int)system) : text);
    size_t n = strlen(out);
    if (n && out[n - 1] == '.') {
        out[n - 1] = '\0';
    }
}

static void describe_failure(struct http_call *call, CURLcode result, struct error *err)
{
    char detail[CURL_ERROR_SIZE];
    if (result == CURLE_FILESIZE_EXCEEDED) { /* as announced; on_body sees what was not */
        fail_limit(call, "is larger than", call->max_reply);
        *err = call->failure;
        return;
    }
    failure_detail(call, result, detail, sizeof detail);
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        if (failures[i].curl == result) {
            error_set(err, failures[i].code, "%s: %s (%s).", call->where, failures[i].what, detail);
            return;
        }
    }
    error_set(err, ERR_PROTOCOL, "%s: the request failed (%s).", call->where, detail);
}

bool client__call_result(struct http_call *call, CURLcode result, struct error *err)
{
    call->reply.body = buf_view(&call->body);
    if (result == CURLE_OK && call->head_complete) {
        return false;
    }
    result = result == CURLE_OK ? CURLE_PARTIAL_FILE : result; /* libcurl takes a head without an end for a reply */
    if (call->failure.code) {
        *err = call->failure;
    } else {
        describe_failure(call, result, err);
    }
    return true;
}

/* ---- options ---- */

static bool is_loopback(const char *host)
{
    struct str h = str_of(host);
    bool ipv4 = strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == h.len;
    return ipv4 || str_eq_nocase(h, STR("localhost")) || str_eq(h, STR("[::1]"));
}

static bool parse_url(CURLU *u, const char *url, struct error *err)
{
    CURLUcode rc =
        u ? curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME | CURLU_DISALLOW_USER) : CURLUE_OUT_OF_MEMORY;
    switch (rc) {
    case CURLUE_OK:
        return true;
    case CURLUE_OUT_OF_MEMORY:
        return error_set(err, ERR_NO_MEMORY, "no memory for an HTTP request.");
    case CURLUE_USER_NOT_ALLOWED: /* and not shown: there may be a password */
        return error_set(err, ERR_INVALID, "a URL with a user name or password in it is not possible.");
    default:
        return error_set(err, ERR_INVALID, "'%.80s' is no URL: %s.", url, curl_url_strerror(rc));
    }
}

/* Fills call->where; *direct: no proxy. */
static bool check_url(struct http_call *call, const char *url, bool *direct, struct error *err)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *u = curl_url();
    bool ok = parse_url(u, url, err);
    if (ok && (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
               (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))) {
        ok = error_set(err, ERR_INVALID, "'%.80s': only http:// and https:// are possible.", url);
    }
    if (ok && (curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
               curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)) {
        ok = error_set(err, ERR_INVALID, "'%.80s' names no host.", url);
    }
    if (ok) {
        snprintf(call->where, sizeof call->where, "%.100s:%.8s", host, port);
        *direct = is_loopback(host);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return ok;
}

static bool is_field_value(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool add_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    *list = longer ? longer : *list;
    return longer != NULL;
}

static bool add_header(struct http_call *call, const struct http_header *h, struct error *err)
{
    struct buf line;
    if (!is_token(h->name) || !is_field_value(h->value)) { /* the value may be a secret: it is not shown */
        return error_set(err, ERR_INVALID, "the header field '%.*s' has a name or a value that HTTP does not allow.",
                         h->name.len > 40 ? 40 : (int)h->name.len, h->name.ptr ? h->name.ptr : "");
    }
    buf_init(&line, LIMIT_HTTP_HEADERS);
    buf_append(&line, h->name);
    buf_puts(&line, h->value.len ? ": " : ";"); /* libcurl's way to say: a field without a value */
    buf_append(&line, h->value);
    bool ok = buf_ok(&line, "a header field", err) &&
              (add_line(&call->sent_headers, line.data) || error_set(err, ERR_NO_MEMORY, "no memory for a header."));
    buf_release(&line);
    return ok;
}

/* What libcurl would add by itself and must not: it waits a second for the answer to Expect, and calls any body a form.
 */
static bool add_headers(struct http_call *call, const struct http_call_options *o, struct error *err)
{
    bool has_type = false;
    for (size_t i = 0; i < o->n_headers; i++) {
        has_type = has_type || str_eq_nocase(o->headers[i].name, STR("content-type"));
        if (!add_header(call, &o->headers[i], err)) {
            return false;
        }
    }
    return (add_line(&call->sent_headers, "Expect:") && (has_type || add_line(&call->sent_headers, "Content-Type:"))) ||
           error_set(err, ERR_NO_MEMORY, "no memory for a header.");
}

#define SET(option, value) (curl_easy_setopt(call->easy, (option), (value)) == CURLE_OK)

static const struct method {
    const char *name;
    bool may_have_body, has_body; /* has_body: also when it is empty */
    bool may_follow;              /* redirects: the request may be sent again elsewhere */
} methods[] = {
    {"GET", false, false, true},     {"HEAD", false, false, true}, {"POST", true, true, false},
    {"PUT", true, true, false},      {"PATCH", true, true, false}, {"DELETE", true, false, false},
    {"OPTIONS", true, false, false},
};

static const struct method *check_method(const struct http_call_options *o, struct error *err)
{
    const struct method *m = NULL;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        m = strcmp(o->method ? o->method : "GET", methods[i].name) == 0 ? &methods[i] : m;
    }
    if (!m) {
        error_set(err, ERR_INVALID, "'%.20s' is no HTTP method that can be sent.", o->method);
    } else if (o->max_redirects > 0 && !m->may_follow) {
        error_set(err, ERR_INVALID, "redirects of a %s cannot be followed.", m->name);
        m = NULL;
    } else if (o->body.ptr && !m->may_have_body) {
        error_set(err, ERR_INVALID, "a %s has no body.", m->name);
        m = NULL;
    }
    return m;
}

static bool set_method(struct http_call *call, const struct http_call_options *o, const struct method *m)
{
    bool ok =
        SET(CURLOPT_FOLLOWLOCATION, (long)(o->max_redirects > 0)) && SET(CURLOPT_MAXREDIRS, (long)o->max_redirects);
    if (m->has_body || o->body.ptr) {
        ok = ok && SET(CURLOPT_POST, 1L) && SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body.len) &&
             SET(CURLOPT_POSTFIELDS, o->body.len ? o->body.ptr : "");
    }
    if (!m->may_have_body) { /* GET and HEAD, which libcurl knows */
        return ok && SET(CURLOPT_NOBODY, (long)(strcmp(m->name, "HEAD") == 0));
    }
    return ok && SET(CURLOPT_CUSTOMREQUEST, m->name);
}

static bool set_limits(struct http_call *call, const struct http_call_options *o, const struct method *m)
{
    int64_t connect_ms = o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    bool head = strcmp(m->name, "HEAD") == 0; /* announces what it does not send */
    curl_off_t announced = head ? 0 : call->max_reply > INT64_MAX ? INT64_MAX : (curl_off_t)call->max_reply;
    return SET(CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms) && SET(CURLOPT_TIMEOUT_MS, (long)o->timeout_ms) &&
           SET(CURLOPT_LOW_SPEED_TIME, (long)o->idle_timeout_s) &&
           SET(CURLOPT_LOW_SPEED_LIMIT, (long)(o->idle_timeout_s > 0)) && SET(CURLOPT_MAXFILESIZE_LARGE, announced);
}

static bool set_callbacks(struct http_call *call)
{
    return SET(CURLOPT_PRIVATE, (char *)call) && SET(CURLOPT_ERRORBUFFER, call->curl_message) &&
           SET(CURLOPT_HEADERFUNCTION, on_header) && SET(CURLOPT_HEADERDATA, call) &&
           SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, call);
}

/* What libcurl could do and is not to. */
static bool set_bounds(struct http_call *call)
{
    return SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_QUICK_EXIT, 1L) && SET(CURLOPT_PROTOCOLS_STR, "http,https") &&
           SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https") && SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(CURLOPT_HTTP09_ALLOWED, 1L) && /* on_body refuses it, and says why */
           SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) && SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

static bool set_address(struct http_call *call, const char *url, bool direct)
{
    const struct http_client *c = call->client;
    return SET(CURLOPT_URL, url) && SET(CURLOPT_HTTPHEADER, call->sent_headers) &&
           (!direct || SET(CURLOPT_PROXY, "")) && (!c->user_agent || SET(CURLOPT_USERAGENT, c->user_agent)) &&
           (!c->ca_file || SET(CURLOPT_CAINFO, c->ca_file));
}

static bool set_up(struct http_call *call, const struct http_call_options *o, struct error *err)
{
    bool direct = false;
    const struct method *m = check_method(o, err);
    if (!m || !check_url(call, o->url, &direct, err) || !add_headers(call, o, err)) {
        return false;
    }
    call->follows = o->max_redirects > 0;
    return (set_method(call, o, m) && set_limits(call, o, m) && set_callbacks(call) && set_bounds(call) &&
            set_address(call, o->url, direct)) ||
           error_set(err, ERR_NO_MEMORY, "no memory for an HTTP request.");
}

struct http_call *client__call_create(struct http_client *c, const struct http_call_options *options, struct error *err)
{
    struct http_call *call = calloc(1, sizeof *call);
    if (!call || !(call->easy = curl_easy_init())) {
        free(call);
        error_set(err, ERR_NO_MEMORY, "no memory for an HTTP request.");
        return NULL;
    }
    call->client = c;
    call->events = options->events;
    call->max_reply = options->max_reply ? options->max_reply : LIMIT_HTTP_REPLY;
    buf_init(&call->body, call->max_reply < SIZE_MAX ? (size_t)call->max_reply : SIZE_MAX);
    if (!set_up(call, options, err)) {
        client__call_free(call);
        return NULL;
    }
    return call;
}

void client__call_free(struct http_call *call)
{
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->sent_headers);
    arena_free(call->head);
    free(call->headers);
    buf_release(&call->body);
    free(call);
}
