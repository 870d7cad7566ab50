/* Adapters of a model: read on the caller's thread, given to the engine on the event thread; named by requests on any.
 */
#include "lib/tandem_internal.h"

#include "base/sys_locale.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- of requests ---- */

bool adapter__hold(const struct tandem_model *m, const char *name, struct gen_request *r, struct error *err)
{
    if (!name) {
        return true;
    }
    r->adapter = local_adapters_hold(m->adapters, str_of(name), &r->adapter_digest);
    return r->adapter ||
           error_set_param(err, ERR_NOT_FOUND, "adapter", "The model has no adapter with the name '%.100s'.", name);
}

void adapter__release(const struct tandem_model *m, struct gen_request *r)
{
    uint32_t number = r->adapter;
    r->adapter = 0;
    local_adapters_release(m->adapters, number);
}

/* ---- the event thread ---- */

void adapter__take_orders(struct tandem_model *m)
{
    struct adapter_load *load;
    while (queue_pop(m->adapter_inbox, &load)) {
        local_adapters_load(m->adapters, load);
    }
}

void adapter__refuse_orders(struct tandem_model *m)
{
    struct adapter_load *load;
    struct error err = {0};
    error_set(&err, ERR_CANCELLED, "The model is being freed.");
    while (queue_pop(m->adapter_inbox, &load)) {
        load->fn(load->arg, &err);
    }
}

/* ---- loading, on the caller's thread ---- */

static void on_loaded(void *arg, const struct error *err)
{
    (void)!queue_push(arg, err); /* there is room: it is called once */
}

/* The whole path: the program may go to another folder before the file is read again. */
static bool read_file(const char *path, char whole[PATH_MAX], struct adapter_facts *facts, struct error *err)
{
    if (!adapter_facts_read(path, facts, err)) {
        return false;
    }
    return realpath(path, whole) || error_set(err, ERR_IO, "'%.150s' cannot be found: %s.", path, strerror(errno));
}

static bool hand_over(struct tandem_model *m, struct adapter_load *load, struct error *err)
{
    if (queue_push(m->adapter_inbox, &load)) {
        loop_signal_send(m->signal);
        return true;
    }
    if (queue_closed(m->adapter_inbox)) {
        return error_set(err, ERR_CANCELLED, "The model is being freed.");
    }
    return error_set(err, ERR_OVERLOADED, "%d adapters wait to be loaded, and no more may.", ADAPTER_INBOX);
}

static bool load_and_wait(struct tandem_model *m, const char *name, const char *path, struct error *err)
{
    char whole[PATH_MAX];
    struct error why = {0};
    struct queue *done = queue_create(sizeof why, 1);
    struct adapter_load load = {.name = name, .path = whole, .fn = on_loaded, .arg = done};
    if (!done) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory to load an adapter.");
    }
    bool ok = read_file(path, whole, &load.facts, err) && hand_over(m, &load, err);
    if (ok) {
        ok = queue_wait(done, &why, -1) && !why.code;
        *err = why;
    }
    queue_free(done);
    return ok;
}

static bool check_texts(const struct tandem_model *m, const char *name, const char *path, struct error *err)
{
    if (model__is_own_thread(m)) {
        return error_set(err, ERR_INVALID, "A callback may not wait for an adapter.");
    }
    if (!path) {
        return error_set_param(err, ERR_INVALID, "path", "The path of the adapter is NULL.");
    }
    if (!name) {
        return error_set_param(err, ERR_INVALID, "name", "The name of the adapter is NULL.");
    }
    return adapter_name_check(str_of(name), "name", err);
}

bool tandem_model_load_adapter(struct tandem_model *model, const char *name, const char *path,
                               struct tandem_error *error)
{
    struct error err = {0};
    void *outside = sys_locale_use(model->locale);
    bool ok = check_texts(model, name, path, &err) && load_and_wait(model, name, path, &err);
    sys_locale_use(outside);
    if (!ok) {
        error__give(error, &err);
    }
    return ok;
}

/* ---- any thread ---- */

bool tandem_model_unload_adapter(struct tandem_model *model, const char *name, struct tandem_error *error)
{
    struct error err = {0};
    if (name && local_adapters_unload(model->adapters, str_of(name))) {
        return true;
    }
    error_set_param(&err, ERR_NOT_FOUND, "name", "The model has no adapter with the name '%.100s'.", name ? name : "");
    error__give(error, &err);
    return false;
}

bool tandem_model_get_adapter(const struct tandem_model *model, uint32_t index, struct tandem_adapter_info *info)
{
    const struct engine_port *port = local_port_port(model->port);
    struct local_adapter adapter;
    if (!local_adapters_get(model->adapters, index, &adapter)) {
        return false;
    }
    struct tandem_adapter_info all = {.rank = (uint32_t)adapter.facts.rank,
                                      .n_weights = (uint32_t)adapter.facts.n_parts,
                                      .n_running = adapter.n_users,
                                      .alpha = adapter.facts.alpha,
                                      .memory_size = adapter.facts.memory_size};
    static_assert(sizeof all.name == sizeof adapter.name, "its name fits");
    memcpy(all.name, adapter.name, sizeof all.name);
    adapter_fingerprint(&adapter.facts.digest, port->ops->info(port)->fingerprint, all.fingerprint);
    options__give(info, info->size, &all, sizeof all);
    return true;
}
