#include "pipeline/choice_output.h"

#include "base/hash.h"
#include "chat/output.h"
#include "grammar/json_schema.h"
#include "pipeline/choice.h"

#include <stdio.h>
#include <stdlib.h>

#define CALL_ID_LETTERS 24
#define FAULT_MAX       600

struct choice_output {
    const struct gen_request *request;
    uint32_t prompt, choice;
    struct output_parser *parser;
    size_t step;           /* how many tokens' pieces are all out; the end's step comes behind the last token */
    uint32_t n_pieces;     /* out of the next step's, those that are out */
    bool stepping;         /* that step's text was fed */
    bool ending, ended;    /* that step is the end; its pieces are out */
    bool rest;             /* among them that of the tokens which no other piece takes */
    size_t fed;            /* bytes of the choice's text */
    struct gen_place skip; /* what is before it is not given out */
    size_t n_attached;     /* tokens that were given out */
    bool has_piece;        /* taken from the parser, not given out yet */
    struct output_piece piece;
    struct buf text; /* of the event at hand */
    uint64_t n_reasoning;
    /* the call at hand */
    uint32_t n_calls; /* that have begun */
    struct buf name, arguments;
    char id[sizeof "call_" + CALL_ID_LETTERS];
    char fault[FAULT_MAX]; /* once it has ended; "": it is valid */
};

struct choice_output *choice_output_create(const struct gen_request *r, uint32_t prompt, uint32_t choice,
                                           struct error *err)
{
    struct output_options options = {.tools = r->tool_format,
                                     .reasoning = r->reasoning_format,
                                     .in_reasoning = r->in_reasoning,
                                     .definitions = r->tool_format ? r->tools : NULL};
    struct choice_output *o = calloc(1, sizeof *o);
    if (!o) {
        error_set(err, ERR_NO_MEMORY, "no memory for what an answer means.");
        return NULL;
    }
    o->request = r;
    o->prompt = prompt;
    o->choice = choice;
    buf_init(&o->text, LIMIT_OUTPUT_TEXT);
    buf_init(&o->name, LIMIT_OUTPUT_TEXT);
    buf_init(&o->arguments, LIMIT_OUTPUT_TEXT);
    o->parser = output_parser_create(&options, err);
    if (!o->parser) {
        choice_output_free(o);
        return NULL;
    }
    return o;
}

void choice_output_free(struct choice_output *o)
{
    if (o) {
        output_parser_free(o->parser);
        buf_release(&o->text);
        buf_release(&o->name);
        buf_release(&o->arguments);
        free(o);
    }
}

void choice_output_skip(struct choice_output *o, struct gen_place place)
{
    o->skip = place;
}

/* ---- steps ---- */

/* Feeds the next step's text. False: nothing is there to feed, or err. */
static bool begin_step(struct choice_output *o, const struct choice *c, struct error *err)
{
    size_t from = o->fed, until = c->released;
    if (o->step < c->released_tokens) {
        size_t end = c->tokens[o->step].text_end;
        until = end < until ? end : until;
    } else if (choice_all_taken(c)) {
        o->ending = true;
    } else {
        return false;
    }
    o->stepping = true;
    o->fed = until > from ? until : from;
    return (o->fed == from || output_parser_feed(o->parser, str_slice(buf_view(&c->text), from, o->fed), err)) &&
           (!o->ending || output_parser_end(o->parser, err));
}

/* The parser's next piece of the step at hand; last of all, one of no text for the tokens that no other took. */
static bool next_piece(struct choice_output *o, const struct choice *c)
{
    bool found = output_parser_next(o->parser, &o->piece);
    if (!found && o->ending && !o->rest && o->n_attached < c->released_tokens && gen_request_wants_tokens(o->request)) {
        o->rest = found = true;
        o->piece = (struct output_piece){.kind = OUTPUT_TEXT, .source_end = SIZE_MAX};
    }
    return found;
}

/* A piece that is not out, through as many steps as it takes. */
static bool find_piece(struct choice_output *o, const struct choice *c, struct error *err)
{
    while (!o->has_piece && !o->ended) {
        if (!o->stepping && !begin_step(o, c, err)) {
            return false;
        }
        o->has_piece = next_piece(o, c);
        if (!o->has_piece && o->ending) {
            o->ended = true;
        } else if (!o->has_piece) {
            o->stepping = false;
            o->n_pieces = 0;
            o->step++;
        }
    }
    return o->has_piece;
}

