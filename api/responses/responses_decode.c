/* A response's request: its fields, what it needs of earlier responses, its chat messages. */
#include "api/responses/responses_items.h"

#include "base/array.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

static bool fetch(struct call *c);

const struct json *responses_keep_json(struct arena *arena, struct str text, struct error *err)
{
    struct json *root = json_parse(text, LIMIT_JSON_DEPTH + 8, err); /* it lies deeper than where it came from */
    return json_keep(root, arena, "the request", err);
}

/* "tools[0].function.name" is "tools[0].name" here. */
bool responses_bare_param(struct error *err)
{
    static const char inner[] = ".function";
    char *found = strstr(err->param, inner);
    if (found && str_starts(str_of(err->param), STR("tools["))) {
        memmove(found, found + strlen(inner), strlen(found + strlen(inner)) + 1);
    }
    return false;
}

static bool refuse(struct error *err, const char *param, const char *why)
{
    return error_set_param(err, ERR_INVALID, param, "%s", why);
}

/* ---- what concerns several fields ---- */

static bool has_reference(const struct json *input)
{
    for (size_t i = 0; json_type(input) == JSON_ARRAY && i < json_len(input); i++) {
        if (responses_kind(json_at(input, i)) == RESPONSES_REFERENCE) {
            return true;
        }
    }
    return false;
}

static bool check_keeping(const struct call *c, const struct responses_request *r, struct error *err)
{
    const char *needs = r->request.background ? "background" : r->store == 1 ? "store" : NULL;
    needs = !needs && r->request.detach ? "detach" : needs;
    needs = !needs && r->previous_id.len ? "previous_response_id" : needs;
    if (needs && c->in_batch) {
        return error_set_param(err, ERR_UNSUPPORTED, needs, "'%s' is not available in a batch.", needs);
    }
    if (c->in_batch && has_reference(r->input)) {
        return error_set_param(err, ERR_UNSUPPORTED, "input", "'item_reference' is not available in a batch.");
    }
    if (needs && !c->app->options.journal) {
        return error_set_param(err, ERR_UNSUPPORTED, needs,
                               "'%s' is not available: this server keeps no responses; it was started without "
                               "--journal.",
                               needs);
    }
    if (r->store == 0 && (r->request.background || r->request.detach)) {
        return refuse(err, "store", "'store' cannot be false together with 'background' or 'detach'.");
    }
    return true;
}

static bool check(const struct call *c, const struct responses_request *r, struct error *err)
{
    if (!r->input && !r->previous_id.len) {
        return field_missing_error(err, "input");
    }
    if (r->request.n_top && !r->with_logprobs) {
        return refuse(err, "top_logprobs",
                      "'top_logprobs' needs \"message.output_text.logprobs\" in 'include', which asks for logprobs.");
    }
    if (r->request.has_stream_options && !r->request.stream) {
        return refuse(err, "stream_options", "'stream_options' is only allowed together with 'stream': true.");
    }
    return check_keeping(c, r, err);
}

/* ---- tools that may be called ---- */

static bool no_such_tool(struct error *err, struct str name)
{
    return error_set_param(err, ERR_INVALID, "tool_choice", "Tool choice '" STR_FMT "' not found in 'tools'.",
                           STR_ARG(str_slice(name, 0, 64)));
}

/* Those of tool_choice "allowed_tools" are all that the model is shown. */
static bool keep_allowed(struct responses_request *r, const struct json *allowed, struct error *err)
{
    struct buf out;
    bool ok = true;
    buf_init(&out, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&out);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(allowed); i++) {
        struct str name = json_str(json_get(json_at(allowed, i), "name"));
        const struct json *tool = gen_tool_find(r->request.tools, name);
        ok = tool || no_such_tool(err, name);
        json_put_json(&w, tool);
    }
    json_end_array(&w);
    if (ok) {
        r->request.tools =
            buf_ok(&out, "the tools", err) ? responses_keep_json(r->request.arena, buf_view(&out), err) : NULL;
        ok = r->request.tools != NULL;
    }
    buf_release(&out);
    return ok;
}

