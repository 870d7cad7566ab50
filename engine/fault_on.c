/* Compiled when TANDEM_TEST_HOOKS is on. */
#include "engine/fault.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FAULTS  16
#define OOM_PIECE   ((size_t)1 << 20)
#define PAGE_STRIDE 1024 /* no system has smaller pages */

enum kind {
    KIND_NAN,
    KIND_ALLOC,
    KIND_DEVICE,
    KIND_HANG,
    KIND_STOP,
    KIND_SEGV,
    KIND_KILL,
    KIND_ABORT,
    KIND_EXIT,
    KIND_OOM,
    KIND_FRAME_LOST,
    KIND_FRAME_DUP,
    KIND_FRAME_LATE,
    KIND_FRAME_CORRUPT,
    KIND_SLOW_START,
    KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {
    "nan",  "alloc", "device",     "hang",      "stop",       "segv",          "kill",      "abort",
    "exit", "oom",   "frame-lost", "frame-dup", "frame-late", "frame-corrupt", "slow-start"};

struct entry {
    enum kind kind;
    int64_t at, times, token, row, status, mb, ms; /* token, row: -1: any */
    bool always, start;
    struct str once; /* len 0: none */
    int once_fd;     /* -1: none */
    int64_t n_struck;
};

struct fault {
    struct entry entries[MAX_FAULTS];
    int n;
    int64_t n_steps, n_frames;
    char *spec; /* what the entries' strings point into; NULL of a replay's */
};

/* ---- the language ---- */

static bool parse_kind(struct str name, enum kind *out)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        if (str_eq(name, str_of(kind_names[i]))) {
            *out = (enum kind)i;
            return true;
        }
    }
    return false;
}

