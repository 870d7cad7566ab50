/* `tandem run`: the pipeline and an engine in this process; one answer, or a chat at the terminal. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/precision.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "lib/local_adapters.h"
#include "pipeline/generation.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define RUN_KV_DEFAULT GIB(1)
#define RUN_SEQUENCES  1

struct runner {
    const struct options *options;
    struct loop *loop;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct local_port *port;
    struct local_adapters *adapters; /* NULL: none is wanted */
    struct adapter_load loading;     /* the one of --lora */
    char adapter_name[ADAPTER_NAME_MAX + 1];
    uint32_t adapter; /* its number, once it is loaded; 0: none */
    struct sha256 adapter_digest;
    struct pipeline *pipeline;
    struct generation *generation;
    uv_signal_t sigint;
    struct buf history; /* JSON items of the messages so far, comma-separated */
    size_t system_size; /* bytes of the system message at its front */
    struct buf answer;
    struct gen_usage usage;
    int64_t started_ms, first_ms;
    struct error error;
    uint64_t kv_memory;              /* that --memory leaves; 0: it does not say */
    char draft_path[MODEL_PATH_MAX]; /* empty: no draft model */
    bool failed, interrupted;
};

/* ---- one answer ---- */

static void on_ready(void *arg)
{
    struct runner *r = arg;
    struct gen_event e;
    while (r->generation && generation_next(r->generation, clock_ms(), &e)) {
        if (e.kind == GEN_DELTA) {
            r->first_ms = r->first_ms ? r->first_ms : clock_ms();
            fwrite(e.text.ptr, 1, e.text.len, stdout);
            fflush(stdout);
            buf_append(&r->answer, e.text);
        } else if (e.kind == GEN_DONE || e.kind == GEN_ERROR) {
            r->failed = e.kind == GEN_ERROR;
            r->error = e.error;
            r->usage = e.usage;
            generation_free(r->generation);
            r->generation = NULL;
            loop_stop(r->loop);
        }
    }
}

static void on_sigint(uv_signal_t *handle, int number)
{
    struct runner *r = handle->data;
    (void)number;
    r->interrupted = true;
    if (r->generation) {
        generation_cancel(r->generation);
    } else {
        loop_stop(r->loop);
    }
}

static void fill_request(const struct runner *r, struct gen_request *request)
{
    const struct options *o = r->options;
    request->sampling = o->sampling;
    request->max_tokens = o->max_tokens;
    request->has_seed = o->seed >= 0;
    request->seed = (uint64_t)o->seed;
    request->adapter = r->adapter;
    request->adapter_digest = r->adapter_digest;
    snprintf(request->id, sizeof request->id, "run");
}

/* Runs the request to its end; the arena is the generation's once it has started. */
static bool answer(struct runner *r, struct arena *arena, struct gen_request *request, struct error *err)
{
    fill_request(r, request);
    buf_clear(&r->answer);
    r->first_ms = 0;
    r->started_ms = clock_ms();
    r->interrupted = r->failed = false;
    if (!pipeline_prepare(r->pipeline, request, err) ||
        !(r->generation = generation_start(r->pipeline, request, on_ready, r, err))) {
        arena_free(arena);
        return false;
    }
    loop_run(r->loop);
    fputc('\n', stdout);
    if (r->failed) {
        *err = r->error;
    }
    return !r->failed;
}

static void print_rate(const struct runner *r)
{
    int64_t now = clock_ms(), decode_ms = r->first_ms ? now - r->first_ms : 0;
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    fprintf(stderr, "[%llu prompt tokens (%llu cached), first token after %lld ms, %llu tokens at %.1f/s]\n",
            (unsigned long long)r->usage.prompt_tokens, (unsigned long long)r->usage.cached_tokens,
            (long long)(r->first_ms ? r->first_ms - r->started_ms : 0), (unsigned long long)r->usage.completion_tokens,
            decode_ms > 0 && r->usage.completion_tokens > 1
                ? 1000.0 * (double)(r->usage.completion_tokens - 1) / (double)decode_ms
                : 0);
}

/* ---- chat ---- */

static void add_message(struct buf *history, const char *role, struct str content)
{
    struct json_writer w = {.out = history, .need_comma = history->len > 0};
    json_begin_object(&w);
    json_member_cstr(&w, "role", role);
    json_member_str(&w, "content", content);
    json_end_object(&w);
}

static bool chat_turn(struct runner *r, struct str prompt, struct error *err)
{
    struct gen_request request;
    struct buf text;
    struct arena *arena = arena_create(LIMIT_REQUEST_ARENA);
    size_t before = r->history.len;
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    add_message(&r->history, "user", prompt);
    buf_init(&text, LIMIT_REQUEST_ARENA);
    buf_printf(&text, "[%s]", r->history.data);
    struct json *messages = json_keep(json_parse(buf_view(&text), LIMIT_JSON_DEPTH, err), arena, "request", err);
    buf_release(&text);
    if (!messages) {
        arena_free(arena);
        return false;
    }
    gen_request_init(&request, arena, GEN_CHAT);
    request.messages = messages;
    if (!answer(r, arena, &request, err)) {
        buf_truncate(&r->history, before); /* the turn did not happen */
        return false;
    }
    add_message(&r->history, "assistant", buf_view(&r->answer));
    return true;
}

