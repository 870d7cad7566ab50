/* What a row gets is a function of the job's prompt, the choice and the output index alone, as with a model: so a
 * preempted or resumed sequence goes on where it was. A row for a guess counts only when the guess is what the script
 * has there, and not its end: else nobody will look at what the row gives, and nothing of what comes behind the answer
 * happens yet. */
#include "engine/script.h"

#include "base/array.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"

#include <stdlib.h>

#define SCRIPT_MAX_SIZE  MIB(16)
#define SCRIPT_MAX_TEXTS LIMIT_CHOICES
#define SCRIPT_MAX_DELAY 3600000
#define SCRIPT_JOBS      1024 /* jobs whose rule is remembered */

enum then { THEN_EOS, THEN_LENGTH, THEN_FAIL, THEN_CRASH, THEN_HANG, THEN_COUNT };
static const char *const then_names[THEN_COUNT] = {"eos", "length", "fail", "crash", "hang"};

struct rule {
    struct str match;            /* empty: ids, or anything */
    struct token_list match_ids; /* n 0: none */
    struct token_list answers[SCRIPT_MAX_TEXTS];
    size_t n_answers;
    int64_t delay_ms, first_delay_ms;
    enum then then;
};

struct script {
    struct executor base;
    const struct tokenizer *tokenizer;
    struct buf text; /* of the file */
    struct json *root;
    struct rule *rules; /* [n_rules + 1]: the default is last */
    size_t n_rules;
    struct buf prompt; /* decoded, scratch */
    struct {
        uint64_t job;
        const struct rule *rule;
    } known[SCRIPT_JOBS];
    const struct rule **step_rules; /* [cap_rows] of the step that is read next */
    size_t cap_rows;
};

/* ---- loading ---- */

static bool read_ids(const struct json *v, struct token_list *out, struct error *err)
{
    for (size_t i = 0; i < json_len(v); i++) {
        if (!array_reserve(&out->ids, &out->cap, out->n + 1, LIMIT_CONTEXT, "the ids of a script", err)) {
            return false;
        }
        out->ids[out->n++] = (int32_t)json_int(json_at(v, i));
    }
    return true;
}

static bool read_text(const struct script *s, struct str text, struct token_list *out, struct error *err)
{
    struct encode_options options = {.parse_special = true};
    return tokenizer_encode(s->tokenizer, text, options, out, err);
}

static bool read_answers(const struct script *s, const struct json *v, struct rule *rule, struct error *err)
{
    const struct json *texts = json_get(v, "texts"), *ids = json_get(v, "ids");
    rule->n_answers = 1;
    if (ids) {
        return read_ids(ids, &rule->answers[0], err);
    }
    if (!texts) {
        return read_text(s, json_str(json_get(v, "text")), &rule->answers[0], err);
    }
    rule->n_answers = json_len(texts);
    if (rule->n_answers == 0 || rule->n_answers > SCRIPT_MAX_TEXTS) {
        return error_set(err, ERR_INVALID, "'texts' of a rule needs 1 to %d texts.", SCRIPT_MAX_TEXTS);
    }
    for (size_t i = 0; i < rule->n_answers; i++) {
        if (!read_text(s, json_str(json_at(texts, i)), &rule->answers[i], err)) {
            return false;
        }
    }
    return true;
}

static bool read_delay(const struct json *v, const char *key, int64_t *out, struct error *err)
{
    const struct json *delay = json_get(v, key);
    *out = json_int(delay);
    return (*out >= 0 && *out <= SCRIPT_MAX_DELAY) ||
           error_set(err, ERR_INVALID, "'%s' of a rule must be between 0 and %d ms.", key, SCRIPT_MAX_DELAY);
}

static bool read_then(const struct json *v, enum then *out, struct error *err)
{
    const struct json *name = json_get(v, "then");
    for (int i = 0; name && i < THEN_COUNT; i++) {
        if (str_eq(json_str(name), str_of(then_names[i]))) {
            *out = (enum then)i;
            return true;
        }
    }
    return !name ||
           error_set(err, ERR_INVALID, "'then' of a rule must be eos, length, fail, crash or hang, not '" STR_FMT "'.",
                     STR_ARG(json_str(name)));
}

static bool read_rule(const struct script *s, const struct json *v, struct rule *rule, struct error *err)
{
    static const char *const keys[] = {"match", "text", "texts", "ids", "delay_ms", "first_delay_ms", "then"};
    struct json_iter it = json_members(v);
    while (json_next(&it)) {
        size_t i = 0;
        while (i < ARRAY_LEN(keys) && !str_eq(it.key, str_of(keys[i]))) {
            i++;
        }
        if (i == ARRAY_LEN(keys)) {
            return error_set(err, ERR_INVALID, "A rule of the script has an unknown key '" STR_FMT "'.",
                             STR_ARG(it.key));
        }
    }
    const struct json *match = json_get(v, "match");
    rule->match = json_str(match);
    return (json_type(match) != JSON_OBJECT || read_ids(json_get(match, "ids"), &rule->match_ids, err)) &&
           read_answers(s, v, rule, err) && read_delay(v, "delay_ms", &rule->delay_ms, err) &&
           read_delay(v, "first_delay_ms", &rule->first_delay_ms, err) && read_then(v, &rule->then, err);
}

