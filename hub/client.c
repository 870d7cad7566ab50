#include "hub/client.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

struct hub_client {
    struct hub_client_options options;
    struct hub_fetch_context context;
    struct loop_timer *stop_timer; /* NULL: nobody stops it */
    bool stopped;
};

/* ---- stopping ---- */

bool hub_client_stops(struct hub_client *c, struct error *err)
{
    c->stopped = c->stopped || (c->options.stops && c->options.stops(c->options.arg));
    if (c->stopped) {
        error_set(err, ERR_CANCELLED, "The download was stopped; what has come stays for the next time.");
    }
    return c->stopped;
}

static void look_for_stop(void *arg)
{
    struct hub_client *c = arg;
    struct error ignored;
    if (hub_client_stops(c, &ignored)) {
        loop_stop(c->context.loop);
    }
}

static bool start_looking(struct hub_client *c, struct error *err)
{
    if (!c->options.stops) {
        return true;
    }
    c->stop_timer = loop_timer_create(c->context.loop, look_for_stop, c);
    if (!c->stop_timer) {
        return error_set(err, ERR_NO_MEMORY, "no memory to ask the Hub.");
    }
    loop_timer_start(c->stop_timer, HUB_STOP_POLL_MS, HUB_STOP_POLL_MS);
    return true;
}

/* ---- life ---- */

struct hub_client *hub_client_create(const struct hub_client_options *options, struct error *err)
{
    struct hub_client *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, ERR_NO_MEMORY, "no memory to ask the Hub.");
        return NULL;
    }
    c->options = *options;
    c->context.settings = options->settings;
    if (!(c->context.loop = loop_create(1, err)) ||
        !(c->context.http = http_client_create(
              loop_uv(c->context.loop), &(struct http_client_options){.user_agent = options->user_agent}, err)) ||
        !start_looking(c, err)) {
        hub_client_free(c);
        return NULL;
    }
    c->options.user_agent = NULL; /* the caller's, and not asked for any more */
    return c;
}

void hub_client_free(struct hub_client *c)
{
    if (c && c->context.loop) {
        loop_timer_free(c->stop_timer);
        http_client_free(c->context.http);
        loop_free(c->context.loop); /* runs what the former leaves to it */
    }
    free(c);
}

const struct hub_fetch_context *hub_client_context(const struct hub_client *c)
{
    return &c->context;
}

const struct hub_client_options *hub_client_options(const struct hub_client *c)
{
    return &c->options;
}

bool hub_client_may_ask(const struct hub_client *c, const char *what, struct error *err)
{
    return !c->context.settings->offline ||
           error_set(
               err, ERR_UNAVAILABLE,
               "%.120s is not here whole, and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) keeps Tandem from asking the "
               "Hub: unset it, or name a model that `tandem list` has.",
               what);
}

/* ---- one request ---- */

struct asking {
    struct hub_client *client;
    struct buf *out;
    struct error *err;
    bool ok;
};

static void on_data(void *arg, struct str piece)
{
    struct asking *a = arg;
    buf_append(a->out, piece);
}

static void on_done(void *arg, const struct error *err)
{
    struct asking *a = arg;
    a->ok = err == NULL;
    if (err) {
        *a->err = *err;
    }
    loop_stop(a->client->context.loop);
}

static void on_wait(void *arg, const struct error *err, int64_t wait_ms)
{
    struct asking *a = arg;
    if (a->client->options.on_wait) {
        a->client->options.on_wait(a->client->options.arg, err, wait_ms);
    }
}

static bool ask(struct hub_client *c, const struct hub_fetch_options *options, struct buf *out, struct error *err)
{
    struct asking a = {.client = c, .out = out, .err = err};
    struct hub_fetch_options o = *options;
    o.on_data = on_data;
    o.on_done = on_done;
    o.on_wait = on_wait;
    o.arg = &a;
    if (!hub_client_may_ask(c, options->what, err) || hub_client_stops(c, err)) {
        return false;
    }
    struct hub_fetch *f = hub_fetch_start(&c->context, &o, err);
    if (!f) {
        return false;
    }
    loop_run(c->context.loop);
    hub_fetch_free(f);
    if (!a.ok && hub_client_stops(c, err)) {
        return false;
    }
    return a.ok && buf_ok(out, "the Hub's reply", err);
}

