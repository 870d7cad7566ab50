/* Requests that wait in the journal: those of before the start, and those that an engine would not take. */
#include "api/kept/kept_internal.h"

#include "api/mcp/mcp_api.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

#define LIST_AT_ONCE 200

/* ---- one of them ---- */

static void wait_again(struct kept *k, const char *reason)
{
    k->phase = KEPT_WAITING;
    k->set->n_waiting++;
    k->retry_ms = clock_ms() + KEPT_RETRY_MS;
    if (strncmp(k->reason, reason, sizeof k->reason - 1) != 0) {
        snprintf(k->reason, sizeof k->reason, "%s", reason);
        k->dirty = true;
    }
}

static void fail_to_resume(struct kept *k, const struct error *err)
{
    LOG_WARN("a request of the journal cannot go on", "id=%s error=\"%s\"", k->id, err->msg);
    kept__fail(k, err);
}

static void on_rebuilt(void *arg, struct rebuilt *r)
{
    struct kept *k = arg;
    struct error err = {0};
    if (k->set->stopping) { /* it stays as the journal has it */
        k->phase = KEPT_DONE;
        if (r->call) {
            api__call_free(r->call);
        }
        kept__release(k);
        return;
    }
    if (!r->ok) {
        fail_to_resume(k, &r->error);
        return;
    }
    const char *starting =
        r->call->request.mcp.n_tools ? mcp_host_starting(k->set->app->options.mcp, &r->call->request) : NULL;
    if (starting) {
        char reason[200];
        snprintf(reason, sizeof reason, "The MCP server '%.100s' is starting.", starting);
        snprintf(k->awaits, sizeof k->awaits, "%s", starting);
        api__call_free(r->call); /* the name lies in it */
        wait_again(k, reason);
        return;
    }
    k->awaits[0] = '\0';
    k->forget_tokens = r->damaged;
    k->n_restored = r->n_saved;
    memcpy(r->call->resumed_from, k->resumed_from, sizeof r->call->resumed_from);
    if (!kept__run(k, r->call, r->saved, &err)) {
        api__call_free(r->call);
        fail_to_resume(k, &err);
        return;
    }
    if (k->reason[0]) {
        k->reason[0] = '\0';
        k->dirty = true;
    }
    if (k->details.len == 0) {
        api__put_details(&k->details, &r->call->request, k->generation);
    }
    LOG_INFO("a request of the journal goes on", "id=%s tokens=%llu", k->id, (unsigned long long)r->n_saved);
}

static void copy(char *out, size_t size, struct str from)
{
    snprintf(out, size, STR_FMT, STR_ARG(from));
}

/* It is looked at again: it may have ended in between, in this process too. */
static void on_loaded(void *arg, struct journal_answer *answer)
{
    struct kept *k = arg;
    struct app *a = k->set->app;
    struct error err = answer->error;
    bool gone = !answer->ok && err.code == ERR_NOT_FOUND;
    bool ended = answer->ok && journal_state_ended(answer->records[0].meta.state);
    if (gone || ended || k->set->stopping) {
        k->phase = KEPT_DONE;
        kept__release(k);
    } else if (!answer->ok) {
        wait_again(k, err.msg);
    } else {
        const struct journal_meta *m = &answer->records[0].meta;
        k->background = m->background;
        k->expires_s = m->expires_s;
        copy(k->fingerprint, sizeof k->fingerprint, m->fingerprint);
        copy(k->resumed_from, sizeof k->resumed_from, m->resumed_from);
        if (!api__rebuild(a, answer, NULL, on_rebuilt, k, &err)) {
            wait_again(k, err.msg);
        }
    }
    api__release(a);
}

static bool read_it(struct kept *k, struct error *err)
{
    struct journal_done done = {on_loaded, k};
    return journal_read(k->set->journal, str_of(k->id), (struct str){0}, JOURNAL_BODY | JOURNAL_TOKENS, done, err);
}

static void on_counted(void *arg, struct journal_answer *answer)
{
    struct kept *k = arg;
    struct error err = answer->error;
    if (!answer->ok || !read_it(k, &err)) {
        wait_again(k, err.msg);
        api__release(k->set->app);
    }
}

/* It is not read and prepared again only to see that. */
static bool awaits_server(const struct kept *k)
{
    return k->awaits[0] && mcp_host_is_starting(k->set->app->options.mcp, str_of(k->awaits));
}

