/* Calls become operations in a queue; a thread takes them and gives them back with their answers. What the loop knows
 * of the journal's health is what the answers said. */
#include "gateway/journal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/sys_file.h"
#include "gateway/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE_CAPACITY    1024 /* operations on their way, all together */
#define GROUP_MAX         64   /* operations of one transaction */
#define UPKEEP_MS         5000
#define UPKEEP_FAILING_MS 1000 /* also: how long new requests are refused before one is tried */

static const char *const state_names[JOURNAL_STATE_COUNT] = {
#define X(id, name) name,
    JOURNAL_STATE_TABLE(X)
#undef X
};

const char *journal_state_name(enum journal_state s)
{
    return state_names[s];
}

bool journal_state_ended(enum journal_state s)
{
    return s >= JOURNAL_COMPLETED;
}

/* ---- threads ---- */

/* The queue of answers has room for every operation that is on its way. */
static void give_back(struct journal *j, struct journal_op *op)
{
    if (!queue_push(j->answers, &op)) {
        LOG_ERROR("an answer of the journal is lost", NULL);
    }
    loop_signal_send(j->signal);
}

static void *write_loop(void *arg)
{
    struct journal *j = arg;
    struct journal_op *ops[GROUP_MAX];
    while (queue_wait(j->writes, &ops[0], -1)) {
        size_t n = 1;
        while (n < GROUP_MAX && queue_pop(j->writes, &ops[n])) {
            n++;
        }
        journal_write__group(j, ops, n);
        for (size_t i = 0; i < n; i++) {
            give_back(j, ops[i]);
        }
    }
    return NULL;
}

static void *read_loop(void *arg)
{
    struct journal *j = arg;
    struct journal_op *op;
    while (queue_wait(j->reads, &op, -1)) {
        (void)op->run(j, op);
        give_back(j, op);
    }
    return NULL;
}

/* ---- answers ---- */

static void note_failure(struct journal *j, const struct error *why)
{
    j->stats.errors++;
    j->stats.failing = 1;
    j->failure = *why;
    j->failed_ms = clock_ms();
    if (!j->logged) {
        j->logged = true;
        LOG_ERROR("the journal cannot be written: requests go on in memory, new background requests are refused",
                  "error=\"%s\"", why->msg);
        loop_timer_start(j->timer, UPKEEP_FAILING_MS, UPKEEP_FAILING_MS);
    }
}

static void note_success(struct journal *j)
{
    j->stats.commits++;
    if (j->stats.failing) {
        LOG_INFO("the journal can be written again", "file=%s", j->writer.path);
        j->stats.failing = 0;
        j->logged = false;
        j->failure = (struct error){0};
        loop_timer_start(j->timer, j->options.upkeep_ms, j->options.upkeep_ms);
    }
}

static void note(struct journal *j, const struct journal_op *op)
{
    j->stats.dropped += op->n_dropped;
    j->stats.damaged += op->n_damaged;
    if (op->reads) {
        return;
    }
    if (op->committed) {
        note_success(j);
    } else {
        note_failure(j, &op->answer.error);
    }
    j->stats.size = op->n_size ? op->n_size : j->stats.size;
    if (op->has_counts) {
        memcpy(j->stats.requests, op->counts, sizeof op->counts);
        memcpy(j->stats.batches, op->batches, sizeof op->batches);
        j->stats.files = op->files;
        j->stats.file_size = op->file_size;
    }
    j->stats.all_file_size = op->has_total ? op->all_file_size : j->stats.all_file_size;
    j->stats.refused += op->run == journal_write__insert && !op->answer.ok;
}

static void finish_op(struct journal *j, struct journal_op *op)
{
    j->n_in_flight--;
    note(j, op);
    op->done.fn(op->done.arg, &op->answer);
    arena_free(op->answer.arena);
    free(op);
}

static void on_answers(void *arg)
{
    struct journal *j = arg;
    struct journal_op *op;
    while (queue_pop(j->answers, &op)) {
        finish_op(j, op);
    }
}

/* ---- submitting ---- */

bool journal__submit(struct journal *j, const struct journal_op *what, struct error *err)
{
    struct queue *queue = what->reads ? j->reads : j->writes;
    struct journal_op *op = j->n_in_flight < QUEUE_CAPACITY ? malloc(sizeof *op) : NULL;
    if (op) {
        *op = *what;
    }
    if (!op || !queue_push(queue, &op)) {
        free(op);
        return error_set(err, ERR_OVERLOADED, "the journal does not keep up: %zu operations wait. Try again later.",
                         j->n_in_flight);
    }
    j->n_in_flight++;
    return true;
}

bool journal_failing(const struct journal *j, struct error *why)
{
    if (j->stats.failing) {
        *why = j->failure;
    }
    return j->stats.failing;
}

bool journal_insert(struct journal *j, const struct journal_meta *meta, struct str body, struct journal_done done,
                    struct error *err)
{
    if (j->stats.failing && clock_ms() - j->failed_ms < UPKEEP_FAILING_MS) {
        j->stats.refused++;
        *err = j->failure;
        return false;
    }
    struct journal_op op = {.run = journal_write__insert, .done = done, .meta = *meta, .body = body};
    return journal__submit(j, &op, err);
}

bool journal_update(struct journal *j, const struct journal_update *updates, size_t n, struct journal_done done,
                    struct error *err)
{
    struct journal_op op = {.run = journal_write__update, .done = done, .updates = updates, .n_updates = n};
    return journal__submit(j, &op, err);
}

bool journal_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_write__remove, .done = done, .id = id, .key_name = key_name};
    return journal__submit(j, &op, err);
}

