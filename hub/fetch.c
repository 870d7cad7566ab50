#include "hub/fetch.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/rng.h"
#include "hub/fetch_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_REDIRECTS   6
#define MAX_ERROR_PAGE  MIB(1)
#define FIRST_WAIT_MS   300
#define MAX_WAIT_MS     20000
#define IDLE_TIMEOUT_S  30
#define CONNECT_TIME_MS 15000

struct hub_fetch {
    struct hub_fetch_context c;
    struct hub_fetch_options o; /* strings: those below, but for `what` */
    char *url, *now;            /* asked first, and at the moment: [FETCH_URL_MAX] */
    struct http_call *call;
    struct loop_timer *timer;   /* another attempt, or the end */
    uint64_t received, skipped; /* bytes that were asked for; of this reply, others */
    int attempts, redirects;
    bool accepted, redirected; /* this reply: its bytes are ours; its Location is in `now` */
    int64_t retry_after_s;
    struct error failure; /* of this reply */
    bool has_worked;      /* something of this file has come before */
    bool ended;           /* the timer tells on_done */
};

/* ---- URLs ---- */

/* Up to the path; 0: no URL. */
static size_t origin_len(const char *url)
{
    size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
    size_t host = scheme ? strcspn(url + scheme, "/?#") : 0;
    return host ? scheme + host : 0;
}

/* The same characters but for letters' case: whatever is written in another way is another place. */
bool hub_same_origin(const char *a, const char *b)
{
    size_t n = origin_len(a), m = origin_len(b);
    return n && n == m && str_eq_nocase((struct str){a, n}, (struct str){b, m});
}

bool hub_follow(const char *from, struct str location, char out[FETCH_URL_MAX], struct error *err)
{
    int n = -1;
    for (size_t i = 0; i < location.len; i++) {
        if (location.ptr[i] <= ' ' || location.ptr[i] > '~') {
            return error_set(err, ERR_FORMAT, "a redirect leads to what is no URL.");
        }
    }
    if (str_starts(location, STR("//"))) {
        n = snprintf(out, FETCH_URL_MAX, "%.*s:" STR_FMT, (int)strcspn(from, ":"), from, STR_ARG(location));
    } else if (str_starts(location, STR("/"))) {
        n = snprintf(out, FETCH_URL_MAX, "%.*s" STR_FMT, (int)origin_len(from), from, STR_ARG(location));
    } else {
        n = snprintf(out, FETCH_URL_MAX, STR_FMT, STR_ARG(location));
    }
    if (n <= 0 || n >= FETCH_URL_MAX || !origin_len(out)) {
        return error_set(err, ERR_FORMAT, "a redirect leads to what is no URL of http or https, or one too long.");
    }
    if (strncmp(from, "https:", 6) == 0 && strncmp(out, "https:", 6) != 0) {
        return error_set(err, ERR_FORBIDDEN,
                         "a redirect leads from https to http, where anybody may change the files.");
    }
    return true;
}

bool hub_content_range_is(struct str value, uint64_t from, uint64_t size, uint64_t total)
{
    char want[80];
    snprintf(want, sizeof want, "bytes %llu-%llu/%llu", (unsigned long long)from, (unsigned long long)(from + size - 1),
             (unsigned long long)total);
    return str_eq_nocase(value, str_of(want));
}

/* ---- one reply ---- */

static void fetch_start_call(struct hub_fetch *f);

static void read_redirect(struct hub_fetch *f, const struct http_reply *reply)
{
    char next[FETCH_URL_MAX];
    if (++f->redirects > MAX_REDIRECTS) {
        error_set(&f->failure, ERR_FORMAT, "%s: more than %d redirects.", f->o.what, MAX_REDIRECTS);
    } else if (hub_follow(f->now, http_reply_header(reply, "location"), next, &f->failure)) {
        snprintf(f->now, FETCH_URL_MAX, "%s", next);
        f->redirected = true;
    } else {
        error_wrap(&f->failure, "%s", f->o.what);
    }
}

/* The whole in the place of a part, or the page of somebody between us, such as the sign-in of a hotel. */
static void refuse_whole(struct hub_fetch *f, const struct http_reply *reply)
{
    uint64_t length;
    if (str_to_u64(http_reply_header(reply, "content-length"), &length) && length != f->o.total) {
        error_set(&f->failure, ERR_PROTOCOL, "%s: the server sent %llu bytes of something else, with status %d.",
                  f->o.what, (unsigned long long)length, reply->status);
    } else {
        error_set(&f->failure, ERR_NOT_IMPLEMENTED, "%s: the server sends no parts of files.", f->o.what);
    }
}

