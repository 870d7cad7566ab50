#include "cli/loadgen_prompts.h"

#include "base/array.h"
#include "base/json.h"
#include "base/rng.h"

#define PROMPT_MAX ((size_t)16 << 20) /* bytes of one prompt; options allow far less */

/* Words that every tokenizer for English has whole. */
static const char *const words[] = {
    "the",    "time",    "people",  "water",     "a",       "small",    "house",  "of",       "light",   "and",
    "day",    "in",      "world",   "that",      "life",    "is",       "hand",   "part",     "for",     "child",
    "with",   "place",   "on",      "work",      "week",    "as",       "case",   "point",    "company", "at",
    "number", "group",   "by",      "problem",   "fact",    "from",     "great",  "new",      "or",      "good",
    "first",  "an",      "last",    "long",      "be",      "own",      "other",  "this",     "old",     "right",
    "big",    "high",    "not",     "different", "large",   "next",     "early",  "young",    "it",      "important",
    "few",    "public",  "bad",     "same",      "able",    "was",      "know",   "take",     "see",     "are",
    "come",   "think",   "look",    "want",      "give",    "have",     "use",    "find",     "tell",    "ask",
    "has",    "seem",    "feel",    "try",       "leave",   "call",     "river",  "stone",    "music",   "story",
    "city",   "garden",  "winter",  "summer",    "morning", "night",    "paper",  "door",     "window",  "money",
    "power",  "war",     "history", "party",     "result",  "change",   "reason", "research", "girl",    "moment",
    "air",    "teacher", "force",   "education", "foot",    "boy",      "age",    "policy",   "process", "level",
    "market", "sense",   "nation",  "plan",      "college", "interest", "death",  "course",   "someone", "experience",
    "behind", "table",
};

static const char *const questions[] = {
    "Explain in a few sentences why",   "Tell me a short story in which",  "List three reasons to doubt that",
    "Write a polite letter which says", "Give advice to someone who says", "Describe a world in which",
    "Translate into French:",           "Summarize for a child:",
};

static const struct {
    const char *name;
    int prompt_tokens, max_tokens;
} sets[] = {
    [LOADGEN_SET_SHORT] = {"short", 24, 64},
    [LOADGEN_SET_CHAT] = {"chat", 200, 128},
    [LOADGEN_SET_CODE] = {"code", 400, 256},
    [LOADGEN_SET_LONG] = {"long", 2000, 128},
    [LOADGEN_SET_SHARED_PREFIX] = {"shared-prefix", 1000, 64},
};

bool loadgen_prompt_set_parse(const char *name, enum loadgen_prompt_set *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        if (strcmp(sets[i].name, name) == 0) {
            *out = (enum loadgen_prompt_set)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "--prompt-set: '%.40s' is none of short, chat, code, long, shared-prefix.",
                     name);
}

const char *loadgen_prompt_set_name(enum loadgen_prompt_set set)
{
    return sets[set].name;
}

int loadgen_prompt_set_tokens(enum loadgen_prompt_set set)
{
    return sets[set].prompt_tokens;
}

int loadgen_prompt_set_max_tokens(enum loadgen_prompt_set set)
{
    return sets[set].max_tokens;
}

/* ---- chance ---- */

/* What a stream of numbers is for; part of the counter, so that streams do not repeat each other. */
enum purpose { FOR_PROMPT = 100, FOR_SHARED_PREFIX };

struct dice {
    uint32_t key[2], counter[4], numbers[4];
    unsigned n_used;
};

static struct dice dice_of(uint64_t seed, uint64_t index, enum purpose purpose)
{
    return (struct dice){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                         .counter = {0, (uint32_t)index, (uint32_t)(index >> 32), (uint32_t)purpose},
                         .n_used = 4};
}

static uint32_t roll(struct dice *d, uint32_t n) /* [0, n) */
{
    if (d->n_used == 4) {
        philox4x32_10(d->counter, d->key, d->numbers);
        d->counter[0]++;
        d->n_used = 0;
    }
    return (uint32_t)(((uint64_t)d->numbers[d->n_used++] * n) >> 32);
}

/* ---- text; each function returns about how many tokens it has appended ---- */

static int put_words(struct buf *out, struct dice *d, int n)
{
    for (int i = 0; i < n; i++) {
        buf_puts(out, i ? " " : "");
        buf_puts(out, words[roll(d, ARRAY_LEN(words))]);
    }
    return n;
}

/* A sentence of 7 to 14 words, or of what is left. */
static int put_sentence(struct buf *out, struct dice *d, int at_most)
{
    int n = 7 + (int)roll(d, 8);
    size_t from = out->len;
    n = n < at_most - 1 ? n : at_most - 1;
    put_words(out, d, n > 0 ? n : 1);
    if (!out->failed) {
        out->data[from] = (char)(out->data[from] - 'a' + 'A');
    }
    buf_putc(out, '.');
    return (n > 0 ? n : 1) + 1;
}

