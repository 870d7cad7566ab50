#include "cli/precision.h"

#include "backend/cpu/cpu_limits.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "cli/models_list.h"
#include "cli/rewrite.h"
#include "engine/engine.h"
#include "gateway/memory_need.h"
#include "model/cost.h"
#include "model/precision_choice.h"
#include "tensor/model_paths.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define METADATA_TOKEN 64
#define USUAL_CONTEXT  4096   /* of a sequence, when none is asked for: long enough for a chat */
#define RESERVE_SHARE  10     /* one part in so many of what is left stays free, unless --memory is given */
#define SPEED_COUNTS   GIB(2) /* of weights in full precision: smaller ones are fast enough anywhere */
#define LOCK_WAIT_MS   200
#define SPACE_MARGIN   MIB(64)

struct precision_wanted precision_wanted_by(const struct options *o, enum kv_type type, uint32_t usual, uint32_t most)
{
    struct served_model_options served = served_options(o, NULL, NULL);
    return (struct precision_wanted){
        .quantize = o->quantize,
        .memory = o->memory,
        .kv_memory = o->kv_memory,
        .kv_type = type,
        .max_context = (uint32_t)o->max_context,
        .max_sequences = (uint32_t)o->max_sequences,
        .max_batch_tokens = (uint32_t)o->max_batch_tokens,
        .usual_sequences = usual,
        .most_sequences = most,
        .n_threads = (int)o->threads,
        .draft_kv_memory = o->draft_kv_memory,
        .adapter_memory = gateway_adapter_memory(&served),
        .overrides = o->overrides.n > 0,
        .mlx = o->backend && strcmp(o->backend, "mlx") == 0,
    };
}

/* ---- the question ---- */

/* The pool of a draft model, where nobody has said how large it is, is a share of the pool. */
static bool shares_pool(const struct precision_wanted *w)
{
    return w->draft_path && w->draft_kv_memory == 0;
}

static uint64_t round_pool(uint64_t size)
{
    return size == 0 ? MIB(2) : (size + MIB(2) - 1) / MIB(2) * MIB(2);
}

/* What a model on demand gets at least, as gateway/memory_need.h has it. */
static uint64_t least_pool(const struct precision_wanted *w, const struct decoder_config *c, uint64_t least)
{
    uint64_t useful = memory_useful_pool(c, w->kv_type, w->max_context, w->max_sequences);
    uint64_t smallest = memory_least_pool(c, w->kv_type), pool = useful < smallest ? useful : smallest;
    return least < pool ? pool : least;
}

static void ask_kv(const struct precision_wanted *w, const struct decoder_config *c, struct precision_question *q)
{
    uint32_t trained = (uint32_t)c->n_context, context = w->max_context ? w->max_context : USUAL_CONTEXT;
    uint64_t sequences = w->max_sequences ? w->max_sequences : w->usual_sequences;
    context = context < trained ? context : trained;
    uint64_t least = engine_kv_bytes(c, w->kv_type, CPU_PAGE_TOKENS, context);
    uint64_t wanted = least > UINT64_MAX / sequences / 2 ? UINT64_MAX / 2 : least * sequences;
    if (w->kv_memory) {
        wanted = wanted < w->kv_memory ? wanted : w->kv_memory;
        least = least < w->kv_memory ? least : w->kv_memory;
    }
    least = w->on_demand && w->kv_memory == 0 ? least_pool(w, c, least) : least;
    wanted = wanted < least ? least : wanted;
    q->kv_least = memory_of_pool(round_pool(least), shares_pool(w));
    q->kv_wanted = memory_of_pool(round_pool(wanted), shares_pool(w));
}

static void ask_memory(const struct precision_wanted *w, struct precision_question *q)
{
    struct sys_memory here = sys_memory(), system = sys_memory_of_system();
    q->memory = w->memory;
    q->memory_from = w->on_demand ? "the budget of all models" : "--memory";
    if (q->memory) {
        return;
    }
    q->memory = here.available - here.available / RESERVE_SHARE;
    q->memory_from = here.total < system.total ? "the control group" : "this machine";
    uint64_t device = here.total / 4 * 3; /* what Apple's GPUs recommend of the unified memory */
    if (w->mlx && device < q->memory) {
        q->memory = device;
        q->memory_from = "the device's working set";
    }
}

