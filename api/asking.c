#include "api/asking.h"

#include <stdio.h>
#include <stdlib.h>

static void on_gone(void *arg)
{
    ((struct asking *)arg)->x = NULL;
}

void asking__free(struct asking *q)
{
    struct app *a = q->app;
    free(q->after);
    free(q);
    api__release(a);
}

void asking__fail(struct asking *q, const struct error *err)
{
    if (q->x) {
        api__reply_error(q->x, err);
    }
    asking__free(q);
}

struct asking *asking__create(struct app *a, struct http_exchange *x, struct str id)
{
    struct error err = {0};
    struct asking *q = a->kept ? calloc(1, sizeof *q) : NULL;
    if (!q) {
        if (a->kept) {
            error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
        } else {
            error_set(&err, ERR_NOT_FOUND, "This server keeps no requests: it was started without --journal.");
        }
        api__reply_error(x, &err);
        return NULL;
    }
    struct str key = api__exchange_key(a, x);
    *q = (struct asking){.app = a, .x = x};
    snprintf(q->id, sizeof q->id, STR_FMT, STR_ARG(id));
    snprintf(q->key_name, sizeof q->key_name, STR_FMT, STR_ARG(key));
    api__hold(a);
    http_on_gone(x, on_gone, q);
    return q;
}

/* ---- answers ---- */

void asking__reply(struct asking *q, struct buf *body)
{
    if (q->x) {
        api__reply_json(q->x, body);
    }
    buf_release(body);
    asking__free(q);
}

void asking__reply_deleted(struct asking *q, const char *object)
{
    struct buf out;
    buf_init(&out, KIB(1));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "id", q->id);
    json_member_cstr(&w, "object", object);
    json_member_bool(&w, "deleted", true);
    json_end_object(&w);
    asking__reply(q, &out);
}

struct json_writer asking__begin_list(struct buf *out)
{
    buf_init(out, LIMIT_HTTP_REPLY);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    return w;
}

void asking__reply_list(struct asking *q, struct json_writer *w, struct str first, struct str last, bool more)
{
    json_end_array(w);
    json_member_str_or_null(w, "first_id", first);
    json_member_str_or_null(w, "last_id", last);
    json_member_bool(w, "has_more", more);
    json_end_object(w);
    asking__reply(q, w->out);
}

void asking__put_time(struct json_writer *w, const char *key, int64_t seconds)
{
    json_key(w, key);
    if (seconds > 0 && seconds < INT64_MAX) {
        json_put_int(w, seconds);
    } else {
        json_put_null(w);
    }
}

/* ---- queries ---- */

bool asking__query_str(const struct http_request *head, const char *name, struct buf *out)
{
    buf_init(out, LIMIT_HTTP_LINE);
    return http_query_get(head, name, out);
}

bool asking__query_bool(const struct http_request *head, const char *name, bool *out, struct error *err)
{
    struct buf value;
    bool given = asking__query_str(head, name, &value), ok = true;
    *out = given && (value.len == 0 || str_eq(buf_view(&value), STR("true")) || str_eq(buf_view(&value), STR("1")));
    if (given && !*out && !str_eq(buf_view(&value), STR("false")) && !str_eq(buf_view(&value), STR("0"))) {
        ok = error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': expected true or false.", name);
    }
    buf_release(&value);
    return ok;
}

bool asking__query_limit(const struct http_request *head, uint32_t fallback, uint32_t most, uint32_t *out,
                         struct error *err)
{
    struct buf value;
    uint64_t number = fallback;
    bool ok = !asking__query_str(head, "limit", &value) ||
              (str_to_u64(buf_view(&value), &number) && number >= 1 && number <= most) ||
              error_set_param(err, ERR_INVALID, "limit", "Invalid value for 'limit': expected 1 to %u.", most);
    *out = (uint32_t)number;
    buf_release(&value);
    return ok;
}

bool asking__query_order(const struct http_request *head, bool *ascends, struct error *err)
{
    struct buf value;
    bool given = asking__query_str(head, "order", &value);
    *ascends = given && str_eq(buf_view(&value), STR("asc"));
    bool ok = !given || *ascends || str_eq(buf_view(&value), STR("desc")) ||
              error_set_param(err, ERR_INVALID, "order", "Invalid value for 'order': expected asc or desc.");
    buf_release(&value);
    return ok;
}

bool asking__check_query(const struct http_request *head, const char *const *known, size_t n_known, struct error *err)
{
    struct str rest = head->query, part;
    while (str_split(&rest, '&', &part)) {
        size_t equals = str_find_char(part, '=');
        struct str name = str_slice(part, 0, equals == STR_NPOS ? part.len : equals);
        bool found = part.len == 0;
        for (size_t i = 0; i < n_known; i++) {
            struct str bare = str_ends(name, STR("[]")) ? str_slice(name, 0, name.len - 2) : name;
            found = found || str_eq(bare, str_of(known[i]));
        }
        if (!found) {
            return error_set_param(err, ERR_INVALID, "query", "Unknown query parameter '" STR_FMT "'.",
                                   STR_ARG(str_slice(name, 0, 60)));
        }
    }
    return true;
}