static bool raw_turn(struct runner *r, struct str prompt, struct error *err)
{
    struct gen_request request;
    struct arena *arena = arena_create(LIMIT_REQUEST_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    gen_request_init(&request, arena, GEN_PROMPTS);
    request.prompts = arena_alloc(arena, sizeof *request.prompts);
    if (!request.prompts) {
        arena_free(arena);
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    request.prompts[0].text = arena_str(arena, prompt);
    request.n_prompts = 1;
    return answer(r, arena, &request, err);
}

static bool turn(struct runner *r, struct str prompt, struct error *err)
{
    bool ok = r->options->raw || !r->chat ? raw_turn(r, prompt, err) : chat_turn(r, prompt, err);
    if (ok) {
        print_rate(r);
    }
    return ok;
}

static int converse(struct runner *r)
{
    char *line = NULL;
    size_t cap = 0;
    struct error err = {0};
    fprintf(stderr,
            "Type a message; /clear forgets the conversation, /quit or end of input leaves, Ctrl-C stops an answer.\n");
    for (;;) {
        fputs("> ", stdout);
        fflush(stdout);
        ssize_t n = getline(&line, &cap, stdin);
        struct str text = n < 0 ? STR("/quit") : str_trim((struct str){line, (size_t)n});
        if (str_eq(text, STR("/quit"))) {
            break;
        }
        if (str_eq(text, STR("/clear"))) {
            buf_truncate(&r->history, r->system_size);
        } else if (text.len && !turn(r, text, &err)) {
            fprintf(stderr, "tandem: %s\n", err.msg);
        }
    }
    free(line);
    return 0;
}

static bool read_stdin(struct buf *out, struct error *err)
{
    char block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0) {
        buf_append_bytes(out, block, n);
    }
    return buf_ok(out, "the prompt", err);
}

/* ---- loading ---- */

static void show_progress(void *arg, float fraction)
{
    (void)arg;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, fraction < 1 ? "\rloading %3.0f%%" : "\r               \r", (double)(100 * fraction));
        fflush(stderr);
    }
}

static bool show_quantizing(void *arg, double fraction)
{
    (void)arg;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, fraction < 1 ? "\rquantizing %3.0f%%" : "\r                \r", 100 * fraction);
        fflush(stderr);
    }
    return true;
}

/* The file to load: the model's own, or one of fewer bits that is made of it. */
static bool find_precision(struct runner *r, char path[MODEL_PATH_MAX], struct error *err)
{
    const struct options *o = r->options;
    struct precision_found found;
    enum kv_type type;
    if (!kv_type_parse(o->kv_type, &type, err)) {
        return false;
    }
    struct precision_wanted wanted = precision_wanted_by(o, type, RUN_SEQUENCES, RUN_SEQUENCES);
    wanted.draft_path = r->draft_path[0] ? r->draft_path : NULL;
    if (!precision_resolve(path, &wanted, show_quantizing, NULL, &found, err)) {
        return false;
    }
    memcpy(path, found.path, MODEL_PATH_MAX);
    r->kv_memory = found.kv_memory;
    return true;
}

static bool make_engine(struct runner *r, const char *path, struct error *err)
{
    const struct options *o = r->options;
    struct engine_options e = engine_options_default();
    uint64_t quarter = sys_memory().available / 4;
    struct backend_words words = options_backend(o);
    if (!backend_options_parse(&words, &e.backend, err) || !kv_type_parse(o->kv_type, &e.kv_type, err) ||
        !options_speculation(o, &e.speculation, err) || !options_kv_disk(o, &e.kv_disk_size, err)) {
        return false;
    }
    e.model_path = path;
    e.overrides = o->overrides.items;
    e.n_overrides = o->overrides.n;
    e.rope_scaling = o->rope_scaling;
    e.backend.cpu.n_threads = (int)o->threads;
    e.pool_size = (size_t)(r->kv_memory               ? r->kv_memory
                           : o->kv_memory             ? o->kv_memory
                           : quarter < RUN_KV_DEFAULT ? quarter
                                                      : RUN_KV_DEFAULT);
    e.max_context = (uint32_t)o->max_context;
    e.max_batch_tokens = (uint32_t)o->max_batch_tokens;
    e.max_sequences = RUN_SEQUENCES;
    e.kv_disk_dir = o->kv_disk_dir;
    e.max_drafts = (uint32_t)o->max_draft_tokens;
    e.draft_model_path = r->draft_path[0] ? r->draft_path : NULL;
    e.draft_pool_size = (size_t)o->draft_kv_memory;
    e.build = tandem_build();
    e.progress = show_progress;
    struct engine *engine = engine_create(&e, err);
    show_progress(NULL, 1);
    return engine && (r->port = local_port_create(r->loop, engine, err));
}

static void on_adapter(void *arg, const struct error *err)
{
    struct runner *r = arg;
    r->error = *err;
    r->adapter = err->code ? 0 : local_adapters_hold(r->adapters, str_of(r->adapter_name), &r->adapter_digest);
    loop_stop(r->loop);
}