static bool parse_item(struct str item, struct entry *e, struct error *err)
{
    const struct {
        const char *key;
        int64_t *value;
    } keys[] = {{"step", &e->at}, {"nth", &e->at},        {"times", &e->times}, {"token", &e->token},
                {"row", &e->row}, {"status", &e->status}, {"mb", &e->mb},       {"ms", &e->ms}};
    struct str value = item, key = {NULL, 0};
    (void)str_split(&value, '=', &key);
    if (str_eq(item, STR("always"))) {
        e->always = true;
        return true;
    }
    if (str_eq(item, STR("start"))) {
        e->start = true;
        return true;
    }
    if (str_eq(key, STR("once")) && value.len) {
        e->once = value;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (str_eq(key, str_of(keys[i].key)) && str_to_i64(value, keys[i].value)) {
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "--fault: '" STR_FMT "' is not understood; see engine/fault.h.", STR_ARG(item));
}

static bool parse_entry(struct str text, struct entry *e, struct error *err)
{
    struct str rest = text, name = {NULL, 0}, item;
    (void)str_split(&rest, ':', &name);
    *e = (struct entry){.at = 1, .times = 1, .token = -1, .row = -1, .status = 1, .mb = 64, .ms = 1000, .once_fd = -1};
    if (!parse_kind(name, &e->kind)) {
        return error_set(err, ERR_INVALID, "--fault: '" STR_FMT "' is no kind of fault.", STR_ARG(name));
    }
    while (str_split(&rest, ',', &item)) {
        if (!parse_item(item, e, err)) {
            return false;
        }
    }
    return true;
}

static bool parse(struct fault *f, struct error *err)
{
    struct str rest = str_of(f->spec), text;
    while (str_split(&rest, ';', &text)) {
        if (f->n == MAX_FAULTS) {
            return error_set(err, ERR_INVALID, "--fault: at most %d faults are possible.", MAX_FAULTS);
        }
        if (!parse_entry(text, &f->entries[f->n++], err)) {
            return false;
        }
    }
    return true;
}

static bool open_once(struct entry *e, struct error *err)
{
    char path[4096];
    snprintf(path, sizeof path, STR_FMT, STR_ARG(e->once));
    e->once_fd = e->once.len ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    return e->once.len == 0 || e->once_fd >= 0 ||
           error_set(err, ERR_IO, "--fault: '%s' cannot be opened: %s.", path, strerror(errno));
}

bool fault_create(const char *spec, struct fault **out, struct error *err)
{
    *out = NULL;
    if (!spec || !*spec) {
        return true;
    }
    struct fault *f = calloc(1, sizeof *f);
    if (!f || !(f->spec = strdup(spec))) {
        free(f);
        return error_set(err, ERR_NO_MEMORY, "There is no memory for faults.");
    }
    bool ok = parse(f, err);
    for (int i = 0; ok && i < f->n; i++) {
        ok = open_once(&f->entries[i], err);
    }
    if (!ok) {
        fault_free(f);
        return false;
    }
    *out = f;
    return true;
}

/* Its faults strike always, so no file matters. */
struct fault *fault_for_replay(const struct fault *f)
{
    struct fault *own = f ? calloc(1, sizeof *own) : NULL;
    for (int i = 0; own && i < f->n; i++) {
        if (f->entries[i].kind == KIND_NAN && f->entries[i].always) {
            own->entries[own->n] = f->entries[i];
            own->entries[own->n++].once_fd = -1;
        }
    }
    return own;
}

void fault_free(struct fault *f)
{
    if (f) {
        for (int i = 0; i < f->n; i++) {
            if (f->entries[i].once_fd >= 0) {
                close(f->entries[i].once_fd);
            }
        }
        free(f->spec);
        free(f);
    }
}

/* ---- striking ---- */

/* Only the first strikes. */
static bool is_first(const struct entry *e)
{
    struct stat info;
    return e->once_fd < 0 || (fstat(e->once_fd, &info) == 0 && info.st_size == 0 && write(e->once_fd, "1", 1) == 1);
}

static bool is_due(const struct entry *e, int64_t n)
{
    return e->always || (n >= e->at && e->n_struck < e->times);
}

static bool strikes(struct entry *e)
{
    e->n_struck++;
    if (!is_first(e)) {
        return false;
    }
    if (e->n_struck == 1) {
        LOG_WARN("fault", "kind=%s", kind_names[e->kind]);
    }
    return true;
}

static void hang(void)
{
    for (;;) {
        clock_sleep_ms(1000);
    }
}

static void exhaust_memory(const struct entry *e)
{
    for (int64_t i = 0; i < e->mb; i++) {
        char *p = malloc(OOM_PIECE); /* never freed */
        for (size_t at = 0; p && at < OOM_PIECE; at += PAGE_STRIDE) {
            ((volatile char *)p)[at] = 1;
        }
    }
    kill(getpid(), SIGKILL);
}

/* Ends or stops the process, or the thread; kinds that do neither return. */
static void strike(const struct entry *e)
{
    switch (e->kind) {
    case KIND_HANG:
        hang();
        break;
    case KIND_STOP:
        kill(getpid(), SIGSTOP);
        break;
    case KIND_SEGV:
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
        break;
    case KIND_KILL:
        kill(getpid(), SIGKILL);
        hang(); /* until it arrives */
        break;
    case KIND_ABORT:
        abort();
    case KIND_EXIT:
        _exit((int)e->status);
    case KIND_OOM:
        exhaust_memory(e);
        break;
    default:
        break;
    }
}

void fault_start(struct fault *f)
{
    for (int i = 0; f && i < f->n; i++) {
        struct entry *e = &f->entries[i];
        if (e->kind == KIND_SLOW_START && is_due(e, 1) && strikes(e)) {
            clock_sleep_ms(e->ms);
        } else if (e->start && is_due(e, 1) && strikes(e)) {
            strike(e);
        }
    }
}

enum fault_frame fault_frame(struct fault *f)
{
    enum fault_frame what = FAULT_FRAME_NONE;
    f->n_frames++;
    for (int i = 0; i < f->n; i++) {
        struct entry *e = &f->entries[i];
        bool frame = e->kind >= KIND_FRAME_LOST && e->kind <= KIND_FRAME_CORRUPT;
        if (frame && is_due(e, f->n_frames) && strikes(e)) {
            what = (enum fault_frame)(FAULT_FRAME_LOST + (e->kind - KIND_FRAME_LOST));
        }
    }
    return what;
}

/* ---- in steps ---- */

struct fault_executor {
    struct executor base;
    struct executor_ops ops;
    struct executor *x;
    struct fault *fault;
    struct entry *nan[2][MAX_FAULTS]; /* that strike the rows of a step enqueued and not read; steps alternate */
    int n_nan[2];
    int64_t n_begun, n_read;
};

static void mirror(struct fault_executor *fx)
{
    const struct executor *x = fx->x;
    fx->base.lazy = x->lazy;
    fx->base.no_guesses = x->no_guesses;
    fx->base.timed = x->timed;
    fx->base.eval_ns = x->eval_ns;
    fx->base.kv_private = x->kv_private;
    fx->base.scratch_size = x->scratch_size;
}

static bool row_has(const struct sample_row *row, int64_t token)
{
    for (int32_t i = 0; i < row->n_prompt; i++) {
        if (row->history[i] == token) {
            return true;
        }
    }
    return false;
}

/* A prompt that holds the token is in the step: among the rows that are computed, or before those that are sampled. */
static bool step_has(const struct executor_step *step, int64_t token)
{
    for (int i = 0; i < step->batch->n_rows; i++) {
        if (step->batch->ids[i] == token) {
            return true;
        }
    }
    for (int i = 0; i < step->n_samples; i++) {
        if (row_has(&step->rows[i], token)) {
            return true;
        }
    }
    return false;
}

static bool run_step(struct executor *base, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    struct fault_executor *fx = (struct fault_executor *)base;
    struct fault *f = fx->fault;
    int now = (int)(fx->n_begun++ & 1);
    f->n_steps++;
    fx->n_nan[now] = 0;
    for (int i = 0; i < f->n; i++) {
        struct entry *e = &f->entries[i];
        bool in_step = e->kind <= KIND_OOM && !e->start;
        if (!in_step || !is_due(e, f->n_steps) || (e->token >= 0 && !step_has(step, e->token))) {
            continue;
        }
        if (e->kind == KIND_NAN) {
            fx->nan[now][fx->n_nan[now]++] = e;
        } else if (strikes(e)) {
            strike(e);
            if (e->kind == KIND_ALLOC || e->kind == KIND_DEVICE) {
                fx->n_begun--;
                return error_set(err, e->kind == KIND_ALLOC ? ERR_NO_MEMORY : ERR_DEVICE, "A fault was asked for: %s.",
                                 kind_names[e->kind]);
            }
        }
    }
    bool ok = fx->x->ops->step(fx->x, step, ids, err);
    fx->n_begun -= !ok;
    mirror(fx);
    return ok;
}

static void spoil(struct entry *e, const struct executor_step *step, struct sample_result *results)
{
    bool struck = false;
    for (int i = 0; i < step->n_samples; i++) {
        bool meant = (e->row < 0 || e->row == i) && (e->token < 0 || row_has(&step->rows[i], e->token));
        if (meant && (struck || strikes(e))) {
            struck = true;
            results[i].finite = false;
        }
    }
}

static bool read_step(struct executor *base, const struct executor_step *step, struct tensor *ids,
                      struct sample_result *results, struct error *err)
{
    struct fault_executor *fx = (struct fault_executor *)base;
    int now = (int)(fx->n_read++ & 1);
    bool ok = fx->x->ops->read(fx->x, step, ids, results, err);
    for (int i = 0; ok && i < fx->n_nan[now]; i++) {
        if (is_due(fx->nan[now][i], fx->fault->n_steps)) {
            spoil(fx->nan[now][i], step, results);
        }
    }
    mirror(fx);
    return ok;
}

static void copy_page(struct executor *base, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    struct executor *x = ((struct fault_executor *)base)->x;
    x->ops->copy_page(x, group, src, dst, n_tokens);
}

static void free_page(struct executor *base, int group, uint32_t page)
{
    struct executor *x = ((struct fault_executor *)base)->x;
    x->ops->free_page(x, group, page);
}

static void *page_data(struct executor *base, int group, uint32_t page)
{
    struct executor *x = ((struct fault_executor *)base)->x;
    return x->ops->page_data(x, group, page);
}

static bool load_adapter(struct executor *base, const struct adapter_file *file, int number, struct error *err)
{
    struct executor *x = ((struct fault_executor *)base)->x;
    return x->ops->load_adapter(x, file, number, err);
}

static void drop_adapter(struct executor *base, int number)
{
    struct executor *x = ((struct fault_executor *)base)->x;
    x->ops->drop_adapter(x, number);
}

static void free_executor(struct executor *base)
{
    struct fault_executor *fx = (struct fault_executor *)base;
    fx->x->ops->free(fx->x);
    free(fx);
}

struct executor *fault_executor_create(struct executor *x, struct fault *f, struct error *err)
{
    struct fault_executor *fx = calloc(1, sizeof *fx);
    if (!fx) {
        x->ops->free(x);
        error_set(err, ERR_NO_MEMORY, "There is no memory for faults.");
        return NULL;
    }
    fx->ops = (struct executor_ops){.step = run_step,
                                    .read = read_step,
                                    .copy_page = copy_page,
                                    .free = free_executor,
                                    .free_page = x->ops->free_page ? free_page : NULL,
                                    .page_data = x->ops->page_data ? page_data : NULL,
                                    .load_adapter = x->ops->load_adapter ? load_adapter : NULL,
                                    .drop_adapter = x->ops->drop_adapter ? drop_adapter : NULL};
    fx->base.ops = &fx->ops;
    fx->x = x;
    fx->fault = f;
    mirror(fx);
    return &fx->base;
}