/* Whether the bytes to come are those that were asked for. */
static void read_success(struct hub_fetch *f, const struct http_reply *reply)
{
    uint64_t from = f->o.from + f->received, size = f->o.size - f->received, length;
    bool whole = f->o.ranged && from == 0 && size == f->o.total;
    if (!f->o.ranged || (whole && reply->status == 200)) {
        f->accepted = true;
        struct str announced = http_reply_header(reply, "content-length");
        if (whole && str_to_u64(announced, &length) && length != size) {
            f->accepted = false;
            error_set(&f->failure, ERR_FORMAT, "%s: the file has %llu bytes, but the Hub lists it with %llu.",
                      f->o.what, (unsigned long long)length, (unsigned long long)size);
        }
    } else if (reply->status != 206) {
        refuse_whole(f, reply);
    } else {
        struct str range = http_reply_header(reply, "content-range");
        f->accepted = hub_content_range_is(range, from, size, f->o.total);
        if (!f->accepted) {
            error_set(&f->failure, ERR_FORMAT,
                      "%s: the server sent '" STR_FMT "' of it, but the Hub lists it with %llu bytes.", f->o.what,
                      STR_ARG(str_slice(range, 0, 60)), (unsigned long long)f->o.total);
        }
    }
}

static void on_headers(void *arg, const struct http_reply *reply)
{
    static const int redirects[] = {301, 302, 303, 307, 308};
    struct hub_fetch *f = arg;
    for (size_t i = 0; i < ARRAY_LEN(redirects); i++) {
        if (reply->status == redirects[i]) {
            read_redirect(f, reply);
            return;
        }
    }
    if (reply->status < 300) {
        read_success(f, reply);
        return;
    }
    int64_t seconds;
    bool told = str_to_i64(http_reply_header(reply, "retry-after"), &seconds) && seconds > 0;
    f->retry_after_s = told ? seconds : 0;
    fetch__explain(&(struct fetch_refusal){.reply = reply,
                                           .settings = f->c.settings,
                                           .what = f->o.what,
                                           .at_hub = hub_same_origin(f->now, f->c.settings->endpoint)},
                   &f->failure);
}

static void end_later(struct hub_fetch *f)
{
    f->ended = true;
    loop_timer_start(f->timer, 0, 0);
}

static void try_again_or_end(struct hub_fetch *f);

static void refuse(struct hub_fetch *f)
{
    http_call_cancel(f->call);
    f->call = NULL;
    try_again_or_end(f);
}

/* Of a file that is not what was asked for nothing is waited for; of the page of an error a little. */
static void skip(struct hub_fetch *f, const struct http_reply *reply, struct str piece)
{
    f->skipped += piece.len;
    if ((reply->status < 300 && f->failure.code) || f->skipped > MAX_ERROR_PAGE) {
        if (!f->failure.code) {
            error_set(&f->failure, ERR_FORMAT, "%s: a redirect has an endless page.", f->o.what);
        }
        refuse(f);
    }
}

static void on_data(void *arg, const struct http_reply *reply, struct str piece)
{
    struct hub_fetch *f = arg;
    if (f->ended) {
        return;
    }
    if (!f->accepted) {
        skip(f, reply, piece);
        return;
    }
    if (piece.len > f->o.size - f->received) {
        f->accepted = false;
        error_set(&f->failure, ERR_FORMAT, "%s: more than the %llu bytes that may come.", f->o.what,
                  (unsigned long long)f->o.size);
        refuse(f);
        return;
    }
    f->received += piece.len;
    f->attempts = 0;
    f->o.on_data(f->o.arg, piece);
}

/* ---- another attempt, or none ---- */

static void restart(struct hub_fetch *f)
{
    snprintf(f->now, FETCH_URL_MAX, "%s", f->url);
    f->redirects = 0;
}

/* A storage that refuses: the signature of the URL has run out, and the Hub makes a new one. */
static bool may_ask_the_hub_again(const struct hub_fetch *f)
{
    return (f->failure.code == ERR_FORBIDDEN || f->failure.code == ERR_UNAUTHENTICATED) &&
           !hub_same_origin(f->now, f->c.settings->endpoint) && strncmp(f->now, f->url, FETCH_URL_MAX) != 0;
}

static bool is_worth_another(const struct hub_fetch *f)
{
    static const enum error_code codes[] = {ERR_UNAVAILABLE, ERR_DEADLINE, ERR_PROTOCOL, ERR_RATE_LIMITED, ERR_TIMEOUT};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (f->failure.code == codes[i]) {
            return true;
        }
    }
    return may_ask_the_hub_again(f);
}

static int64_t wait_of(const struct hub_fetch *f)
{
    int64_t most = FIRST_WAIT_MS;
    for (int i = 1; i < f->attempts && most < MAX_WAIT_MS; i++) {
        most *= 2;
    }
    most = most < MAX_WAIT_MS ? most : MAX_WAIT_MS;
    return f->retry_after_s ? f->retry_after_s * 1000 : (int64_t)(rng_entropy64() % (uint64_t)(most + 1));
}

static int attempts_of(const struct hub_fetch *f)
{
    return f->received || f->has_worked ? FETCH_ATTEMPTS_LATER : FETCH_ATTEMPTS;
}

