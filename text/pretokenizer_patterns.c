#include "text/pretokenizer_internal.h"

/* The main patterns of the families. Each function is the regular expression in the comment above it, matched at `at`;
 * alternatives are tried in the pattern's order. "word" is [^\r\n\p{L}\p{N}]?\p{L}+ where only one character may stand
 * before the letters. */

static bool is_newline(struct pre__char c)
{
    return c.len && (c.code_point == '\r' || c.code_point == '\n');
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d), or without (?i:..) when !fold. Under case folding U+017F is an s. */
static size_t contraction(struct str text, size_t at, bool fold)
{
    if (at + 1 >= text.len || text.ptr[at] != '\'')
        return at;
    char c = text.ptr[at + 1];
    if (fold && c == '\xC5' && at + 2 < text.len && text.ptr[at + 2] == '\xBF')
        return at + 3;
    char lower = fold ? (char)(c | 0x20) : c;
    if (lower == 's' || lower == 't' || lower == 'm' || lower == 'd')
        return at + 2;
    if (at + 2 >= text.len)
        return at;
    char second = fold ? (char)(text.ptr[at + 2] | 0x20) : text.ptr[at + 2];
    bool two = (second == 'e' && (lower == 'r' || lower == 'v')) || (second == 'l' && lower == 'l');
    return two ? at + 3 : at;
}

/* End of a run of white space less its last character, unless the text ends there: \s+(?!\S)|\s+ */
static size_t spaces_before_word(struct str text, size_t at, size_t end)
{
    if (end == text.len)
        return end;
    size_t last = end - 1;
    while (((unsigned char)text.ptr[last] & 0xC0) == 0x80)
        last--;
    return last > at ? last : end;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t spaces(struct str text, size_t at)
{
    size_t end = at, after_newline = at;
    for (;;) {
        struct pre__char c = pre__char_at(text, end);
        if (!(c.cls & UC_SPACE))
            break;
        end += c.len;
        if (is_newline(c))
            after_newline = end;
    }
    return after_newline > at ? after_newline : spaces_before_word(text, at, end);
}

static size_t digits(struct str text, size_t at, size_t max)
{
    for (size_t n = 0; !max || n < max; n++) {
        struct pre__char c = pre__char_at(text, at);
        if (!(c.cls & UC_N))
            break;
        at += c.len;
    }
    return at;
}

static size_t skip_any_of(struct str text, size_t at, const char *set)
{
    while (at < text.len && text.ptr[at] && strchr(set, text.ptr[at]))
        at++;
    return at;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t pre__gpt2(const struct pre_stage *stage, struct str text, size_t at)
{
    (void)stage;
    size_t end = contraction(text, at, false);
    if (end > at)
        return end;
    size_t start = at + (text.ptr[at] == ' ');
    struct pre__char c = pre__char_at(text, start);
    if (c.cls & UC_L)
        return pre__run(text, start, UC_L);
    if (c.cls & UC_N)
        return pre__run(text, start, UC_N);
    if (c.len && !(c.cls & UC_SPACE))
        return pre__run_not(text, start, UC_SPACE | UC_L | UC_N);
    return spaces_before_word(text, at, pre__run(text, at, UC_SPACE));
}

/* " ?[^\s\p{L}\p{N}]+" with its tail, where `words` are the classes that are neither space nor punctuation. Returns
 * `at` when there is none. */
static size_t punctuation(const struct pre_stage *stage, struct str text, size_t at, unsigned words)
{
    size_t start = at + (text.ptr[at] == ' ');
    size_t end = pre__run_not(text, start, UC_SPACE | words);
    return end > start ? skip_any_of(text, end, stage->tail) : at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * and its variations by the stage's options. */
size_t pre__cl100k(const struct pre_stage *stage, struct str text, size_t at)
{
    size_t end = stage->contractions ? contraction(text, at, true) : at;
    if (end > at)
        return end;
    unsigned letters = UC_L | (stage->marks_in_words ? UC_M : 0);
    struct pre__char c = pre__char_at(text, at);
    if (c.cls & letters)
        return pre__run(text, at, letters);
    if (c.cls & UC_N)
        return digits(text, at, stage->max_digits);
    if (!is_newline(c)) {
        end = pre__run(text, at + c.len, letters);
        if (end > at + c.len)
            return end;
    }
    end = punctuation(stage, text, at, letters | UC_N);
    return end > at ? end : spaces(text, at);
}

/* Upper-case letters, then lower-case ones; caseless letters and marks are both:
 *   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
 *  |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
 * Returns `at` when neither matches. */
static size_t cased_word(struct str text, size_t at)
{
    const unsigned both = UC_LM | UC_LO | UC_M, upper = UC_LU | UC_LT | both, lower = UC_LL | both;
    struct pre__char c = pre__char_at(text, at);
    size_t start = (c.cls & (UC_L | UC_N)) || is_newline(c) ? at : at + c.len;

    /* The greedy upper-case run, and the end of the last character in it that may begin the lower-case run: there
     * backtracking would stop. The optional character before it is given up last, when it is a mark. */
    size_t end = start, after_both = c.cls & UC_M ? start : at;
    for (;;) {
        c = pre__char_at(text, end);
        if (!(c.cls & upper))
            break;
        end += c.len;
        if (c.cls & both)
            after_both = end;
    }
    if (c.cls & lower)
        return pre__run(text, end, lower);
    if (after_both > at)
        return after_both;
    return end > start ? end : at;
}

/* The two alternatives of cased_word, each with (?i:'s|'t|'re|'ve|'m|'ll|'d)? behind it where the family has it, then
 * |\p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
size_t pre__cased(const struct pre_stage *stage, struct str text, size_t at)
{
    size_t end = cased_word(text, at);
    if (end > at)
        return stage->contractions ? contraction(text, end, true) : end;
    if (pre__char_at(text, at).cls & UC_N)
        return digits(text, at, stage->max_digits);
    end = punctuation(stage, text, at, UC_L | UC_N);
    return end > at ? end : spaces(text, at);
}

static bool is_ascii_letter(struct str text, size_t at)
{
    return at < text.len && (text.ptr[at] | 0x20) >= 'a' && (text.ptr[at] | 0x20) <= 'z';
}

static bool is_ascii_punctuation(char c)
{
    return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static size_t match_deepseek3(struct str text, size_t at)
{
    struct pre__char c = pre__char_at(text, at);
    size_t end = at + 1;
    if (is_ascii_punctuation(text.ptr[at]) && is_ascii_letter(text, end)) {
        while (is_ascii_letter(text, end))
            end++;
        return end;
    }
    if (c.cls & (UC_L | UC_M))
        return pre__run(text, at, UC_L | UC_M);
    if (!(c.cls & (UC_P | UC_S)) && !is_newline(c)) {
        end = pre__run(text, at + c.len, UC_L | UC_M);
        if (end > at + c.len)
            return end;
    }
    size_t start = at + (text.ptr[at] == ' ');
    end = pre__run(text, start, UC_P | UC_S);
    if (end > start)
        return skip_any_of(text, end, "\r\n");
    return c.cls & UC_SPACE ? spaces(text, at) : at;
}

/* [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+ ; what none of them matches (digits, control characters) stays together. */
size_t pre__deepseek3(const struct pre_stage *stage, struct str text, size_t at)
{
    (void)stage;
    size_t end = match_deepseek3(text, at);
    if (end > at)
        return end;
    do
        at += pre__char_at(text, at).len;
    while (at < text.len && match_deepseek3(text, at) == at);
    return at;
}