static bool resolve_tools(struct responses_request *r, struct error *err)
{
    const struct json *allowed = json_get(r->tool_choice, "tools");
    enum gen_tool_choice choice = r->request.mcp.wanted ? GEN_TOOLS_AUTO : r->request.tool_choice; /* looked at later */
    if (json_type(r->tool_choice) == JSON_OBJECT && allowed && !keep_allowed(r, allowed, err)) {
        return false;
    }
    if (choice == GEN_TOOLS_NAMED && !gen_tool_find(r->request.tools, r->request.tool_name)) {
        return no_such_tool(err, r->request.tool_name);
    }
    return choice != GEN_TOOLS_REQUIRED || json_len(r->request.tools) ||
           refuse(err, "tool_choice", "'tool_choice' is \"required\", but there are no 'tools'.");
}

/* ---- decoding ---- */

static struct responses_request *create(struct call *c, struct error *err)
{
    struct responses_request *r = arena_alloc(c->arena, sizeof *r);
    if (!r) {
        arena_full(c->arena, "the request", err);
        return NULL;
    }
    *r = (struct responses_request){.store = -1};
    api__init_request(c, &r->request, GEN_CHAT, "resp_");
    r->request.stepwise = true;
    r->request.interval_tokens = 1; /* each is an event */
    return r;
}

/* What is kept and not wanted any longer ends with its client, unless it asks for more. */
static void settle_keeping(struct call *c, struct responses_request *r)
{
    bool kept = r->store == 1 || (r->store < 0 && c->app->options.journal && !c->in_batch);
    r->store = kept;
    c->attached = kept && !r->request.background && !r->request.detach && !c->rebuilt;
    r->request.detach |= kept && !r->request.background;
}

bool api__decode_responses(struct call *c, struct error *err)
{
    struct responses_request *r = create(c, err);
    const struct json *body = c->body;
    if (!r) {
        return false;
    }
    if (c->rebuilt && json_type(body) == JSON_ARRAY) {
        r->context = json_at(body, 1);
        r->references = json_at(body, 2);
        body = json_at(body, 0);
    }
    if (!responses_check_earlier(r->context, r->references, err)) {
        return false;
    }
    struct decoding d = api__decoding(c, r);
    d.request = &r->request;
    if (!api__decode_body(c, &d, body, err) || !check(c, r, err) || !responses_settle_mcp(c, r, err) ||
        !resolve_tools(r, err)) {
        return false;
    }
    r->request.logprobs = r->with_logprobs;
    r->request.return_progress = r->request.stream; /* its first events come when the prompt is begun */
    settle_keeping(c, r);
    c->request = r->request;
    c->extra = r;
    c->fetch = c->rebuilt ? NULL : fetch;
    return true;
}

/* ---- earlier responses ---- */

struct fetching {
    struct call *call;
    char ids[1 + RESPONSES_REFERENCES][48]; /* [n]; the first is the one that the request follows, or empty */
    size_t n, at;
    struct journal_answer answers[1 + RESPONSES_REFERENCES]; /* [n]; n 0: none was found */
};

static void add_maker(struct fetching *f, const char *id)
{
    for (size_t i = 1; i < f->n; i++) {
        if (strcmp(f->ids[i], id) == 0) {
            return;
        }
    }
    if (f->n < ARRAY_LEN(f->ids)) {
        snprintf(f->ids[f->n++], sizeof f->ids[0], "%s", id);
    }
}

static struct fetching *plan(struct call *c)
{
    const struct responses_request *r = responses_of(c);
    struct fetching *f = calloc(1, sizeof *f);
    char maker[48];
    if (!f) {
        return NULL;
    }
    f->call = c;
    f->n = 1;
    snprintf(f->ids[0], sizeof f->ids[0], STR_FMT, STR_ARG(str_slice(r->previous_id, 0, 47)));
    for (size_t i = 0; json_type(r->input) == JSON_ARRAY && i < json_len(r->input); i++) {
        const struct json *item = json_at(r->input, i);
        if (responses_kind(item) == RESPONSES_REFERENCE &&
            responses_maker(json_str(json_get(item, "id")), maker, sizeof maker)) {
            add_maker(f, maker);
        }
    }
    f->at = f->ids[0][0] ? 0 : 1;
    return f;
}

