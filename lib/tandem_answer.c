/* A request run to its end, its answer as a whole. */
#include "lib/tandem_internal.h"

#include "base/array.h"
#include "base/limits.h"

#include <stdlib.h>

#define CALLS_MAX 4096 /* of one choice */

struct call_text {
    char *id, *name, *fault; /* owned; fault NULL: none */
    struct buf arguments;
};

struct choice_text {
    struct buf text, reasoning;
    struct call_text *calls; /* [n_calls] */
    size_t n_calls, cap_calls;
    enum tandem_finish finish;
};

struct tandem_answer {
    uint32_t n_choices;
    struct choice_text *choices; /* [n_choices] */
    struct tandem_usage usage;
    bool failed;
    struct error error;         /* found while events were gathered */
    struct tandem_error reason; /* of the generation */
};

static struct tandem_answer *create(uint32_t n_choices, struct error *err)
{
    struct tandem_answer *a = calloc(1, sizeof *a);
    if (!a || !(a->choices = calloc(n_choices, sizeof a->choices[0]))) {
        free(a);
        error_set(err, ERR_NO_MEMORY, "There is no memory for an answer.");
        return NULL;
    }
    a->n_choices = n_choices;
    for (uint32_t i = 0; i < n_choices; i++) {
        buf_init(&a->choices[i].text, LIMIT_OUTPUT_TEXT);
        buf_init(&a->choices[i].reasoning, LIMIT_OUTPUT_TEXT);
    }
    return a;
}

static void release_choice(struct choice_text *c)
{
    for (size_t i = 0; i < c->n_calls; i++) {
        free(c->calls[i].id);
        free(c->calls[i].name);
        free(c->calls[i].fault);
        buf_release(&c->calls[i].arguments);
    }
    free(c->calls);
    buf_release(&c->text);
    buf_release(&c->reasoning);
}

void tandem_answer_free(struct tandem_answer *answer)
{
    if (answer) {
        for (uint32_t i = 0; i < answer->n_choices; i++) {
            release_choice(&answer->choices[i]);
        }
        free(answer->choices);
        free(answer);
    }
}

/* ---- gathering, on the event thread ---- */

static bool append(struct buf *to, const struct tandem_event *e, struct error *err)
{
    buf_append_bytes(to, e->text, e->text_size);
    return buf_ok(to, "the answer", err);
}

static bool copy(char **to, const char *text, struct error *err)
{
    *to = text ? strdup(text) : NULL;
    return *to || !text || error_set(err, ERR_NO_MEMORY, "There is no memory for an answer.");
}

static bool begin_call(struct choice_text *c, const struct tandem_event *e, struct error *err)
{
    if (!array_reserve(&c->calls, &c->cap_calls, c->n_calls + 1, CALLS_MAX, "tool calls", err)) {
        return false;
    }
    struct call_text *call = &c->calls[c->n_calls++];
    *call = (struct call_text){0};
    buf_init(&call->arguments, LIMIT_OUTPUT_TEXT);
    return copy(&call->id, e->call_id, err) && copy(&call->name, e->call_name, err);
}

static bool gather(struct tandem_answer *a, const struct tandem_event *e, struct error *err)
{
    struct choice_text *c = &a->choices[e->choice < a->n_choices ? e->choice : 0];
    struct call_text *call = c->n_calls ? &c->calls[c->n_calls - 1] : NULL; /* one after another */
    switch (e->kind) {
    case TANDEM_EVENT_TEXT:
        return append(&c->text, e, err);
    case TANDEM_EVENT_REASONING:
        return append(&c->reasoning, e, err);
    case TANDEM_EVENT_CALL:
        return begin_call(c, e, err);
    case TANDEM_EVENT_ARGUMENTS:
        return !call || append(&call->arguments, e, err);
    case TANDEM_EVENT_CALL_END:
        return !call || copy(&call->fault, e->call_fault, err);
    case TANDEM_EVENT_FINISH:
        c->finish = e->finish;
        return true;
    case TANDEM_EVENT_END:
        a->usage = e->usage;
        a->failed = a->failed || e->error;
        if (e->error) {
            a->reason = *e->error;
        }
        return true;
    }
    return true;
}

