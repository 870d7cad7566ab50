/* From a spec to what all choices with it share: a matcher at the grammar's beginning, the triggers' automaton, and
 * which tokens must not end a trigger. */
#include "grammar/constraint_internal.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- errors ---- */

/* "at 3(7): words" or "3(7): words": where Lark was at fault. */
static bool take_place(struct str *line, uint64_t at[2])
{
    struct str rest = str_starts(*line, STR("at ")) ? str_slice(*line, 3, line->len) : *line, number;
    bool placed = str_split(&rest, '(', &number) && str_to_u64(number, &at[0]) && str_split(&rest, ')', &number) &&
                  str_to_u64(number, &at[1]) && str_starts(rest, STR(": "));
    if (placed) {
        *line = str_slice(rest, 2, rest.len);
    }
    return placed;
}

void constraint__reason(const char *words, bool with_place, char *out, size_t size)
{
    struct str text = str_of(words), line = str_trim(str_slice(text, 0, str_find_char(text, '\n')));
    char place[64] = "";
    uint64_t at[2];
    size_t error = str_find(text, STR("\nerror: ")); /* of a regular expression: what is wrong comes last */
    if (take_place(&line, at) && with_place) {
        snprintf(place, sizeof place, "line %llu, column %llu: ", (unsigned long long)at[0], (unsigned long long)at[1]);
    }
    if (error != STR_NPOS) {
        struct str why = str_slice(text, error + 8, text.len);
        why = str_trim(str_slice(why, 0, str_find_char(why, '\n')));
        snprintf(out, size, "%s" STR_FMT " " STR_FMT, place, STR_ARG(str_slice(line, 0, size / 2)), STR_ARG(why));
    } else {
        snprintf(out, size, "%s" STR_FMT, place, STR_ARG(line));
    }
}

/* What costs too much is no fault of the grammar's syntax. */
bool constraint__is_cost(struct str reason)
{
    static const char *const words[] = {"fuel",  "too large", "too big", "too complex", "too many",
                                        "limit", "exceed",    "max is",  "panic"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_find(reason, str_of(words[i])) != STR_NPOS) {
            return true;
        }
    }
    return false;
}

static bool refuse(const char *field, bool with_place, const char *words, struct error *err)
{
    char reason[200];
    constraint__reason(words, with_place, reason, sizeof reason);
    enum error_code code = constraint__is_cost(str_of(reason)) ? ERR_UNSUPPORTED : ERR_INVALID;
    if (!field) {
        return error_set(err, code, "The grammar cannot be used: %s", reason);
    }
    return error_set_param(err, code, field, "%s: the grammar cannot be used: %s", field, reason);
}

static bool no_memory(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "There is no memory for a constraint.");
}

/* ---- grammars as llguidance takes them ---- */

/* The texts as alternatives of one terminal, so that none hides another that it begins. Lark's strings are JSON's. */
static bool put_choice(struct str grammar, struct buf *out, const char *field, struct error *err)
{
    struct error why = {0};
    struct json *texts = json_parse(grammar, 2, &why);
    size_t n = json_len(texts);
    bool ok = true;
    if (!texts || json_type(texts) != JSON_ARRAY || n == 0 || n > LIMIT_CHOICE_STRINGS) {
        ok = refuse(field, false, texts ? "a choice is a list of 1 to 4096 texts" : why.msg, err);
        goto out;
    }
    buf_puts(out, "start: CHOICE\nCHOICE: ");
    for (size_t i = 0; i < n; i++) {
        if (json_type(json_at(texts, i)) != JSON_STRING) {
            ok = refuse(field, false, "a choice is among texts, but one of its items is none", err);
            goto out;
        }
        buf_puts(out, i ? " | " : "");
        json_quote(out, json_str(json_at(texts, i)));
    }
out:
    json_free(texts);
    return ok;
}

/* llguidance drops a backslash that nothing follows, and takes nothing at all for a comment. */
static bool put_regex(struct str grammar, struct buf *out, const char *field, struct error *err)
{
    size_t slashes = 0;
    while (slashes < grammar.len && grammar.ptr[grammar.len - 1 - slashes] == '\\') {
        slashes++;
    }
    if (slashes % 2) {
        return refuse(field, false, "the regular expression ends with a backslash", err);
    }
    buf_append(out, grammar.len ? grammar : STR("()"));
    return true;
}