static void try_again_or_end(struct hub_fetch *f)
{
    bool worth = is_worth_another(f), again = worth && ++f->attempts < attempts_of(f);
    if (worth && f->retry_after_s > FETCH_MAX_WAIT_S) {
        error_set(&f->failure, f->failure.code, "%s: the server is busy and asks to wait %lld seconds.", f->o.what,
                  (long long)f->retry_after_s);
        f->failure.retry_after_s = (int32_t)(f->retry_after_s < INT32_MAX ? f->retry_after_s : INT32_MAX);
        again = false;
    }
    if (!again) {
        end_later(f);
        return;
    }
    int64_t wait_ms = wait_of(f);
    if (f->o.on_wait) {
        f->o.on_wait(f->o.arg, &f->failure, wait_ms);
    }
    restart(f);
    loop_timer_start(f->timer, wait_ms, 0);
}

/* Of a part all bytes count, however the connection ends: behind them there is nothing to ask for. */
static bool came_whole(const struct hub_fetch *f)
{
    return f->accepted && (f->o.ranged ? f->received == f->o.size : !f->failure.code);
}

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct hub_fetch *f = arg;
    (void)reply;
    f->call = NULL;
    if (err && !f->failure.code) {
        f->failure = *err;
        error_wrap(&f->failure, err->code == ERR_UNAVAILABLE ? "%s: the Hub cannot be reached" : "%s", f->o.what);
    }
    if (f->redirected && !f->failure.code) {
        fetch_start_call(f);
    } else if (came_whole(f)) {
        f->failure = (struct error){0};
        end_later(f);
    } else if (!f->failure.code) {
        error_set(&f->failure, ERR_PROTOCOL, "%s: the reply ended early.", f->o.what);
        try_again_or_end(f);
    } else if (!f->o.ranged && f->received && is_worth_another(f)) { /* half a reply cannot be gone on with */
        end_later(f);
    } else {
        try_again_or_end(f);
    }
}

/* ---- asking ---- */

static void fetch_start_call(struct hub_fetch *f)
{
    const struct hub_settings *s = f->c.settings;
    char range[80], token[HUB_TOKEN_MAX + 8];
    struct http_header headers[2];
    size_t n = 0;
    uint64_t from = f->o.from + f->received, last = f->o.from + f->o.size - 1;
    if (f->o.ranged && (from > 0 || f->o.size < f->o.total)) {
        snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)from, (unsigned long long)last);
        headers[n++] = (struct http_header){STR("range"), str_of(range)};
    }
    if (s->token[0] && hub_same_origin(f->now, s->endpoint)) {
        snprintf(token, sizeof token, "Bearer %s", s->token);
        headers[n++] = (struct http_header){STR("authorization"), str_of(token)};
    }
    f->accepted = f->redirected = false;
    f->skipped = 0;
    f->retry_after_s = 0;
    f->failure = (struct error){0};
    f->call =
        http_call_start(f->c.http,
                        &(struct http_call_options){
                            .url = f->now,
                            .headers = headers,
                            .n_headers = n,
                            .connect_timeout_ms = CONNECT_TIME_MS,
                            .idle_timeout_s = IDLE_TIMEOUT_S,
                            .max_reply = UINT64_MAX,
                            .events = {.on_headers = on_headers, .on_data = on_data, .on_done = on_done, .arg = f}},
                        &f->failure);
    memory_wipe(token, sizeof token);
    if (!f->call) {
        error_wrap(&f->failure, "%s", f->o.what);
        end_later(f);
    }
}

static void on_timer(void *arg)
{
    struct hub_fetch *f = arg;
    if (!f->ended) {
        fetch_start_call(f);
        return;
    }
    f->o.on_done(f->o.arg, f->failure.code ? &f->failure : NULL);
}

/* ---- life ---- */

struct hub_fetch *hub_fetch_start(const struct hub_fetch_context *c, const struct hub_fetch_options *options,
                                  struct error *err)
{
    const char *first = options->location ? options->location : options->url;
    if (strlen(options->url) >= FETCH_URL_MAX || strlen(first) >= FETCH_URL_MAX) {
        error_set(err, ERR_INVALID, "the URL of '%.100s' is longer than %d bytes.", options->what, FETCH_URL_MAX);
        return NULL;
    }
    struct hub_fetch *f = calloc(1, sizeof *f);
    if (f) {
        f->c = *c;
        f->o = *options;
        f->has_worked = options->location != NULL;
        f->url = strdup(options->url);
        f->now = malloc(FETCH_URL_MAX);
        f->timer = loop_timer_create(c->loop, on_timer, f);
    }
    if (!f || !f->url || !f->now || !f->timer) {
        hub_fetch_free(f);
        error_set(err, ERR_NO_MEMORY, "no memory for a request to the Hub.");
        return NULL;
    }
    snprintf(f->now, FETCH_URL_MAX, "%s", first);
    loop_timer_start(f->timer, 0, 0);
    return f;
}

void hub_fetch_free(struct hub_fetch *f)
{
    if (f) {
        if (f->call) {
            http_call_cancel(f->call);
        }
        loop_timer_free(f->timer);
        free(f->url);
        free(f->now);
        free(f);
    }
}

const char *hub_fetch_location(const struct hub_fetch *f)
{
    return f->now;
}
