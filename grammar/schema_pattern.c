/* Regular expressions of ECMA-262 as the ones of llguidance's (Rust's syntax): rewritten where the two read the same
 * text differently, and refused where only one of them knows what it means.
 *
 *     .             no line's end: Rust's matches \r, U+2028 and U+2029
 *     \d \s \w \D   characters of which everybody says so: U+FEFF is neither white space nor anything else
 *     [[a&&b]       a class of plain characters: Rust knows classes in classes, and their intersections
 *     (?<name>x)    a group: one that is named "stop" is a look-ahead to llguidance */
#include "grammar/pattern_walk_internal.h"
#include "grammar/schema_widen_internal.h"

#include "base/array.h"

#define LINE_ENDS "\\n\\r\\x{2028}\\x{2029}"

/* What ECMA-262, Python and Rust all mean by \d, \s and \w, and what any of them does: clients check with any. */
static const struct shorthand {
    char letter;
    const char *all, *any;
} shorthands[] = {
    {'d', "0-9", "\\p{Nd}"},
    {'s', PATTERN_SPACES, PATTERN_SPACES "\\x{1c}-\\x{1f}\\x{85}\\x{feff}"},
    {'w', "0-9a-zA-Z_", "\\p{L}\\p{M}\\p{N}\\p{Pc}\\p{Alphabetic}\\p{Join_Control}"},
};

static const struct {
    const char *text, *fault;
} faults[] = {
    {"(?=", "a pattern with look-ahead cannot be enforced"},
    {"(?!", "a pattern with look-ahead cannot be enforced"},
    {"(?<=", "a pattern with look-behind cannot be enforced"},
    {"(?<!", "a pattern with look-behind cannot be enforced"},
    {"\\b", "a pattern with word boundaries cannot be enforced"},
    {"\\B", "a pattern with word boundaries cannot be enforced"},
    {"\\k", "a pattern with back references cannot be enforced"},
    {"(?P", "a pattern with groups that are no ECMA-262 cannot be enforced"},
    {"{,", "a pattern with '{,' cannot be enforced"},
};

/* What is left out, by a capital letter or by the class, is chosen the other way round. */
static bool put_shorthand(struct pattern_walk *w, const struct shorthand *sh)
{
    bool negated = pattern__peek(w, 1) != sh->letter;
    buf_puts(w->out, negated ? "[^" : "[");
    buf_puts(w->out, negated != w->negated ? sh->any : sh->all);
    return pattern__put(w, "]", 2);
}

static bool put_escape(struct pattern_walk *w)
{
    int c = pattern__peek(w, 1);
    if (c >= '1' && c <= '9') {
        return pattern__refuse(w, 2, "a pattern with back references cannot be enforced");
    }
    for (size_t i = 0; i < ARRAY_LEN(shorthands); i++) {
        if (c == shorthands[i].letter || c == shorthands[i].letter - 'a' + 'A') {
            return put_shorthand(w, &shorthands[i]);
        }
    }
    if (c == 'b') { /* in a class; elsewhere it has been refused */
        return pattern__put(w, "\\x{8}", 2);
    }
    if (c == '/') {
        return pattern__put(w, "/", 2);
    }
    return pattern__put_escape(w, "fnrtvuxpP") || pattern__refuse(w, 2, "this pattern cannot be enforced");
}

static bool begin_class(struct pattern_walk *w)
{
    if (pattern__peek(w, pattern__peek(w, 1) == '^' ? 2 : 1) == ']') {
        return pattern__refuse(w, 2, "a pattern with an empty class cannot be enforced");
    }
    return pattern__begin_class(w);
}

static bool put_in_class(struct pattern_walk *w)
{
    if (pattern__peek(w, 0) == '-' && pattern__peek(w, 1) == '-') {
        return pattern__refuse(w, 2, "a class with two hyphens in a row cannot be enforced");
    }
    return pattern__put_in_class(w, "[&~");
}

static bool put_group(struct pattern_walk *w)
{
    struct str rest = pattern__rest(w);
    size_t end = str_find_char(rest, '>');
    bool named = str_starts(rest, STR("(?<")) && end != STR_NPOS;
    return named ? pattern__put(w, "(?:", end + 1) : pattern__copy(w, 1);
}

static bool put_next(struct pattern_walk *w)
{
    int c = pattern__peek(w, 0);
    if (w->in_class) {
        return c == '\\' ? put_escape(w) : put_in_class(w);
    }
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        if (str_starts(pattern__rest(w), str_of(faults[i].text))) {
            return pattern__refuse(w, strlen(faults[i].text), faults[i].fault);
        }
    }
    return c == '\\'  ? put_escape(w)
           : c == '[' ? begin_class(w)
           : c == '(' ? put_group(w)
           : c == '.' ? pattern__put(w, "[^" LINE_ENDS "]", 1)
                      : pattern__copy(w, 1);
}

const char *schema__rewrite_pattern(struct str pattern, struct buf *out)
{
    struct pattern_walk w = {.in = pattern, .out = out};
    while (w.at < pattern.len && put_next(&w)) {
    }
    return w.fault;
}

/* ---- formats ---- */

/* Of RFC 3339, which llguidance has without leap years; and without leap seconds, which nobody has to write. */
#define YEAR      "(0[0-9]{2}[1-9]|0[0-9][1-9]0|0[1-9]00|[1-9][0-9]{3})"
#define LEAP_YEAR "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                                           \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])" \
    ")|" LEAP_YEAR "-02-29)"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?([zZ]|[+\\-]([01][0-9]|2[0-3]):[0-5][0-9])"

const char *schema__format_pattern(struct str format)
{
    static const struct {
        const char *name, *pattern;
    } patterns[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "[tT]" TIME "$"},
    };
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        if (str_eq(format, str_of(patterns[i].name))) {
            return patterns[i].pattern;
        }
    }
    return NULL;
}