/* "NAME=PATH" */
static bool read_adapter(struct runner *r, const char *option, struct error *err)
{
    struct str name;
    if (!adapter_option_split(option, &name, &r->loading.path, err)) {
        return false;
    }
    snprintf(r->adapter_name, sizeof r->adapter_name, STR_FMT, STR_ARG(name));
    r->loading.name = r->adapter_name;
    r->loading.fn = on_adapter;
    r->loading.arg = r;
    return adapter_facts_read(r->loading.path, &r->loading.facts, err) || error_wrap(err, "--lora '%.200s'", option);
}

/* Until the engine has it, or Ctrl-C. */
static bool load_adapter(struct runner *r, struct error *err)
{
    const struct option_list *loras = &r->options->loras;
    if (loras->n == 0) {
        return true;
    }
    if (loras->n > 1) {
        return error_set(err, ERR_INVALID, "--lora: `tandem run` answers with one adapter, but %d are given.",
                         loras->n);
    }
    if (!read_adapter(r, loras->items[0], err) || !(r->adapters = local_adapters_create(r->loop, r->port, err))) {
        return false;
    }
    error_set(&r->error, ERR_CANCELLED, "interrupted.");
    local_adapters_load(r->adapters, &r->loading);
    loop_run(r->loop);
    if (!r->adapter) {
        *err = r->error;
        return error_wrap(err, "--lora '%.200s'", loras->items[0]);
    }
    return true;
}

static bool make_chat(struct runner *r, struct error *err)
{
    struct buf text = {0};
    struct error none = {0};
    if (!r->options->chat_template) {
        r->chat = chat_template_from_model_file(r->file, r->tokenizer,
                                                &none); /* without one the prompt is completed as it is */
        return true;
    }
    bool ok = file_read(r->options->chat_template, MIB(1), &text, err) &&
              (r->chat = chat_template_create(buf_view(&text), r->tokenizer, err));
    buf_release(&text);
    return ok;
}

static bool load(struct runner *r, const char *path, struct error *err)
{
    r->file = model_file_open(path, err);
    for (int i = 0; r->file && i < r->options->overrides.n; i++) {
        if (!model_file_override(r->file, r->options->overrides.items[i], err)) {
            return false;
        }
    }
    if (!r->file || !(r->tokenizer = tokenizer_from_model_file(r->file, err)) || !make_chat(r, err) ||
        !make_engine(r, path, err) || !load_adapter(r, err)) {
        return false;
    }
    struct pipeline_options p = {.tokenizer = r->tokenizer,
                                 .chat = r->chat,
                                 .port = local_port_port(r->port),
                                 .n_context = UINT32_MAX,
                                 .default_max_tokens = -1};
    r->pipeline = pipeline_create(&p, err);
    return r->pipeline != NULL;
}

static void unload(struct runner *r)
{
    pipeline_free(r->pipeline);
    local_port_free(r->port);
    local_adapters_free(r->adapters);
    chat_template_free(r->chat);
    tokenizer_free(r->tokenizer);
    model_file_close(r->file);
    buf_release(&r->history);
    buf_release(&r->answer);
}

static int run_prompt(struct runner *r, struct error *err)
{
    struct buf prompt;
    buf_init(&prompt, LIMIT_HTTP_BODY);
    for (int i = 0; i < r->options->arguments.n; i++) {
        buf_printf(&prompt, "%s%s", i ? " " : "", r->options->arguments.items[i]);
    }
    bool ok = (prompt.len > 0 || read_stdin(&prompt, err)) && turn(r, buf_view(&prompt), err);
    buf_release(&prompt);
    return ok ? 0 : command_fail(err);
}

int command_run(const struct options *o)
{
    struct error err = {0};
    struct runner r = {.options = o};
    char path[MODEL_PATH_MAX];
    if (!o->model) {
        error_set(&err, ERR_INVALID, "`tandem run` needs a model: a path, a name such as smollm2:135m, or owner/name.");
        return command_fail(&err);
    }
    if (!model_path_resolve(o->model, path, &err) ||
        (o->draft_model && !model_path_resolve(o->draft_model, r.draft_path, &err)) ||
        !find_precision(&r, path, &err) || !(r.loop = loop_create(1, &err))) {
        return command_fail(&err);
    }
    buf_init(&r.history, LIMIT_REQUEST_ARENA);
    buf_init(&r.answer, LIMIT_REQUEST_ARENA);
    uv_signal_init(loop_uv(r.loop), &r.sigint);
    r.sigint.data = &r;
    uv_signal_start(&r.sigint, on_sigint, SIGINT);
    if (o->system) {
        add_message(&r.history, "system", str_of(o->system));
        r.system_size = r.history.len;
    }
    int status;
    if (!load(&r, path, &err)) {
        status = command_fail(&err);
    } else if (o->arguments.n == 0 && isatty(STDIN_FILENO)) {
        status = converse(&r);
    } else {
        status = run_prompt(&r, &err);
    }
    unload(&r);
    uv_close((uv_handle_t *)&r.sigint, NULL);
    loop_free(r.loop);
    return status;
}