/* Bytes a second that weights are read at: measured once, kept in the cache folder, so that the same machine decides
 * the same each time. 0 where that cannot be had. */
static double bandwidth(int n_threads)
{
    char folder[MODEL_PATH_MAX], path[MODEL_PATH_MAX + 32], text[40];
    struct error ignored = {0};
    struct buf kept;
    struct cpu_limits limits;
    struct cpu_backend_options cpu = {.n_threads = n_threads, .spin_us = -1};
    if (!sys_cache_dir(folder, sizeof folder)) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/read-rate-%d", folder, n_threads);
    if (file_exists(path) && file_read(path, sizeof text - 1, &kept, &ignored)) {
        double v = kept.data ? strtod(kept.data, NULL) : 0;
        buf_release(&kept);
        if (isfinite(v) && v > 0) {
            return v;
        }
    }
    if (!cpu_limits_measure(&cpu, &limits, &ignored)) {
        return 0;
    }
    snprintf(text, sizeof text, "%.0f\n", limits.per_second[CPU_LIMIT_READ]);
    if (!dir_make(folder, &ignored) || !file_write_atomic(path, str_of(text), &ignored)) {
        LOG_WARN("the read rate cannot be kept", "reason=%s", ignored.msg);
    }
    return limits.per_second[CPU_LIMIT_READ];
}

static void ask_speed(const struct precision_wanted *w, const struct model_file *file, const struct decoder_config *c,
                      struct precision_question *q)
{
    struct decoder_cost cost;
    if (q->quantized || w->mlx || q->full < SPEED_COUNTS) {
        return;
    }
    decoder_cost_read(file, c, &cost);
    double experts = cost.n_experts ? cost.expert_bytes * cost.n_experts_used / cost.n_experts : 0;
    double all = cost.layer_bytes + cost.head_bytes; /* expert_bytes are in neither */
    q->read_share = q->full ? (all + experts) / (double)q->full : 1;
    q->read_share = q->read_share > 1 ? 1 : q->read_share;
    q->bandwidth = bandwidth(w->n_threads);
}

/* Of a GGUF file: mostly tokens and merges. */
static uint64_t metadata_size(const struct decoder_config *c)
{
    return MIB(1) + METADATA_TOKEN * (uint64_t)c->n_vocab;
}

static bool ask(const struct model_file *file, const struct precision_wanted *w, const struct decoder_config *c,
                struct precision_question *q, struct error *err)
{
    struct precision p = {.kind = PRECISION_BITS};
    *q = (struct precision_question){.full = model_file_size(file), .quantized = export_is_quantized(file)};
    q->other = memory_process(c) +
               memory_scratch(c, w->max_batch_tokens, w->max_sequences ? w->max_sequences : w->most_sequences) +
               memory_draft_weights(w->draft_path) + (w->draft_path ? w->draft_kv_memory : 0) + w->adapter_memory;
    ask_kv(w, c, q);
    ask_memory(w, q);
    if (q->quantized) {
        return true;
    }
    uint64_t *sizes[] = {&q->bits8, &q->bits4};
    for (int i = 0; i < 2; i++) {
        p.bits = i ? 4 : 8;
        if (!export_size(file, EXPORT_GGUF, p, sizes[i], err)) {
            return false;
        }
        *sizes[i] += metadata_size(c);
    }
    ask_speed(w, file, c, q);
    return true;
}

/* ---- the answer ---- */

/* With --memory the pool has what is left, or what --kv-memory says, whichever is less. */
static bool divide(const struct precision_wanted *w, const struct precision_question *q, struct precision_found *out,
                   struct error *err)
{
    if (w->memory == 0 || w->on_demand) {
        return true;
    }
    uint64_t taken = out->weights + q->other;
    if (taken >= w->memory || w->memory - taken < q->kv_least) {
        return error_set(err, ERR_NO_MEMORY,
                         "--memory %llu is not enough: %llu bytes of weights, %llu of KV for one sequence and %llu "
                         "besides are needed.",
                         (unsigned long long)w->memory, (unsigned long long)out->weights,
                         (unsigned long long)q->kv_least, (unsigned long long)q->other);
    }
    uint64_t left = memory_pool_within(w->memory - taken, shares_pool(w));
    out->kv_memory = w->kv_memory && w->kv_memory < left ? w->kv_memory : left;
    return true;
}