static const char *llg_type(enum constraint_kind kind)
{
    return kind == CONSTRAINT_JSON_SCHEMA ? "json_schema" : kind == CONSTRAINT_REGEX ? "regex" : "lark";
}

struct LlgConstraintInit constraint__init(const struct constraint_vocab *v)
{
    const struct constraint_limits *l = &v->limits;
    return (struct LlgConstraintInit){.tokenizer = v->llg,
                                      .limits = {.max_items_in_row = 2000,
                                                 .initial_lexer_fuel = l->compile_fuel,
                                                 .step_lexer_fuel = l->mask_fuel,
                                                 .step_max_items = l->mask_items,
                                                 .max_lexer_states = l->lexer_states,
                                                 .max_grammar_size = l->grammar_size,
                                                 .precompute_large_lexemes = true,
                                                 .verbose_errors = false}};
}

static bool compile_text(struct constraint *c, const char *type, struct buf *text, const char *field, struct error *err)
{
    switch (constraint__gate_compile(c->vocab, type, text, &c->matcher)) {
    case GATE_COMPILED:
        return true;
    case GATE_REFUSED:
        return refuse(field, str_eq(str_of(type), STR("lark")), llg_matcher_get_error(c->matcher), err);
    case GATE_LATE:
        return refuse(field, false, "it takes longer to compile than the time limit", err);
    case GATE_BUSY:
        return error_set(err, ERR_OVERLOADED, "Too many grammars are being compiled.");
    case GATE_NO_MEMORY:
        break;
    }
    return no_memory(err);
}

static bool compile_grammar(struct constraint *c, const struct constraint_spec *spec, const char *field,
                            struct error *err)
{
    struct buf text;
    bool ok;
    buf_init(&text, 8 * LIMIT_GRAMMAR_SIZE);
    if (spec->kind == CONSTRAINT_CHOICE) {
        ok = put_choice(spec->grammar, &text, field, err);
    } else if (spec->kind == CONSTRAINT_REGEX) {
        ok = put_regex(spec->grammar, &text, field, err);
    } else {
        buf_append(&text, spec->grammar);
        ok = spec->grammar.len > 0 || refuse(field, false, "it is empty", err);
    }
    ok = ok && buf_ok(&text, "grammar", err) && compile_text(c, llg_type(spec->kind), &text, field, err);
    buf_release(&text);
    return ok;
}

/* ---- triggers ---- */

size_t constraint__rest_tokens(const struct constraint *c, struct LlgMatcher *m, struct str rest,
                               uint32_t ids[CONSTRAINT_REST_MAX])
{
    size_t size = 0;
    if (rest.len > CONSTRAINT_REST_MAX) {
        return 0;
    }
    size_t n = llg_tokenize_bytes(c->vocab->llg, (const uint8_t *)rest.ptr, rest.len, ids, CONSTRAINT_REST_MAX);
    if (n > CONSTRAINT_REST_MAX) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        size += tokenizer_bytes(c->vocab->tokenizer, (int32_t)ids[i]).len;
    }
    return size == rest.len && llg_matcher_validate_tokens(m, ids, n) == (int32_t)n ? n : 0;
}

static bool add_bad_end(struct constraint *c, int32_t id, uint32_t fed, struct error *err)
{
    size_t max = (size_t)c->vocab->n_vocab * LIMIT_TRIGGERS;
    if (!array_reserve(&c->bad_ends, &c->bad_ends_cap, c->n_bad_ends + 1, max, "tokens that end a trigger", err)) {
        return false;
    }
    c->bad_ends[c->n_bad_ends++] = (struct bad_end){id, fed};
    return true;
}

static bool find_bad_ends_of(struct constraint *c, int32_t id, const bool last_bytes[256], struct error *err)
{
    struct str text = tokenizer_bytes(c->vocab->tokenizer, id);
    uint32_t ids[CONSTRAINT_REST_MAX];
    for (size_t fed = 1; fed < text.len; fed++) {
        if (!last_bytes[(uint8_t)text.ptr[fed - 1]] || !trigger_scan_may_end(c->triggers, str_slice(text, 0, fed)) ||
            constraint__rest_tokens(c, c->matcher, str_slice(text, fed, text.len), ids)) {
            continue;
        }
        if (!add_bad_end(c, id, (uint32_t)fed, err)) {
            return false;
        }
    }
    return true;
}