static int put_text(struct buf *out, struct dice *d, int tokens)
{
    int n = 0;
    for (int i = 0; n < tokens; i++) {
        buf_puts(out, i == 0 ? "" : i % 6 == 0 ? "\n\n" : " ");
        n += put_sentence(out, d, tokens - n);
    }
    return n;
}

static int put_question(struct buf *out, struct dice *d, int tokens)
{
    buf_puts(out, questions[roll(d, ARRAY_LEN(questions))]);
    buf_putc(out, ' ');
    return 6 + put_words(out, d, tokens > 9 ? tokens - 6 : 3);
}

#define LINE_TOKENS 15 /* of a line of code */

static void put_function(struct buf *out, struct dice *d, int tokens)
{
    int n_lines = tokens / LINE_TOKENS;
    const char *name = words[roll(d, ARRAY_LEN(words))];
    buf_printf(out, "def %s_%u(value, other):\n    total = 0\n", name, roll(d, 100));
    for (int i = 0; i < (n_lines > 1 ? n_lines : 1); i++) {
        const char *verb = words[roll(d, ARRAY_LEN(words))]; /* one roll a statement: their order is part of the text */
        const char *noun = words[roll(d, ARRAY_LEN(words))];
        buf_printf(out, "    total += %s(value, %u)  # the %s\n", verb, roll(d, 10), noun);
    }
    buf_puts(out, "    return total + other\n");
}

/* ---- turns ---- */

struct turns {
    struct buf *out; /* JSON */
    struct buf text; /* of this turn; of all turns when they become one string */
    bool as_messages;
    int n;
};

static struct buf *begin_turn(struct turns *t)
{
    if (t->as_messages) {
        buf_clear(&t->text);
    } else if (t->n) {
        buf_puts(&t->text, "\n\n");
    }
    return &t->text;
}

static void end_turn(struct turns *t, const char *role)
{
    if (t->as_messages) {
        buf_printf(t->out, "%s{\"role\":\"%s\",\"content\":", t->n ? "," : "", role);
        json_quote(t->out, buf_view(&t->text));
        buf_putc(t->out, '}');
    }
    t->n++;
}

static void turn_of_text(struct turns *t, const char *role, struct dice *d, int tokens)
{
    put_text(begin_turn(t), d, tokens);
    end_turn(t, role);
}

static void turn_of_question(struct turns *t, struct dice *d, int tokens)
{
    put_question(begin_turn(t), d, tokens);
    end_turn(t, "user");
}

static void write_chat(struct turns *t, struct dice *d, int tokens)
{
    turn_of_text(t, "system", d, tokens / 10);
    turn_of_question(t, d, tokens / 8);
    turn_of_text(t, "assistant", d, tokens / 3);
    turn_of_question(t, d, tokens / 8);
    turn_of_text(t, "assistant", d, tokens / 4);
    turn_of_question(t, d, tokens - tokens / 10 - 2 * (tokens / 8) - tokens / 3 - tokens / 4);
}

static void write_code(struct turns *t, struct dice *d, int tokens)
{
    struct buf *text = begin_turn(t);
    put_function(text, d, tokens - 30);
    buf_printf(text, "\nRename `total` to `%s` in this function. Answer with the whole function and nothing else.",
               words[roll(d, ARRAY_LEN(words))]);
    end_turn(t, "user");
}

static void write_long(struct turns *t, struct dice *d, int tokens)
{
    struct buf *text = begin_turn(t);
    put_text(text, d, tokens - 20);
    buf_puts(text, "\n\nWhat is this text about? Name the three things that it speaks of most.");
    end_turn(t, "user");
}

#define QUESTION_TOKENS 24

static void write_turns(const struct loadgen_prompts *p, uint64_t index, struct turns *t)
{
    struct dice d = dice_of(p->seed, index, FOR_PROMPT), shared = dice_of(p->seed, 0, FOR_SHARED_PREFIX);
    int tokens = p->prompt_tokens;
    switch (p->set) {
    case LOADGEN_SET_SHORT:
        turn_of_question(t, &d, tokens);
        break;
    case LOADGEN_SET_CHAT:
        write_chat(t, &d, tokens);
        break;
    case LOADGEN_SET_CODE:
        write_code(t, &d, tokens);
        break;
    case LOADGEN_SET_LONG:
        write_long(t, &d, tokens);
        break;
    case LOADGEN_SET_SHARED_PREFIX:
        turn_of_text(t, "system", &shared, tokens - QUESTION_TOKENS);
        turn_of_question(t, &d, QUESTION_TOKENS);
        break;
    }
}

void loadgen_prompt_messages(const struct loadgen_prompts *p, uint64_t index, struct buf *out)
{
    struct turns t = {.out = out, .as_messages = true};
    buf_init(&t.text, PROMPT_MAX);
    buf_putc(out, '[');
    write_turns(p, index, &t);
    buf_putc(out, ']');
    buf_release(&t.text);
}

void loadgen_prompt_text(const struct loadgen_prompts *p, uint64_t index, struct buf *out)
{
    struct turns t = {.out = out};
    buf_init(&t.text, PROMPT_MAX);
    write_turns(p, index, &t);
    json_quote(out, buf_view(&t.text));
    buf_release(&t.text);
}