/* The request of a stored response, decoded within the arena of the call that needs it. */
static bool decode_old(struct call *c, const struct journal_record *record, struct call *old, struct error *err)
{
    *old = (struct call){.app = c->app, .route = c->route, .arena = c->arena, .text = record->body, .rebuilt = true};
    buf_init(&old->ignored, KIB(2));
    api__call_decode(old);
    buf_release(&old->ignored);
    snprintf(old->request.id, sizeof old->request.id, STR_FMT, STR_ARG(record->meta.id));
    if (!old->ok) {
        *err = old->error;
    }
    return old->ok;
}

static const struct json *output_of(struct call *c, const struct journal_record *record, struct error *err)
{
    const struct json *result = record->result.len ? responses_keep_json(c->arena, record->result, err) : NULL;
    return json_get(result, "output");
}

static bool put_context(struct call *c, const struct journal_record *record, struct json_writer *w, struct error *err)
{
    struct call old;
    if (!decode_old(c, record, &old, err)) {
        return false;
    }
    const struct json *output = output_of(c, record, err);
    size_t n = responses_n_items(&old);
    if (n + json_len(output) > LIMIT_MESSAGES) {
        return error_set_param(err, ERR_INVALID, "previous_response_id",
                               "The conversation has %zu items; at most %d are allowed.", n + json_len(output),
                               LIMIT_MESSAGES);
    }
    for (size_t i = 0; i < n; i++) {
        responses_put_item(w, &old, i);
    }
    for (size_t i = 0; i < json_len(output); i++) {
        json_put_json(w, json_at(output, i));
    }
    return !err->code;
}

/* Those of the request's references that this response has. */
static bool put_references(struct call *c, const struct journal_record *record, struct json_writer *w,
                           struct error *err)
{
    const struct json *input = responses_of(c)->input;
    struct call old;
    char room[64], maker[48];
    if (!decode_old(c, record, &old, err)) {
        return false;
    }
    const struct json *output = output_of(c, record, err);
    for (size_t i = 0; i < json_len(input); i++) {
        struct str id = json_str(json_get(json_at(input, i), "id"));
        if (responses_kind(json_at(input, i)) != RESPONSES_REFERENCE || !responses_maker(id, maker, sizeof maker) ||
            !str_eq(str_of(maker), record->meta.id)) {
            continue;
        }
        for (size_t k = 0; k < responses_n_items(&old); k++) {
            if (str_eq(responses_item_id(&old, k, room, sizeof room), id)) {
                json_key(w, id.ptr);
                responses_put_item(w, &old, k);
            }
        }
        for (size_t k = 0; k < json_len(output); k++) {
            if (str_eq(json_str(json_get(json_at(output, k), "id")), id)) {
                json_member_json(w, id.ptr, json_at(output, k));
            }
        }
    }
    return !err->code;
}

static bool join(struct fetching *f, struct buf *out, struct error *err)
{
    struct call *c = f->call;
    struct json_writer w = json_writer(out);
    bool ok = true;
    json_begin_array(&w);
    json_put_raw(&w, c->text);
    json_begin_array(&w);
    if (f->answers[0].n) {
        ok = put_context(c, &f->answers[0].records[0], &w, err);
    }
    json_end_array(&w);
    json_begin_object(&w);
    for (size_t i = 1; ok && i < f->n; i++) {
        ok = f->answers[i].n == 0 || put_references(c, &f->answers[i].records[0], &w, err);
    }
    json_end_object(&w);
    json_end_array(&w);
    return ok && buf_ok(out, "the conversation", err);
}

/* What is kept of the request is what it takes to make it again. */
static void work(void *arg)
{
    struct fetching *f = arg;
    struct call *c = f->call;
    struct responses_request *r = responses_of(c);
    struct buf out;
    buf_init(&out, 2 * LIMIT_HTTP_BODY);
    c->ok = join(f, &out, &c->error);
    struct str text = c->ok ? arena_str(c->arena, buf_view(&out)) : (struct str){0};
    buf_release(&out);
    if (c->ok && !text.ptr) {
        c->ok = arena_full(c->arena, "the conversation", &c->error);
    }
    const struct json *root = c->ok ? responses_keep_json(c->arena, text, &c->error) : NULL;
    c->ok = root != NULL;
    if (root) {
        c->text = text;
        r->context = json_at(root, 1);
        r->references = json_at(root, 2);
    }
}

