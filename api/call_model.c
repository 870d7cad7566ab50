/* Which model a call is for, with which adapter, and how both are called in what is said of it. */
#include "api/api_internal.h"

#include "pipeline/adapter_set.h"

/* To Ollama's clients every name has a tag. */
struct served_model *api__find_model(struct call *c)
{
    static const char tag[] = ":latest";
    struct str name = c->request.model;
    struct gateway *g = c->app->gateway;
    struct served_model *m = gateway_model_find(g, name, &c->adapter_name);
    if (!m && str_starts(str_of(c->route->path), STR("/api/")) && str_ends(name, str_of(tag))) {
        m = gateway_model_find(g, str_slice(name, 0, name.len - strlen(tag)), &c->adapter_name);
    }
    return m;
}

/* What the request does not say about sampling, its model's options do. */
static void take_defaults(struct gen_request *r, const struct sampling *own)
{
#define X(name, ...)                                                                   \
    if (!(r->sampling_given >> offsetof(struct sampling, name) / sizeof(float) & 1)) { \
        r->sampling.name = own->name;                                                  \
    }
    SAMPLING_TABLE(X)
#undef X
}

void api__call_apply_model(struct call *c)
{
    take_defaults(&c->request, &served_model_options(c->model)->default_sampling);
    if (c->adapter) {
        c->request.adapter = c->adapter->number;
        c->request.adapter_digest = c->adapter->facts.digest;
    }
}

void api__call_set_model(struct call *c, struct served_model *m)
{
    served_model_hold(m);
    c->model = m;
    api__call_apply_model(c);
}

bool api__name_at(struct served_model *m, size_t i, struct listed_name *out)
{
    for (size_t k = 0; k < served_model_n_names(m); k++) {
        out->text = served_model_name_at(m, k);
        if (!strpbrk(out->text, "*?") && i-- == 0) {
            out->adapter = NULL;
            return true;
        }
    }
    out->adapter = adapter_set_at(served_model_adapters(m), i);
    if (out->adapter) {
        served_model_adapter_id(m, str_of(out->adapter->name), out->whole);
        out->text = out->whole;
    }
    return out->adapter != NULL;
}

bool api__call_take_adapter(struct call *c, struct error *err)
{
    struct served_adapter *a = c->adapter_name.len ? served_model_adapter(c->model, c->adapter_name) : NULL;
    if (!c->adapter_name.len) {
        return true;
    }
    if (!a) { /* it has gone since its name was found */
        return gateway_model_missing(c->app->gateway, c->request.model, err);
    }
    if (a->refused && c->route->work != api__work_nothing) {
        return error_set_param(err, ERR_UNAVAILABLE, "model", "the adapter '%s' cannot be loaded: %.200s", a->name,
                               a->failure.msg);
    }
    served_model_hold_adapter(c->model, a);
    c->adapter = a;
    api__call_apply_model(c);
    served_model_adapter_id(c->model, c->adapter_name, c->served_name);
    return true;
}

void api__call_leave_model(struct call *c)
{
    if (c->adapter) {
        served_model_release_adapter(c->model, c->adapter);
    }
    served_model_release(c->model);
}

const char *api__call_served_name(const struct call *c)
{
    return c->adapter ? c->served_name : served_model_name(c->model);
}

const char *api__call_fingerprint(const struct call *c, char out[17])
{
    const struct engine_info *info = served_model_info(c->model);
    if (!info || !c->adapter) {
        return info ? info->fingerprint : "";
    }
    adapter_fingerprint(&c->adapter->facts.digest, info->fingerprint, out);
    return out;
}