static bool read_rules(struct script *s, struct error *err)
{
    const struct json *rules = json_get(s->root, "rules"), *fallback = json_get(s->root, "default");
    if (rules && json_type(rules) != JSON_ARRAY) {
        return error_set(err, ERR_INVALID, "'rules' of the script must be an array, not %s.",
                         json_type_name(json_type(rules)));
    }
    s->n_rules = json_len(rules);
    s->rules = calloc(s->n_rules + 1, sizeof *s->rules);
    if (!s->rules) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the %zu rules of a script.", s->n_rules);
    }
    for (size_t i = 0; i < s->n_rules; i++) {
        if (!read_rule(s, json_at(rules, i), &s->rules[i], err)) {
            return error_wrap(err, "rule %zu", i);
        }
    }
    s->rules[s->n_rules].n_answers = 1;
    return !fallback || read_rule(s, fallback, &s->rules[s->n_rules], err) || error_wrap(err, "default rule");
}

/* ---- choosing ---- */

static bool has_ids(const int32_t *prompt, size_t n, const struct token_list *ids)
{
    for (size_t i = 0; ids->n && i + ids->n <= n; i++) {
        if (memcmp(prompt + i, ids->ids, ids->n * sizeof *prompt) == 0) {
            return true;
        }
    }
    return false;
}

static const struct rule *find_rule(struct script *s, const struct sample_row *row)
{
    size_t n = (size_t)row->n_prompt;
    buf_clear(&s->prompt);
    tokenizer_decode(s->tokenizer, row->history, n, false, &s->prompt);
    for (size_t i = 0; i < s->n_rules; i++) {
        const struct rule *rule = &s->rules[i];
        bool anything = !rule->match.len && !rule->match_ids.n;
        if (anything || has_ids(row->history, n, &rule->match_ids) ||
            (rule->match.len && str_find(buf_view(&s->prompt), rule->match) != STR_NPOS)) {
            return rule;
        }
    }
    return &s->rules[s->n_rules];
}

static const struct rule *rule_of(struct script *s, const struct sample_row *row, uint64_t job)
{
    size_t at = job % SCRIPT_JOBS;
    if (!s->known[at].rule || s->known[at].job != job) {
        s->known[at].job = job;
        s->known[at].rule = find_rule(s, row);
    }
    return s->known[at].rule;
}

static const struct token_list *answer_of(const struct rule *rule, uint32_t choice)
{
    return &rule->answers[choice % rule->n_answers];
}

/* ---- the executor ---- */

static bool is_over(const struct rule *rule, const struct sample_row *row, uint32_t choice)
{
    return (size_t)row->n_output >= answer_of(rule, choice)->n;
}

static int32_t next_id(const struct script *s, const struct rule *rule, const struct sample_row *row, uint32_t choice)
{
    const struct token_list *answer = answer_of(rule, choice);
    size_t i = (size_t)row->n_output;
    if (i < answer->n) {
        return answer->ids[i];
    }
    int32_t eos = tokenizer_special(s->tokenizer)->eos;
    if (rule->then == THEN_LENGTH && answer->n) {
        return answer->ids[i % answer->n];
    }
    return eos >= 0 ? eos : 0;
}

/* A row for a guess: it goes on where the row before it is. */
static bool is_behind(const struct executor_step *step, int i)
{
    const struct sample_row *row = &step->rows[i];
    const struct executor_owner *owner = &step->owners[i];
    return i > 0 && row[-1].score_id < 0 && owner[-1].job == owner->job && owner[-1].choice == owner->choice &&
           row->n_output == row[-1].n_output + 1;
}

/* The guess of a row is what the script has there, and not its end. */
static bool is_right(const struct script *s, const struct executor_step *step, int i)
{
    const struct sample_row *row = &step->rows[i], *last = row - 1;
    const struct rule *rule = s->step_rules[i - 1];
    uint32_t choice = step->owners[i].choice;
    bool ended = is_over(rule, last, choice) && rule->then != THEN_LENGTH;
    return !ended && row->history[row->n_prompt + row->n_output - 1] == next_id(s, rule, last, choice);
}

/* What comes behind the answer. */
static void end_badly(const struct rule *rule)
{
    if (rule->then == THEN_CRASH) {
        LOG_ERROR("the script ends the process", NULL);
        abort();
    }
    while (rule->then == THEN_HANG) {
        clock_sleep_ms(SCRIPT_MAX_DELAY);
    }
}

