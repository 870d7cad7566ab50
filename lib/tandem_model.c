/* A model and its event thread, which makes everything that belongs to the loop and takes it down again. */
#include "lib/tandem_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "base/sys_locale.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "lib/version.h"

#include <fenv.h>
#include <signal.h>
#include <stdlib.h>

#define KV_DEFAULT   GIB(1)
#define LOOP_WORKERS 1 /* nothing here gives them work; a loop has one at least */

struct load_result {
    bool ok;
    struct error error;
};

bool model__is_own_thread(const struct tandem_model *m)
{
    return pthread_equal(m->thread, pthread_self());
}

/* ---- loading, on the event thread ---- */

static bool choose_engine(const struct tandem_model_options *o, struct engine_options *e, struct error *err)
{
    struct backend_words words = {
        .backend = o->backend, .cpu_kernels = o->cpu_kernels, .mlx_device = o->mlx_device, .mlx_type = o->mlx_type};
    uint64_t quarter = sys_memory().available / 4;
    e->pool_size = (size_t)(o->kv_memory ? o->kv_memory : quarter < KV_DEFAULT ? quarter : KV_DEFAULT);
    e->backend.cpu.n_threads = (int)(o->threads < INT16_MAX ? o->threads : INT16_MAX);
    e->max_context = o->max_context;
    e->max_sequences = o->max_sequences;
    e->max_batch_tokens = o->max_batch_tokens;
    e->prefix_cache = o->prefix_cache;
    e->draft_model_path = o->draft_model;
    e->build = tandem_build();
    e->progress = o->progress;
    e->progress_arg = o->progress_arg;
    return backend_options_parse(&words, &e->backend, err) &&
           (!o->kv_type || kv_type_parse(o->kv_type, &e->kv_type, err)) &&
           (!o->speculation || speculation_parse(str_of(o->speculation), &e->speculation, err));
}

static bool load_engine(struct tandem_model *m, struct error *err)
{
    struct engine_options e = engine_options_default();
    e.model_path = m->path;
    if (!choose_engine(&m->options, &e, err)) {
        return false;
    }
    struct engine *engine = engine_create(&e, err);
    return engine && (m->port = local_port_create(m->loop, engine, err));
}

/* A model without a template completes prompts, and refuses chats. */
static bool load_chat(struct tandem_model *m, struct error *err)
{
    struct error why = {0};
    if (m->options.chat_template) {
        m->chat = chat_template_create(str_of(m->options.chat_template), m->tokenizer, err);
        return m->chat || error_wrap(err, "chat_template");
    }
    m->chat = chat_template_from_model_file(m->file, m->tokenizer, &why);
    if (!m->chat && why.code != ERR_NOT_FOUND) {
        LOG_WARN("the chat template is not usable", "reason=\"%s\"", why.msg);
    }
    return true;
}

static bool load(struct tandem_model *m, struct error *err)
{
    const struct tandem_model_options *o = &m->options;
    if (!(m->file = model_file_open(m->path, err)) || !(m->tokenizer = tokenizer_from_model_file(m->file, err)) ||
        !load_chat(m, err) || !output_formats_choose(o->tool_format, o->reasoning_format, m->chat, &m->formats, err) ||
        !load_engine(m, err)) {
        return false;
    }
    struct pipeline_options p = {.tokenizer = m->tokenizer,
                                 .chat = m->chat,
                                 .formats = m->formats,
                                 .port = local_port_port(m->port),
                                 .n_context = UINT32_MAX,
                                 .default_max_tokens = -1};
    m->pipeline = pipeline_create(&p, err);
    return m->pipeline && (m->adapters = local_adapters_create(m->loop, m->port, err));
}

static void unload(struct tandem_model *m)
{
    pipeline_free(m->pipeline);
    local_port_free(m->port);
    local_adapters_free(m->adapters); /* the engine says nothing any more */
    adapter__refuse_orders(m);
    chat_template_free(m->chat);
    tokenizer_free(m->tokenizer);
    model_file_close(m->file);
}

/* ---- the event thread ---- */

static void begin_new(struct tandem_model *m)
{
    struct tandem_generation *g;
    while (queue_pop(m->inbox, &g)) {
        generation__begin_here(g);
    }
}

static void cancel_marked(struct tandem_model *m, bool all)
{
    for (struct tandem_generation *g = m->first, *next; g; g = next) {
        next = g->next;
        if (all || atomic_load(&g->stopped)) {
            generation__cancel_here(g);
        }
    }
}

static void on_signal(void *arg)
{
    struct tandem_model *m = arg;
    bool closing = atomic_load(&m->closing); /* once: it may be set during a callback below, and is signalled then */
    begin_new(m);
    adapter__take_orders(m);
    cancel_marked(m, closing);
    if (closing) {
        loop_stop(m->loop);
    }
}