static void worked(void *arg)
{
    struct fetching *f = arg;
    struct call *c = f->call;
    for (size_t i = 0; i < f->n; i++) {
        arena_free(f->answers[i].arena);
    }
    free(f);
    api__call_go_on(c);
}

static void read_next(struct fetching *f);

static bool accept_previous(const struct fetching *f, const struct journal_answer *answer, struct error *err)
{
    const struct journal_record *record = answer->records;
    const char *id = f->ids[0];
    if (!answer->ok && answer->error.code != ERR_NOT_FOUND) {
        *err = answer->error;
        return false;
    }
    if (!answer->ok || !str_eq(record->meta.route, STR(RESPONSES_ROUTE))) {
        return error_set_param(err, ERR_NO_PREVIOUS, "previous_response_id",
                               "Previous response with id '%s' not found.", id);
    }
    if (record->damaged) {
        return error_set(err, ERR_IO, "The journal's copy of '%s' is damaged.", id);
    }
    return (journal_state_ended(record->meta.state) && record->result.len) ||
           error_set_param(err, ERR_INVALID, "previous_response_id",
                           "The previous response '%s' has no output to go on from: it is %s.", id,
                           journal_state_name(record->meta.state));
}

static void on_read(void *arg, struct journal_answer *answer)
{
    struct fetching *f = arg;
    struct call *c = f->call;
    bool usable =
        answer->ok && str_eq(answer->records[0].meta.route, STR(RESPONSES_ROUTE)) && !answer->records[0].damaged;
    if (f->at == 0) {
        c->ok = accept_previous(f, answer, &c->error);
    }
    if (usable) {
        f->answers[f->at] = *answer;
        answer->arena = NULL;
    }
    f->at++;
    read_next(f);
}

static void read_next(struct fetching *f)
{
    struct call *c = f->call;
    struct journal_done done = {on_read, f};
    if (c->ok && c->x && f->at < f->n) {
        c->ok = journal_read(c->app->options.journal, str_of(f->ids[f->at]), str_of(c->key_name),
                             JOURNAL_BODY | JOURNAL_RESULT, done, &c->error);
        if (c->ok) {
            return;
        }
    }
    if (c->ok && c->x) {
        loop_work(c->app->loop, work, worked, f);
    } else {
        worked(f);
    }
}

static bool fetch(struct call *c)
{
    struct fetching *f = plan(c);
    if (!f) {
        c->ok = error_set(&c->error, ERR_NO_MEMORY, "no memory for a request.");
        return false;
    }
    if (!c->app->options.journal || f->at == f->n) {
        free(f);
        return false;
    }
    read_next(f);
    return true;
}

/* ---- chat messages that fit ---- */

static bool prepare_without(struct call *c, size_t n_dropped, struct error *err)
{
    c->request.messages = responses_messages(c, n_dropped, err);
    if (!c->request.messages) {
        return false;
    }
    if (!request_check_messages(c->request.messages, err) || !api__prepare(c, err)) {
        if (str_starts(str_of(err->param), STR("messages"))) {
            snprintf(err->param, sizeof err->param, "input"); /* where the messages came from */
        }
        return responses_bare_param(err);
    }
    return true;
}

/* As few of the oldest items as it takes. */
static bool prepare_truncated(struct call *c, struct error *err)
{
    size_t low = 0, high = responses_n_droppable(c);
    struct error tried = {0};
    if (high == 0 || !prepare_without(c, high, &tried)) {
        return false; /* what was said of all of it stands */
    }
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        tried = (struct error){0};
        if (prepare_without(c, middle, &tried)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    *err = (struct error){0};
    return prepare_without(c, high, err);
}

bool api__work_responses(struct call *c, struct error *err)
{
    return prepare_without(c, 0, err) ||
           (err->code == ERR_CONTEXT_EXCEEDED && responses_of(c)->truncate && prepare_truncated(c, err));
}