static bool reserve_rows(struct script *s, size_t n, struct error *err)
{
    return array_reserve(&s->step_rules, &s->cap_rows, n, SIZE_MAX / 16, "the rows of a step", err);
}

static bool run_step(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    struct script *s = (struct script *)x;
    int64_t delay_ms = 0, mine_ms = 0; /* of the step; of the rows of one choice so far */
    bool counts = true;
    *ids = NULL;
    if (!reserve_rows(s, (size_t)step->n_samples + 1, err)) {
        return false;
    }
    for (int i = 0; i < step->n_samples; i++) {
        const struct sample_row *row = &step->rows[i];
        bool behind = is_behind(step, i);
        s->step_rules[i] = NULL;
        if (row->score_id >= 0) {
            continue;
        }
        const struct rule *rule = s->step_rules[i] = rule_of(s, row, step->owners[i].job);
        counts = !behind || (counts && is_right(s, step, i));
        if (!counts) {
            continue;
        }
        mine_ms = behind ? mine_ms : 0;
        mine_ms += row->n_output == 0 && rule->first_delay_ms ? rule->first_delay_ms : rule->delay_ms;
        delay_ms = mine_ms > delay_ms ? mine_ms : delay_ms;
        if (is_over(rule, row, step->owners[i].choice)) {
            end_badly(rule);
        }
    }
    if (delay_ms) {
        clock_sleep_ms(delay_ms);
    }
    return true;
}

/* Logprobs are made up, but stable: the token is the most likely one, and its neighbours follow it. */
static void fill_result(const struct sample_row *row, int32_t id, int32_t n_vocab, struct sample_result *out)
{
    size_t n_history = (size_t)row->n_prompt + (size_t)row->n_output;
    *out = (struct sample_result){.id = id, .logprob = -0.25f, .rank = 1, .finite = true, .n_top = row->n_top};
    for (int32_t i = 0; i < row->n_top; i++) {
        out->top[i] = (struct top_logprob){(id + i) % n_vocab, -0.25f - (float)i};
    }
    if (row->want_digest) {
        out->digest = xxh3(row->history, n_history * sizeof *row->history, (uint64_t)id);
    }
}

/* The token is the script's all the same: the job fails because of it. */
static void check_mask(const struct script *s, const struct sample_row *row, const struct sample_result *result,
                       const struct executor_owner *owner)
{
    if (row->mask && result->id >= 0 && !bits_have(row->mask, result->id)) {
        LOG_ERROR("the script has a token that the constraint forbids", "job=%llu choice=%u index=%d token=\"%.*s\"",
                  (unsigned long long)owner->job, owner->choice, row->n_output,
                  STR_ARG(tokenizer_bytes(s->tokenizer, result->id)));
    }
}

static bool read_step(struct executor *x, const struct executor_step *step, struct tensor *ids,
                      struct sample_result *results, struct error *err)
{
    struct script *s = (struct script *)x;
    int32_t n_vocab = tokenizer_n_vocab(s->tokenizer);
    (void)ids;
    (void)err;
    for (int i = 0; i < step->n_samples; i++) {
        const struct sample_row *row = &step->rows[i];
        const struct rule *rule = s->step_rules[i];
        uint32_t choice = step->owners[i].choice;
        fill_result(row, rule ? next_id(s, rule, row, choice) : row->score_id, n_vocab, &results[i]);
        check_mask(s, row, &results[i], &step->owners[i]);
        results[i].finite = !rule || rule->then != THEN_FAIL || !is_over(rule, row, choice);
    }
    return true;
}

static void copy_page(struct executor *x, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    (void)x; /* nothing is in the pages */
    (void)group;
    (void)src;
    (void)dst;
    (void)n_tokens;
}

static void free_script(struct executor *x)
{
    struct script *s = (struct script *)x;
    for (size_t i = 0; s->rules && i <= s->n_rules; i++) {
        token_list_release(&s->rules[i].match_ids);
        for (size_t k = 0; k < SCRIPT_MAX_TEXTS; k++) {
            token_list_release(&s->rules[i].answers[k]);
        }
    }
    free(s->rules);
    json_free(s->root);
    buf_release(&s->text);
    buf_release(&s->prompt);
    free(s->step_rules);
    free(s);
}

static const struct executor_ops ops = {
    .step = run_step, .read = read_step, .copy_page = copy_page, .free = free_script};

struct executor *script_executor_create(const char *path, const struct tokenizer *tokenizer, struct error *err)
{
    struct script *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a script.");
        return NULL;
    }
    s->base = (struct executor){.ops = &ops, .no_guesses = true};
    s->tokenizer = tokenizer;
    buf_init(&s->prompt, MIB(256));
    if (file_read(path, SCRIPT_MAX_SIZE, &s->text, err) && (s->root = json_parse(buf_view(&s->text), 0, err)) &&
        read_rules(s, err)) {
        return &s->base;
    }
    free_script(&s->base);
    error_wrap(err, "script '%s'", path);
    return NULL;
}
