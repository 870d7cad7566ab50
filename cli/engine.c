/* `tandem engine`: what serve starts for each model. */
#include "cli/commands.h"

#include "base/sys_proc.h"
#include "engine/process.h"

#include <string.h>

/* Where adapters may lie: those of --lora, and the folder of --lora-dir. */
static int list_adapter_paths(const struct options *o, const char *out[OPTIONS_MAX_LIST + 1])
{
    int n = 0;
    for (int i = 0; i < o->loras.n; i++) {
        const char *equals = strchr(o->loras.items[i], '=');
        out[n++] = equals ? equals + 1 : o->loras.items[i];
    }
    if (o->lora_dir) {
        out[n++] = o->lora_dir;
    }
    return n;
}

int command_engine(const struct options *o)
{
    struct error err = {0};
    struct engine_process_options p = {.engine = engine_options_default(),
                                       .socket_fd = (int)o->socket_fd,
                                       .pool_fd = (int)o->pool_fd,
                                       .watch_fd = (int)o->watch_fd,
                                       .epoch = (uint32_t)o->epoch,
                                       .sandbox = o->sandbox,
                                       .seals_fd = (int)o->seals_fd,
                                       .seals_size = (size_t)o->seals_size};
    struct engine_options *e = &p.engine;
    sys_ignore_sighup(); /* it is the gateway's, and may be sent to both */
    if (o->socket_fd < 0 || !o->model) {
        error_set(&err, ERR_INVALID, "`tandem engine` is started by `tandem serve`; it needs --socket-fd and --model.");
        return command_fail(&err);
    }
    struct backend_words words = options_backend(o);
    if (!backend_options_parse(&words, &e->backend, &err) || !kv_type_parse(o->kv_type, &e->kv_type, &err) ||
        !options_speculation(o, &e->speculation, &err) || !options_kv_disk(o, &e->kv_disk_size, &err)) {
        return command_fail(&err);
    }
    e->model_path = o->model;
    e->overrides = o->overrides.items;
    e->n_overrides = o->overrides.n;
    e->rope_scaling = o->rope_scaling;
    e->backend.cpu.n_threads = (int)o->threads;
    e->pool_size = (size_t)o->pool_size;
    e->max_context = (uint32_t)o->max_context;
    e->max_batch_tokens = (uint32_t)o->max_batch_tokens;
    e->max_sequences = (uint32_t)o->max_sequences;
    e->max_waiting = (uint32_t)o->max_waiting;
    e->prefill_chunk = (uint32_t)o->prefill_chunk;
    e->prefix_cache = o->prefix_cache;
    e->reserve_output = o->reserve_output;
    e->kv_disk_dir = o->kv_disk_dir;
    e->max_drafts = (uint32_t)o->max_draft_tokens;
    e->draft_model_path = o->draft_model;
    e->draft_pool_size = (size_t)o->draft_kv_memory;
    e->max_itl_factor = o->max_itl_factor;
    e->script_path = o->script;
    const char *adapter_paths[OPTIONS_MAX_LIST + 1];
    e->adapter_paths = adapter_paths;
    e->n_adapter_paths = list_adapter_paths(o, adapter_paths);
    e->build = tandem_build();
    p.fault = o->fault;
    return engine_process_run(&p);
}