static bool make_loop(struct tandem_model *m, struct error *err)
{
    m->loop = loop_create(LOOP_WORKERS, err);
    if (m->loop && !(m->signal = loop_signal_create(m->loop, on_signal, m))) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a model's events.");
    }
    return m->loop != NULL;
}

static void *run(void *arg)
{
    struct tandem_model *m = arg;
    struct load_result result = {0};
    sys_name_thread("tandem-events");
    m->locale_outside = sys_locale_use(m->locale);
    fesetenv(FE_DFL_ENV); /* threads inherit it: the program's rounding and flushing would change answers */
    result.ok = make_loop(m, &result.error) && load(m, &result.error);
    bool told = queue_push(m->loaded, &result);
    if (result.ok && told) {
        loop_run(m->loop);
    }
    unload(m);
    sys_locale_use(m->locale_outside);
    return NULL;
}

/* Every thread of the model comes from this one and has its mask: signals are for the program's own threads. A fault is
 * the thread's own: blocked, it would end the process without the program's handler, also in a callback. */
static bool start_thread(struct tandem_model *m, struct error *err)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        sigdelset(&all, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&m->thread, NULL, run, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 || error_set(err, ERR_NO_MEMORY, "The thread of a model could not be started.");
}

/* ---- the handle ---- */

/* The thread has ended, or was never there. The signal lives until the last handle of a generation has gone: who
 * cancels or frees one sends it, maybe after the thread has ended. */
void model__release(struct tandem_model *m)
{
    if (atomic_fetch_sub(&m->n_owners, 1) != 1) {
        return;
    }
    loop_signal_free(m->signal);
    if (m->loop) {
        loop_free(m->loop);
    }
    queue_free(m->loaded);
    queue_free(m->inbox);
    queue_free(m->adapter_inbox);
    sys_locale_free(m->locale);
    free(m);
}

static struct tandem_model *create_handle(const char *path, const struct tandem_model_options *options,
                                          struct error *err)
{
    struct tandem_model *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a model.");
        return NULL;
    }
    atomic_init(&m->n_owners, 1);
    tandem_model_options_init(&m->options, sizeof m->options);
    m->path = path;
    m->locale = sys_locale_create();
    m->loaded = queue_create(sizeof(struct load_result), 1);
    m->inbox = queue_create(sizeof(struct tandem_generation *), MODEL_INBOX);
    m->adapter_inbox = queue_create(sizeof(struct adapter_load *), ADAPTER_INBOX);
    if (!m->locale || !m->loaded || !m->inbox || !m->adapter_inbox) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a model.");
    } else if (!path) {
        error_set_param(err, ERR_INVALID, "path", "The path of the model is NULL.");
    } else if (!options ||
               options__take(&m->options, sizeof m->options, options, options->size, "The options of the model", err)) {
        return m;
    }
    model__release(m);
    return NULL;
}

struct tandem_model *tandem_model_load(const char *path, const struct tandem_model_options *options,
                                       struct tandem_error *error)
{
    struct load_result result = {0};
    struct tandem_model *m = create_handle(path, options, &result.error);
    if (!m) {
        error__give(error, &result.error);
        return NULL;
    }
    bool started = start_thread(m, &result.error);
    if (started && queue_wait(m->loaded, &result, -1) && result.ok) {
        m->path = NULL;
        return m;
    }
    if (started) {
        pthread_join(m->thread, NULL);
    }
    model__release(m);
    error__give(error, &result.error);
    return NULL;
}

void tandem_model_free(struct tandem_model *model)
{
    if (!model) {
        return;
    }
    if (model__is_own_thread(model)) {
        LOG_ERROR("a model is not freed in a callback", NULL);
        return;
    }
    queue_close(model->inbox);
    queue_close(model->adapter_inbox);
    atomic_store(&model->closing, true);
    loop_signal_send(model->signal);
    pthread_join(model->thread, NULL);
    model__release(model);
}

void tandem_model_get_info(const struct tandem_model *model, struct tandem_model_info *info)
{
    const struct engine_port *port = local_port_port(model->port);
    const struct engine_info *e = port->ops->info(port);
    const struct special_tokens *special = tokenizer_special(model->tokenizer);
    struct tandem_model_info all = {.architecture = e->arch,
                                    .backend = e->backend,
                                    .fingerprint = e->fingerprint,
                                    .tool_format = output_formats_tools(&model->formats),
                                    .reasoning_format = output_formats_reasoning(&model->formats),
                                    .has_chat_template = model->chat != NULL,
                                    .n_vocab = e->n_vocab,
                                    .n_context = e->n_context,
                                    .max_sequences = e->max_sequences,
                                    .bos = special->bos,
                                    .eos = special->eos,
                                    .n_params = e->n_params,
                                    .weights_size = e->weights_size,
                                    .kv_size = e->kv_size};
    options__give(info, info->size, &all, sizeof all);
}