bool journal_read(struct journal *j, struct str id, struct str key_name, int parts, struct journal_done done,
                  struct error *err)
{
    struct journal_op op = {
        .run = journal_read__one, .reads = true, .done = done, .id = id, .key_name = key_name, .parts = parts};
    return journal__submit(j, &op, err);
}

bool journal_list(struct journal *j, struct str key_name, struct str after, uint32_t limit, struct journal_done done,
                  struct error *err)
{
    struct journal_op op = {
        .run = journal_read__list, .reads = true, .done = done, .key_name = key_name, .after = after, .limit = limit};
    return journal__submit(j, &op, err);
}

bool journal_unfinished(struct journal *j, struct str after, uint32_t limit, struct journal_done done,
                        struct error *err)
{
    struct journal_op op = {
        .run = journal_read__unfinished, .reads = true, .done = done, .after = after, .limit = limit};
    return journal__submit(j, &op, err);
}

struct journal_stats journal_stats(const struct journal *j)
{
    return j->stats;
}

/* ---- upkeep ---- */

static void on_upkeep(void *arg, struct journal_answer *answer)
{
    struct journal *j = arg;
    (void)answer;
    j->upkeep_in_flight = false;
}

static void start_upkeep(void *arg)
{
    struct journal *j = arg;
    struct error ignored = {0};
    struct journal_op op = {.run = journal_write__upkeep, .done = {on_upkeep, j}, .limit = j->stats.failing ? 1 : 0};
    if (!j->upkeep_in_flight) {
        j->upkeep_in_flight = journal__submit(j, &op, &ignored);
    }
}

/* ---- opening and closing ---- */

/* A folder that others may write to is no place for what only its owner may read. */
static bool make_folder(const char *dir, struct error *err)
{
    struct stat st;
    bool made = mkdir(dir, 0700) == 0;
    if (!made && !dir_exists(dir) && (!dir_make(dir, err) || chmod(dir, 0700) != 0)) {
        return error_wrap(err, "--journal");
    }
    if (stat(dir, &st) != 0) {
        return error_set(err, ERR_IO, "--journal: the folder '%s' cannot be read: %s.", dir, strerror(errno));
    }
    if (st.st_mode & 022) {
        return error_set(err, ERR_INVALID,
                         "--journal: others may write to the folder '%s'; give one of your own, or chmod 700 it.", dir);
    }
    return true;
}

/* Two gateways on one journal would both finish its requests. */
static bool lock_folder(struct journal *j, struct error *err)
{
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/journal.lock", j->options.dir);
    if (n < 0 || n >= (int)sizeof path) {
        return error_set(err, ERR_INVALID, "the path '%.100s...' of the journal is too long.", j->options.dir);
    }
    j->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_fd < 0) {
        return error_set(err, ERR_IO, "'%s' cannot be opened: %s.", path, strerror(errno));
    }
    return file_lock(j->lock_fd) != FILE_BUSY ||
           error_set(err, ERR_UNAVAILABLE, "the journal in '%s' is in use by another process.", j->options.dir);
}

static bool start_thread(pthread_t *thread, bool *runs, void *(*fn)(void *), struct journal *j, struct error *err)
{
    int rc = pthread_create(thread, NULL, fn, j);
    *runs = rc == 0;
    return *runs || error_set(err, ERR_NO_MEMORY, "a thread of the journal cannot be started: %s.", strerror(rc));
}

static bool start(struct journal *j, struct error *err)
{
    j->writes = queue_create(sizeof(struct journal_op *), QUEUE_CAPACITY);
    j->reads = queue_create(sizeof(struct journal_op *), QUEUE_CAPACITY);
    j->answers = queue_create(sizeof(struct journal_op *), QUEUE_CAPACITY);
    j->signal = loop_signal_create(j->options.loop, on_answers, j);
    j->timer = loop_timer_create(j->options.loop, start_upkeep, j);
    if (!j->writes || !j->reads || !j->answers || !j->signal || !j->timer) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the journal.");
    }
    return make_folder(j->options.dir, err) && lock_folder(j, err) &&
           journal_db__open(&j->writer, &j->options, true, err) &&
           journal_db__open(&j->reader, &j->options, false, err) &&
           start_thread(&j->write_thread, &j->writing, write_loop, j, err) &&
           start_thread(&j->read_thread, &j->reading, read_loop, j, err);
}

struct journal *journal_open(const struct journal_options *options, struct error *err)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j) {
        error_set(err, ERR_NO_MEMORY, "no memory for the journal.");
        return NULL;
    }
    j->options = *options;
    j->options.upkeep_ms = options->upkeep_ms ? options->upkeep_ms : UPKEEP_MS;
    j->lock_fd = -1;
    j->stats.max_size = options->max_size;
    if (!start(j, err)) {
        journal_close(j);
        return NULL;
    }
    loop_timer_start(j->timer, 1, j->options.upkeep_ms);
    LOG_INFO("journal open", "file=%s sync=%s", j->writer.path, options->full_sync ? "full" : "normal");
    return j;
}

static void close_queue(struct queue *q)
{
    if (q) {
        queue_close(q);
    }
}

void journal_close(struct journal *j)
{
    if (!j) {
        return;
    }
    close_queue(j->writes);
    close_queue(j->reads);
    if (j->writing) {
        pthread_join(j->write_thread, NULL);
    }
    if (j->reading) {
        pthread_join(j->read_thread, NULL);
    }
    if (j->answers) {
        on_answers(j);
    }
    loop_timer_free(j->timer);
    if (j->signal) {
        loop_signal_free(j->signal);
    }
    journal_db__close(&j->reader);
    journal_db__close(&j->writer);
    if (j->lock_fd >= 0) {
        close(j->lock_fd);
    }
    queue_free(j->writes);
    queue_free(j->reads);
    queue_free(j->answers);
    free(j);
}