static bool decide_automatic(const struct precision_wanted *w, const struct precision_question *q,
                             struct precision_found *out, struct error *err)
{
    struct precision_answer a = precision_choose(q);
    out->bits = a.bits;
    out->weights = a.weights;
    memcpy(out->why, a.why, sizeof out->why);
    if (!a.fits && w->on_demand) { /* nothing is made of it, and the plan of all refuses it with what it would need */
        out->bits = 0;
        out->weights = q->full;
    } else if (!a.fits && w->memory) {
        return error_set(err, ERR_NO_MEMORY, "%.230s", a.why);
    }
    return true;
}

static bool decide_fixed(const struct precision_wanted *w, const struct model_file *file,
                         const struct decoder_config *c, const struct precision_question *q,
                         struct precision_found *out, struct error *err)
{
    struct precision p;
    bool none = strcmp(w->quantize, "none") == 0;
    out->weights = q->full;
    if (!none && q->stays) {
        return error_set(err, ERR_INVALID, "--quantize %.8s is not possible: %.180s", w->quantize, q->stays);
    }
    if (none || q->quantized) {
        snprintf(out->why, sizeof out->why,
                 none ? "As it is, by --quantize none." : "As it is: the weights are quantized already.");
        return true;
    }
    if (!precision_parse(w->quantize, &p, err) || p.kind != PRECISION_BITS) {
        return error_set(err, ERR_INVALID, "--quantize: expected auto, none, 8, 6 or 4, but got '%.40s'.", w->quantize);
    }
    out->bits = p.bits;
    snprintf(out->why, sizeof out->why, "%d bits, by --quantize %d.", p.bits, p.bits);
    if (!export_size(file, EXPORT_GGUF, p, &out->weights, err)) {
        return false;
    }
    out->weights += metadata_size(c);
    return true;
}

static bool decide(const struct model_file *file, const struct precision_wanted *w, struct precision_found *out,
                   struct error *err)
{
    struct decoder_config c;
    struct precision_question q;
    struct error why_not = {0};
    if (!decoder_config_read(file, &c, &why_not)) { /* the engine says so */
        snprintf(out->why, sizeof out->why, "As it is: %.200s", why_not.msg);
        return true;
    }
    if (!ask(file, w, &c, &q, &why_not)) {
        if (strcmp(w->quantize, "auto") != 0 && strcmp(w->quantize, "none") != 0) {
            *err = why_not;
            return false;
        }
        q.quantized = true; /* it cannot be written: it stays */
        q.stays = why_not.msg;
    }
    if (w->overrides && model_file_is_folder(file) && !q.quantized) {
        q.quantized = true;
        q.stays = "--override-kv names keys of this folder, which a file has not.";
    }
    bool automatic = strcmp(w->quantize, "auto") == 0;
    return (automatic ? decide_automatic(w, &q, out, err) : decide_fixed(w, file, &c, &q, out, err)) &&
           divide(w, &q, out, err);
}

/* ---- the cache ---- */