static bool is_skipped(const struct choice_output *o)
{
    return o->step < o->skip.n || (o->step == o->skip.n && o->n_pieces < o->skip.pieces);
}

/* ---- calls ---- */

/* The same whenever the answer is made again; no two of different requests, choices or places are. */
static void make_call_id(struct choice_output *o, uint32_t call)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char place[160];
    int n = snprintf(place, sizeof place, "%s %016llx %u %u %u", o->request->id, (unsigned long long)o->request->seed,
                     (unsigned)o->prompt, (unsigned)o->choice, (unsigned)call);
    char *out = o->id + snprintf(o->id, sizeof o->id, "call_");
    uint64_t digits = 0;
    for (size_t i = 0; i < CALL_ID_LETTERS; i++) {
        digits = i % 8 ? digits / (sizeof letters - 1) : xxh3(place, (size_t)n, i); /* eight letters of 64 bits */
        out[i] = letters[digits % (sizeof letters - 1)];
    }
    out[CALL_ID_LETTERS] = '\0';
}

/* SIZE_MAX: the request has none of that name. */
static size_t find_tool(const struct gen_request *r, struct str name)
{
    for (size_t i = 0; i < json_len(r->tools); i++) {
        const struct json *function = json_get(json_at(r->tools, i), "function");
        if (str_eq(json_str(json_get(function, "name")), name)) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* The arguments of the call at hand by the schema of its tool, in full. NO_MEMORY: nobody knows. */
static void check_arguments(struct choice_output *o, size_t tool, struct str name, struct error *err)
{
    const struct json_schema *schema = o->request->tool_schemas ? o->request->tool_schemas[tool] : NULL;
    struct json_schema_problem why = {0};
    struct error wrong = {0};
    if (!schema) {
        return;
    }
    struct json *arguments = json_parse(buf_view(&o->arguments), LIMIT_SCHEMA_DEPTH, &wrong);
    if (!arguments) {
        snprintf(o->fault, sizeof o->fault, "the arguments of '" STR_FMT "' are no JSON: %.80s", STR_ARG(name),
                 wrong.msg);
    } else if (!json_schema_validate(schema, arguments, &why)) {
        snprintf(o->fault, sizeof o->fault, "the arguments of '" STR_FMT "' are not what its schema wants: %s",
                 STR_ARG(name), why.msg);
    }
    json_free(arguments);
    if (wrong.code == ERR_NO_MEMORY || why.code == ERR_NO_MEMORY) {
        error_set(err, ERR_NO_MEMORY, "no memory to check the arguments of a tool call.");
    }
}

/* Are the arguments of the call at hand what its tool takes? Else o->fault says why not. */
static void check_call(struct choice_output *o, bool complete, struct error *err)
{
    struct str name = str_slice(buf_view(&o->name), 0, 64);
    size_t tool = find_tool(o->request, buf_view(&o->name));
    o->fault[0] = '\0';
    if (!complete) {
        snprintf(o->fault, sizeof o->fault, "the arguments of '" STR_FMT "' are no whole JSON object.", STR_ARG(name));
    } else if (tool == SIZE_MAX) {
        snprintf(o->fault, sizeof o->fault, "the request has no tool '" STR_FMT "'.", STR_ARG(name));
    } else {
        check_arguments(o, tool, name, err);
    }
}

static void note_call(struct choice_output *o, const struct output_piece *piece, struct error *err)
{
    switch (piece->kind) {
    case OUTPUT_CALL:
        o->n_calls = piece->call + 1;
        buf_clear(&o->name);
        buf_clear(&o->arguments);
        buf_append(&o->name, piece->text);
        make_call_id(o, piece->call);
        check_call(o, false, err);
        break;
    case OUTPUT_CALL_END:
        check_call(o, piece->complete, err);
        break;
    case OUTPUT_ARGUMENTS:
        buf_append(&o->arguments, piece->text);
        break;
    default:
        break;
    }
}

/* One that may not be: the request wants no more than one. */
static bool is_surplus(const struct choice_output *o, const struct output_piece *piece)
{
    bool of_call = piece->kind == OUTPUT_CALL || piece->kind == OUTPUT_ARGUMENTS || piece->kind == OUTPUT_CALL_END;
    return of_call && piece->call > 0 && !o->request->parallel_tool_calls;
}

/* ---- events ---- */

static const enum gen_event_kind event_kinds[] = {
    [OUTPUT_TEXT] = GEN_DELTA,          [OUTPUT_REASONING] = GEN_REASONING, [OUTPUT_CALL] = GEN_CALL,
    [OUTPUT_ARGUMENTS] = GEN_ARGUMENTS, [OUTPUT_CALL_END] = GEN_CALL_END,
};

/* Is the piece more of what the event has? They are one event then. */
static bool continues(const struct gen_event *event, const struct output_piece *piece)
{
    return event_kinds[piece->kind] == event->kind && piece->kind != OUTPUT_CALL && piece->kind != OUTPUT_CALL_END;
}

static void begin_event(struct choice_output *o, struct gen_event *event)
{
    event->kind = event_kinds[o->piece.kind];
    if (event->kind == GEN_DELTA || event->kind == GEN_REASONING) {
        return;
    }
    event->call = choice_output_call(o);
}

/* The piece at hand is out, or its reader has it already: so are the tokens that end where it does, or before. */
static void take_piece(struct choice_output *o, const struct choice *c)
{
    size_t from = o->n_attached;
    while (o->n_attached < c->released_tokens && c->tokens[o->n_attached].text_end <= o->piece.source_end) {
        o->n_attached++;
    }
    o->n_reasoning += o->piece.kind == OUTPUT_REASONING ? o->n_attached - from : 0;
    o->n_pieces++;
    o->has_piece = false;
}

static void drop_piece(struct choice_output *o)
{
    o->n_pieces++;
    o->has_piece = false;
}

bool choice_output_next(struct choice_output *o, const struct choice *c, struct gen_event *event, size_t *first_token,
                        size_t *n_tokens, struct error *err)
{
    bool begun = false;
    buf_clear(&o->text);
    while (find_piece(o, c, err)) {
        bool dropped = is_surplus(o, &o->piece);
        if (begun && (dropped || !continues(event, &o->piece))) {
            break;
        }
        if (dropped) {
            drop_piece(o);
            continue;
        }
        note_call(o, &o->piece, err);
        if (!begun && !is_skipped(o)) {
            begin_event(o, event);
            *first_token = o->n_attached;
            begun = true;
        }
        if (begun && o->piece.kind != OUTPUT_CALL) {
            buf_append(&o->text, o->piece.text);
        }
        take_piece(o, c);
    }
    if (begun) {
        event->text = buf_view(&o->text);
        *n_tokens = o->n_attached - *first_token;
    }
    if (err->code || !buf_ok(&o->text, "a piece of an answer", err) ||
        !buf_ok(&o->name, "the name of a tool call", err) ||
        !buf_ok(&o->arguments, "the arguments of a tool call", err)) {
        o->ended = true; /* the parser is of no use any more */
        o->has_piece = false;
        return false;
    }
    return begun;
}

/* ---- where it stands ---- */

bool choice_output_ended(const struct choice_output *o)
{
    return o->ended && !o->has_piece;
}

/* The token that ended the answer need not show: it counts once all is out. */
struct gen_place choice_output_place(const struct choice_output *o, const struct choice *c)
{
    if (choice_output_ended(o) && c->n_tokens > o->step) {
        return (struct gen_place){(uint32_t)c->n_tokens, 0};
    }
    return (struct gen_place){(uint32_t)o->step, o->n_pieces};
}

uint64_t choice_output_reasoning(const struct choice_output *o)
{
    return o->n_reasoning;
}

struct gen_call choice_output_call(const struct choice_output *o)
{
    return (struct gen_call){.index = o->n_calls - 1,
                             .id = str_of(o->id),
                             .name = buf_view(&o->name),
                             .valid = !o->fault[0],
                             .fault = str_of(o->fault)};
}

uint32_t choice_output_calls(const struct choice_output *o)
{
    return o->n_calls;
}