static bool on_event(void *arg, const struct tandem_event *e)
{
    struct tandem_answer *a = arg;
    if (a->error.code == ERR_NONE && gather(a, e, &a->error)) {
        return true;
    }
    return false;
}

static bool run(struct tandem_answer *a, struct tandem_model *model, const struct tandem_request *request,
                struct tandem_error *error)
{
    struct tandem_generation *g = tandem_generate(model, request, on_event, a, error);
    if (!g) {
        return false;
    }
    tandem_generation_wait(g, -1);
    tandem_generation_free(g);
    if (a->error.code != ERR_NONE) {
        error__give(error, &a->error);
        return false;
    }
    if (a->failed && error) {
        *error = a->reason;
    }
    return !a->failed;
}

struct tandem_answer *tandem_generate_wait(struct tandem_model *model, const struct tandem_request *request,
                                           struct tandem_error *error)
{
    struct error err = {0};
    struct tandem_request known;
    struct tandem_answer *a = NULL;
    tandem_request_init(&known, sizeof known);
    if (model__is_own_thread(model)) {
        error_set(&err, ERR_INVALID, "A callback may not wait for a generation.");
    } else if (options__take(&known, sizeof known, request, request->size, "The request", &err)) {
        bool bad = known.n_choices == 0 || known.n_choices > LIMIT_CHOICES; /* tandem_generate says so */
        a = create(bad ? 1 : known.n_choices, &err);
    }
    if (!a) {
        error__give(error, &err);
        return NULL;
    }
    if (!run(a, model, request, error)) {
        tandem_answer_free(a);
        return NULL;
    }
    return a;
}

/* ---- what it holds ---- */

static const struct choice_text *choice_of(const struct tandem_answer *a, uint32_t choice)
{
    return choice < a->n_choices ? &a->choices[choice] : NULL;
}

static const char *give_text(const struct buf *text, size_t *size)
{
    if (size) {
        *size = text ? text->len : 0;
    }
    return !text ? NULL : text->data ? text->data : "";
}

const char *tandem_answer_text(const struct tandem_answer *answer, uint32_t choice, size_t *size)
{
    const struct choice_text *c = choice_of(answer, choice);
    return give_text(c ? &c->text : NULL, size);
}

const char *tandem_answer_reasoning(const struct tandem_answer *answer, uint32_t choice, size_t *size)
{
    const struct choice_text *c = choice_of(answer, choice);
    return give_text(c ? &c->reasoning : NULL, size);
}

enum tandem_finish tandem_answer_finish(const struct tandem_answer *answer, uint32_t choice)
{
    const struct choice_text *c = choice_of(answer, choice);
    return c ? c->finish : TANDEM_FINISH_NONE;
}

uint32_t tandem_answer_n_calls(const struct tandem_answer *answer, uint32_t choice)
{
    const struct choice_text *c = choice_of(answer, choice);
    return c ? (uint32_t)c->n_calls : 0;
}

bool tandem_answer_get_call(const struct tandem_answer *answer, uint32_t choice, uint32_t index,
                            struct tandem_call *call)
{
    const struct choice_text *c = choice_of(answer, choice);
    if (!c || index >= c->n_calls) {
        return false;
    }
    const struct call_text *from = &c->calls[index];
    struct tandem_call all = {
        .id = from->id, .name = from->name, .arguments = give_text(&from->arguments, NULL), .fault = from->fault};
    options__give(call, call->size, &all, sizeof all);
    return true;
}

struct tandem_usage tandem_answer_usage(const struct tandem_answer *answer)
{
    return answer->usage;
}