/* The folder of the file, and its path; false: there is no home, or the names are too long. */
static bool cache_path(const struct model_file *file, int bits, char *folder, char *path, size_t size)
{
    uint8_t digest[32];
    char cache[MODEL_PATH_MAX], hex[33] = "";
    struct str name = str_slice(model_path_stem(str_of(model_file_path(file))), 0, 200);
    model_file_digest(file, digest);
    for (int i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    if (!sys_cache_dir(cache, sizeof cache)) {
        return false;
    }
    int n = snprintf(folder, size, "%s/quantized/%s-r%d-%d", cache, hex, QUANTIZE_RULE_VERSION, bits);
    int m = snprintf(path, size, "%s/quantized/%s-r%d-%d/" STR_FMT ".gguf", cache, hex, QUANTIZE_RULE_VERSION, bits,
                     STR_ARG(name));
    return n > 0 && m > 0 && (size_t)m < size;
}

static bool is_good(const char *path)
{
    struct error ignored = {0};
    struct decoder_config config;
    if (!file_exists(path)) {
        return false;
    }
    struct model_file *file = model_file_open(path, &ignored);
    bool good = file && decoder_config_read(file, &config, &ignored);
    model_file_close(file);
    if (!good) {
        LOG_WARN("a quantized model in the cache is broken and is made again", "path=%s reason=%s", path, ignored.msg);
    }
    return good;
}

/* Held until the descriptor is closed; waits for whoever makes the same. -1: *err. */
static int lock(const char *folder, const struct rewrite_options *r, struct error *err)
{
    char path[MODEL_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/lock", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    enum file_lock state = FILE_NO_LOCKS;
    while (fd >= 0 && (state = file_lock(fd)) == FILE_BUSY && (!r->progress || r->progress(r->arg, 0))) {
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_MS * 1000000L}, NULL);
    }
    if (fd >= 0 && state == FILE_BUSY) {
        error_set(err, ERR_CANCELLED, "the wait for '%.120s', which another program makes, was stopped.", path);
        close(fd);
        return -1;
    }
    if (fd < 0 || state != FILE_LOCKED) {
        error_set(err, ERR_IO, "'%.120s' cannot be locked: %s.", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static bool check_space(int fd, uint64_t need, const char *folder, struct error *err)
{
    struct file_space space;
    return !file_space(fd, &space) || space.available >= need + SPACE_MARGIN ||
           error_set(err, ERR_IO,
                     "There is no room for %llu bytes of quantized weights in %.120s: %llu are free (--quantize none "
                     "needs none).",
                     (unsigned long long)need, folder, (unsigned long long)space.available);
}

static bool make(const struct model_file *file, const char *path, const struct rewrite_options *r, uint64_t size,
                 const char *folder, struct error *err)
{
    if (is_good(path)) {
        return true;
    }
    if (!dir_make(folder, err)) {
        return false;
    }
    int fd = lock(folder, r, err);
    if (fd < 0) {
        return false;
    }
    bool ok =
        is_good(path) /* made meanwhile */ || (check_space(fd, size, folder, err) && rewrite_model(file, path, r, err));
    close(fd);
    return ok;
}

/* ---- both ---- */

static bool open_source(const char *model, struct precision_found *out, struct model_file **file, struct error *err)
{
    *out = (struct precision_found){0};
    snprintf(out->path, sizeof out->path, "%s", model);
    *file = model_file_open(model, err);
    return *file != NULL;
}

bool precision_plan(const char *model, const struct precision_wanted *w, struct precision_found *out, struct error *err)
{
    struct model_file *file;
    bool ok = open_source(model, out, &file, err) && decide(file, w, out, err);
    model_file_close(file);
    return ok;
}

/* The path of what is to be loaded; folder: in which it is, where it is not the source. */
static bool locate(const struct model_file *file, struct precision_found *out, char folder[MODEL_PATH_MAX],
                   struct error *err)
{
    return out->bits == 0 || cache_path(file, out->bits, folder, out->path, sizeof out->path) ||
           error_set(err, ERR_IO, "There is no cache folder for quantized weights: set HOME or XDG_CACHE_HOME.");
}

/* Once it is there. */
static void log_found(const struct precision_found *found)
{
    LOG_INFO("precision", "bits=%d why=\"%s\" path=%s", found->bits, found->why, found->path);
}

bool precision_find(const char *model, const struct precision_wanted *w, struct precision_found *out, bool *is_there,
                    struct error *err)
{
    char folder[MODEL_PATH_MAX];
    struct model_file *file;
    bool ok = open_source(model, out, &file, err) && decide(file, w, out, err) && locate(file, out, folder, err);
    *is_there = ok && (out->bits == 0 || is_good(out->path));
    if (*is_there) {
        log_found(out);
    }
    model_file_close(file);
    return ok;
}

bool precision_resolve(const char *model, const struct precision_wanted *w,
                       bool (*progress)(void *arg, double fraction), void *arg, struct precision_found *out,
                       struct error *err)
{
    char folder[MODEL_PATH_MAX];
    struct model_file *file;
    bool ok = open_source(model, out, &file, err) && decide(file, w, out, err) && locate(file, out, folder, err);
    if (ok && out->bits) {
        struct rewrite_options r = {.container = EXPORT_GGUF,
                                    .precision = {.kind = PRECISION_BITS, .bits = out->bits},
                                    .n_threads = w->n_threads,
                                    .progress = progress,
                                    .arg = arg};
        ok = make(file, out->path, &r, out->weights, folder, err);
    }
    if (ok) {
        log_found(out);
    }
    model_file_close(file);
    return ok;
}