/* ---- URLs ---- */

/* Percent-encodes what is not unreserved (RFC 3986, section 2.3); slash: '/' stays. */
static void put_encoded(struct buf *out, struct str s, bool slash)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || c == '.' || c == '~' || (slash && c == '/');
        if (plain) {
            buf_putc(out, c);
        } else {
            buf_printf(out, "%%%02X", (unsigned char)c);
        }
    }
}

bool hub_client_file_url(const struct hub_client *c, const char *repo, const char *commit, struct str path,
                         struct buf *out, struct error *err)
{
    buf_printf(out, "%s/%s/resolve/%s/", c->context.settings->endpoint, repo, commit);
    put_encoded(out, path, true);
    return buf_ok(out, "the URL of a file", err);
}

/* ---- the API ---- */

bool hub_client_listing(struct hub_client *c, const char *repo, const char *revision, struct arena *arena,
                        struct hub_listing *out, struct error *err)
{
    struct buf url, reply;
    char what[HUB_REPO_MAX + HUB_REVISION_MAX + 2];
    buf_init(&url, FETCH_URL_MAX);
    buf_init(&reply, LIMIT_HUB_REPLY);
    buf_printf(&url, "%s/api/models/%s/revision/", c->context.settings->endpoint, repo);
    put_encoded(&url, str_of(revision), false);
    buf_puts(&url, "?blobs=true");
    snprintf(what, sizeof what, "%s@%s", repo, revision);
    bool ok =
        buf_ok(&url, "the URL of a repository", err) &&
        ask(c, &(struct hub_fetch_options){.url = url.data, .what = what, .size = LIMIT_HUB_REPLY}, &reply, err) &&
        (hub_listing_parse(buf_view(&reply), arena, out, err) || error_wrap(err, "%s", repo));
    buf_release(&url);
    buf_release(&reply);
    return ok;
}

bool hub_client_search(struct hub_client *c, struct str words, int limit, struct arena *arena, struct hub_search *out,
                       struct error *err)
{
    struct buf url, reply;
    buf_init(&url, FETCH_URL_MAX);
    buf_init(&reply, LIMIT_HUB_REPLY);
    buf_printf(&url,
               "%s/api/models?limit=%d&sort=downloads&direction=-1&full=false&search=", c->context.settings->endpoint,
               limit);
    put_encoded(&url, words, false);
    bool ok =
        buf_ok(&url, "what is searched for", err) &&
        ask(c, &(struct hub_fetch_options){.url = url.data, .what = "search", .size = LIMIT_HUB_REPLY}, &reply, err) &&
        hub_search_parse(buf_view(&reply), arena, out, err);
    buf_release(&url);
    buf_release(&reply);
    return ok;
}

bool hub_client_read(struct hub_client *c, const char *repo, const char *commit, const struct hub_file *file,
                     uint64_t from, uint64_t size, struct buf *out, struct error *err)
{
    struct buf url;
    char what[HUB_REPO_MAX + HUB_FILE_MAX + 3];
    if (from >= file->size) {
        return true;
    }
    size = size < file->size - from ? size : file->size - from;
    buf_init(&url, FETCH_URL_MAX);
    snprintf(what, sizeof what, "%s: %s", repo, file->path.ptr);
    struct hub_fetch_options o = {.what = what, .ranged = true, .from = from, .size = size, .total = file->size};
    bool ok = hub_client_file_url(c, repo, commit, file->path, &url, err);
    if (ok) {
        o.url = url.data;
        ok = ask(c, &o, out, err);
    }
    buf_release(&url);
    return ok;
}