/* Its start is counted before anything of it is touched: a request that ends the program would end it for ever. One
 * that has only waited for MCP servers since then was not started. */
static void load(struct kept *k)
{
    struct error err = {0};
    struct journal_done done = {on_counted, k};
    k->set->n_waiting--;
    k->phase = KEPT_LOADING;
    k->start = (struct journal_update){.id = str_of(k->id), .count_start = true};
    api__hold(k->set->app);
    bool ok = k->awaits[0] ? read_it(k, &err) : journal_update(k->set->journal, &k->start, 1, done, &err);
    if (!ok) {
        wait_again(k, err.msg);
        api__release(k->set->app);
    }
}

/* Those under which the program ended again and again are tried one at a time, so that it shows which of them does it.
 */
static bool is_its_turn(const struct kept *k)
{
    for (const struct kept *other = k->set->first; other && k->starts >= KEPT_SUSPECT; other = other->next) {
        if (other->starts >= KEPT_SUSPECT && (other->phase == KEPT_LOADING || other->phase == KEPT_RUNNING)) {
            return false;
        }
    }
    return true;
}

static void try_one(struct kept *k)
{
    struct error err = {0};
    char reason[ERROR_MSG_SIZE + 100];
    if (clock_wall_s() >= k->expires_s) {
        error_set(&err, ERR_DEADLINE, "The request waited longer than --journal-max-age-hours: %.120s",
                  k->reason[0] ? k->reason : "too many others ran.");
        k->set->n_waiting--;
        kept__fail(k, &err);
    } else if (k->starts >= KEPT_STARTS_MAX) {
        error_set(&err, ERR_INTERNAL, "The program ended %u times before this request had a new token.", k->starts);
        k->set->n_waiting--;
        kept__fail(k, &err);
    } else if (!gateway_model_find(k->set->app->gateway, str_of(k->model), NULL)) {
        snprintf(reason, sizeof reason, "The model '%.100s' is not served.", k->model);
        k->set->n_waiting--;
        wait_again(k, reason);
    } else if (awaits_server(k)) {
        k->retry_ms = clock_ms() + KEPT_RETRY_MS;
    } else {
        load(k);
    }
}

void kept__resume_waiting(struct kept_set *set)
{
    int64_t now_ms = clock_ms();
    size_t n_loading = 0;
    if (set->stopping || set->n_waiting == 0 || !gateway_accepting(set->app->gateway)) {
        return;
    }
    for (struct kept *k = set->first; k; k = k->next) {
        n_loading += k->phase == KEPT_LOADING;
    }
    for (struct kept *k = set->first, *next; k && set->n_running + n_loading < KEPT_RUNNING_MAX; k = next) {
        next = k->next; /* only k itself may go */
        if (k->phase == KEPT_WAITING && k->retry_ms <= now_ms && is_its_turn(k)) {
            try_one(k);
            n_loading += 1;
        }
    }
}

/* ---- all of them, at the start ---- */

static void list_more(struct kept_set *set);

static void on_listed(void *arg, struct journal_answer *answer)
{
    struct kept_set *set = arg;
    struct app *a = set->app;
    for (size_t i = 0; i < answer->n && !set->stopping; i++) {
        const struct journal_meta *m = &answer->records[i].meta;
        copy(set->listed, sizeof set->listed, m->id);
        if (api__kept_find(set, m->id, m->key_name)) {
            continue; /* it came after the start */
        }
        struct kept *k = kept__create(set, m->id, m->key_name, m->model);
        if (k) {
            k->phase = KEPT_WAITING;
            k->background = m->background;
            k->expires_s = m->expires_s;
            k->starts = m->starts;
            copy(k->reason, sizeof k->reason, m->reason);
            set->n_waiting++;
        }
    }
    if (!answer->ok) {
        LOG_ERROR("the journal's requests cannot be read", "error=\"%s\"", answer->error.msg);
    } else if (answer->more && !set->stopping) {
        list_more(set);
    }
    kept__resume_waiting(set);
    api__release(a);
}

static void list_more(struct kept_set *set)
{
    struct error err = {0};
    struct journal_done done = {on_listed, set};
    api__hold(set->app);
    if (!journal_unfinished(set->journal, str_of(set->listed), LIST_AT_ONCE, done, &err)) {
        LOG_ERROR("the journal's requests cannot be read", "error=\"%s\"", err.msg);
        api__release(set->app);
    }
}

void api__kept_resume(struct kept_set *set)
{
    list_more(set);
}
