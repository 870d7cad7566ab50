/* GET /v1/models in Anthropic's shape: a page of a list that goes on behind or before an id. */
#include "api/anthropic/anthropic.h"

#include <stdio.h>
#include <time.h>

#define LIST_MAX      MIB(4)
#define DEFAULT_LIMIT 20
#define MAX_LIMIT     1000

struct listed { /* one name of a model */
    struct served_model *model;
    struct listed_name name;
};

static void put_time(struct json_writer *w, const char *key, int64_t seconds)
{
    char text[32] = "1970-01-01T00:00:00Z";
    time_t t = (time_t)seconds;
    struct tm utc;
    if (gmtime_r(&t, &utc)) {
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    json_member_cstr(w, key, text);
}

static void put_model(struct json_writer *w, struct served_model *m, struct str name)
{
    bool open = served_model_is_open(m);
    json_begin_object(w);
    json_member_cstr(w, "type", "model");
    json_member_str(w, "id", name);
    json_member_str(w, "display_name", name);
    put_time(w, "created_at", served_model_created_s(m));
    json_member_cstr(w, "lifecycle", "active");
    if (open) {
        uint32_t n_context = pipeline_n_context(served_model_pipeline(m));
        json_member_uint(w, "max_input_tokens", n_context - 1);
        json_member_uint(w, "max_tokens", n_context - 1);
    } else { /* nobody has asked for it yet, so its file was not read */
        json_member_null(w, "max_input_tokens");
        json_member_null(w, "max_tokens");
    }
    json_end_object(w);
}

/* The i-th of all models; false: there are fewer. */
static bool name_at(struct gateway *g, size_t i, struct listed *out)
{
    for (size_t m = 0; m < gateway_n_models(g); m++) {
        out->model = gateway_model_at(g, m);
        for (size_t k = 0; api__name_at(out->model, k, &out->name); k++) {
            if (i-- == 0) {
                return true;
            }
        }
    }
    return false;
}

struct page { /* [from, to) of the names, and whether there are more that way */
    size_t from, to;
    bool more;
};

static bool read_limit(const struct http_request *head, size_t *limit, struct error *err)
{
    struct buf text;
    uint64_t n = DEFAULT_LIMIT;
    buf_init(&text, KIB(1));
    bool given = http_query_get(head, "limit", &text);
    bool ok = !given || (str_to_u64(buf_view(&text), &n) && n >= 1 && n <= MAX_LIMIT);
    buf_release(&text);
    *limit = (size_t)n;
    return ok || error_set_param(err, ERR_INVALID, "limit", "limit: a number from 1 to %d is expected.", MAX_LIMIT);
}

/* Where the id of a cursor stands among the n names; n: there is no such parameter. */
static bool find_cursor(struct gateway *g, const struct http_request *head, const char *parameter, size_t n, size_t *at,
                        struct error *err)
{
    struct buf id;
    struct listed listed;
    bool ok = true;
    *at = n;
    buf_init(&id, KIB(1));
    if (http_query_get(head, parameter, &id)) {
        for (*at = 0; *at < n && name_at(g, *at, &listed) && !str_eq(buf_view(&id), str_of(listed.name.text)); ++*at) {
        }
        ok = *at < n || error_set_param(err, ERR_INVALID, parameter, "%s: no model has the id '%.100s'.", parameter,
                                        id.data ? id.data : "");
    }
    buf_release(&id);
    return ok;
}

static bool find_page(struct gateway *g, const struct http_request *head, size_t n, struct page *page,
                      struct error *err)
{
    size_t limit, after, before;
    if (!read_limit(head, &limit, err) || !find_cursor(g, head, "after_id", n, &after, err) ||
        !find_cursor(g, head, "before_id", n, &before, err)) {
        return false;
    }
    page->from = after < n ? after + 1 : before < n && before > limit ? before - limit : 0;
    page->to = page->from + limit < before ? page->from + limit : before;
    page->more = before < n ? page->from > 0 : page->to < n;
    return true;
}

static void put_id(struct gateway *g, struct json_writer *w, const char *key, bool any, size_t i)
{
    struct listed listed;
    json_member_cstr(w, key, any && name_at(g, i, &listed) ? listed.name.text : NULL);
}

void api__anthropic_models(struct app *a, struct http_exchange *x)
{
    struct error err = {0};
    struct listed listed;
    struct page page;
    struct buf out;
    size_t n = 0;
    while (name_at(a->gateway, n, &listed)) {
        n++;
    }
    if (!find_page(a->gateway, http_request_of(x), n, &page, &err)) {
        api__reply_error(x, &err);
        return;
    }
    bool any = page.from < page.to;
    buf_init(&out, LIST_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = page.from; i < page.to && name_at(a->gateway, i, &listed); i++) {
        put_model(&w, listed.model, str_of(listed.name.text));
    }
    json_end_array(&w);
    json_member_bool(&w, "has_more", any && page.more);
    put_id(a->gateway, &w, "first_id", any, page.from);
    put_id(a->gateway, &w, "last_id", any, page.to - 1);
    json_end_object(&w);
    api__reply_json(x, &out);
}

void api__anthropic_model(struct http_exchange *x, struct served_model *m, struct str name)
{
    struct buf out;
    buf_init(&out, LIST_MAX);
    struct json_writer w = json_writer(&out);
    put_model(&w, m, name);
    api__reply_json(x, &out);
}