bool constraint__is_bad_end(const struct constraint *c, const struct bad_end *bad, uint32_t trigger)
{
    struct str text = tokenizer_bytes(c->vocab->tokenizer, bad->id);
    return trigger_scan_feed(c->triggers, &trigger, str_slice(text, 0, bad->fed)) == bad->fed;
}

static bool compile_triggers(struct constraint *c, const struct constraint_spec *spec, struct error *err)
{
    bool last_bytes[256] = {false};
    if (spec->n_triggers == 0) {
        return true;
    }
    c->triggers = trigger_scan_create(spec->triggers, spec->n_triggers, err);
    if (!c->triggers) {
        return false;
    }
    for (uint32_t i = 0; i < spec->n_triggers; i++) {
        last_bytes[(uint8_t)spec->triggers[i].ptr[spec->triggers[i].len - 1]] = true;
    }
    for (int32_t id = 0; id < c->vocab->n_tokens; id++) {
        if (!find_bad_ends_of(c, id, last_bytes, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < c->n_bad_ends && !c->bad_at_once; i++) {
        c->bad_at_once = constraint__is_bad_end(c, &c->bad_ends[i], 0);
    }
    return true;
}

/* ---- reasoning ---- */

static bool copy_ids(struct id_list *out, const struct constraint_ids *in, struct error *err)
{
    if (in->n == 0) {
        return true;
    }
    out->ids = malloc(in->n * sizeof *out->ids);
    out->border = calloc(in->n, sizeof *out->border);
    if (!out->ids || !out->border) {
        return no_memory(err);
    }
    out->n = in->n;
    memcpy(out->ids, in->ids, in->n * sizeof *out->ids);
    for (uint32_t i = 1, k = 0; i < out->n; i++) {
        while (k && out->ids[i] != out->ids[k]) {
            k = out->border[k - 1];
        }
        k += out->ids[i] == out->ids[k];
        out->border[i] = k;
    }
    return true;
}

static bool ids_in_vocab(const struct constraint_vocab *v, const struct constraint_ids *list, struct error *err)
{
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->ids[i] >= v->n_vocab) {
            return error_set(err, ERR_INVALID, "Token %d of a constraint is not in the vocabulary of %d tokens.",
                             (int)list->ids[i], (int)v->n_vocab);
        }
    }
    return true;
}

static bool compile_thinking(struct constraint *c, const struct constraint_spec *spec, struct error *err)
{
    const struct constraint_ids *forced = spec->forced_end.n ? &spec->forced_end : &spec->think_end;
    c->think_open = spec->think_open;
    c->think_budget = spec->think_budget;
    return ids_in_vocab(c->vocab, &spec->think_start, err) && ids_in_vocab(c->vocab, &spec->think_end, err) &&
           ids_in_vocab(c->vocab, forced, err) && copy_ids(&c->think_start, &spec->think_start, err) &&
           copy_ids(&c->think_end, &spec->think_end, err) && copy_ids(&c->forced_end, forced, err);
}

/* ---- the constraint ---- */

struct constraint *constraint_compile(const struct constraint_vocab *v, const struct constraint_spec *spec,
                                      const char *field, struct error *err)
{
    if (!constraint_spec_check(spec, err)) {
        return NULL;
    }
    struct constraint *c = calloc(1, sizeof *c);
    if (!c) {
        no_memory(err);
        return NULL;
    }
    atomic_init(&c->n_owners, 1);
    c->vocab = v;
    if (compile_thinking(c, spec, err) && (spec->kind == CONSTRAINT_NONE || compile_grammar(c, spec, field, err)) &&
        compile_triggers(c, spec, err)) {
        return c;
    }
    constraint_release(c);
    return NULL;
}

struct constraint *constraint_retain(struct constraint *c)
{
    atomic_fetch_add_explicit(&c->n_owners, 1, memory_order_relaxed);
    return c;
}

static void free_ids(struct id_list *list)
{
    free(list->ids);
    free(list->border);
}

void constraint_release(struct constraint *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->n_owners, 1, memory_order_acq_rel) > 1) {
        return;
    }
    if (c->matcher) {
        llg_free_matcher(c->matcher);
    }
    trigger_scan_free(c->triggers);
    free(c->bad_ends);
    free_ids(&c->think_start);
    free_ids(&c->think_end);
    free_ids(&c->forced_end);
    free(c);
}
