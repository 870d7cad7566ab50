/* Regular expressions of ECMA-262 as the ones of llguidance's (Rust's syntax): rewritten where the two read the same
 * text differently, and refused where only one of them knows what it means.
 *
 *     .             no line's end: Rust's matches \r, U+2028 and U+2029
 *     \d \s \w \D   characters of which everybody says so: U+FEFF is neither white space nor anything else
 *     [[a&&b]       a class of plain characters: Rust knows classes in classes, and their intersections
 *     (?<name>x)    a group: one that is named "stop" is a look-ahead to llguidance */
#include "grammar/schema_widen_internal.h"

#include "base/array.h"

#define LINE_ENDS "\\n\\r\\x{2028}\\x{2029}"

/* What ECMA-262, Python and Rust all mean by \d, \s and \w, and what any of them does: clients check with any. */
#define SPACES "\\x{9}-\\x{d}\\x{20}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
static const struct shorthand {
    char letter;
    const char *all, *any;
} shorthands[] = {
    {'d', "0-9", "\\p{Nd}"},
    {'s', SPACES, SPACES "\\x{1c}-\\x{1f}\\x{85}\\x{feff}"},
    {'w', "0-9a-zA-Z_", "\\p{L}\\p{M}\\p{N}\\p{Pc}\\p{Alphabetic}\\p{Join_Control}"},
};

struct rewriting {
    struct str in;
    size_t at;
    struct buf *out;
    bool in_class, negated; /* negated: of the class */
    const char *fault;
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

static struct str rest(const struct rewriting *w)
{
    return str_slice(w->in, w->at, w->in.len);
}

static int peek(const struct rewriting *w, size_t ahead)
{
    return w->at + ahead < w->in.len ? (unsigned char)w->in.ptr[w->at + ahead] : -1;
}

static bool refuse(struct rewriting *w, const char *fault)
{
    w->fault = fault;
    return false;
}

static bool put(struct rewriting *w, const char *text, size_t n_taken)
{
    buf_puts(w->out, text);
    w->at += n_taken;
    return true;
}

/* The next n bytes as they are. */
static bool copy(struct rewriting *w, size_t n)
{
    buf_append(w->out, str_slice(w->in, w->at, w->at + n));
    w->at += n;
    return true;
}

static bool put_control(struct rewriting *w)
{
    int letter = peek(w, 2) | 0x20;
    if (letter < 'a' || letter > 'z') {
        return refuse(w, "this pattern cannot be enforced");
    }
    buf_printf(w->out, "\\x{%x}", (unsigned)(letter - 'a' + 1));
    w->at += 3;
    return true;
}

/* What is left out, by a capital letter or by the class, is chosen the other way round. */
static bool put_shorthand(struct rewriting *w, const struct shorthand *sh)
{
    bool negated = peek(w, 1) != sh->letter;
    buf_puts(w->out, negated ? "[^" : "[");
    buf_puts(w->out, negated != w->negated ? sh->any : sh->all);
    return put(w, "]", 2);
}

static bool put_escape(struct rewriting *w)
{
    int c = peek(w, 1);
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c >= '1' && c <= '9') {
        return refuse(w, "a pattern with back references cannot be enforced");
    }
    for (size_t i = 0; i < ARRAY_LEN(shorthands); i++) {
        if ((c | 0x20) == shorthands[i].letter && letter) {
            return put_shorthand(w, &shorthands[i]);
        }
    }
    switch (c) {
    case 'b': /* in a class; elsewhere it has been refused */
        return put(w, "\\x{8}", 2);
    case '0':
        return put(w, "\\x{0}", 2);
    case '/':
        return put(w, "/", 2);
    case 'c':
        return put_control(w);
    default:
        return c < 0 || (letter && !strchr("fnrtvuxpP", c)) ? refuse(w, "this pattern cannot be enforced") : copy(w, 2);
    }
}

/* After "[", or "[^". */
static bool begin_class(struct rewriting *w)
{
    size_t n = peek(w, 1) == '^' ? 2 : 1;
    if (peek(w, n) == ']') {
        return refuse(w, "a pattern with an empty class cannot be enforced");
    }
    w->in_class = true;
    w->negated = n == 2;
    return copy(w, n);
}

static bool put_in_class(struct rewriting *w)
{
    int c = peek(w, 0);
    if (c == '-' && peek(w, 1) == '-') {
        return refuse(w, "a class with two hyphens in a row cannot be enforced");
    }
    if (c == '[' || c == '&' || c == '~') {
        buf_puts(w->out, "\\");
    }
    w->in_class = c != ']';
    w->negated &= w->in_class;
    return copy(w, 1);
}

static bool put_group(struct rewriting *w)
{
    size_t end = str_find_char(rest(w), '>');
    return str_starts(rest(w), STR("(?<")) && end != STR_NPOS ? put(w, "(?:", end + 1) : copy(w, 1);
}

static bool put_next(struct rewriting *w)
{
    int c = peek(w, 0);
    if (w->in_class) {
        return c == '\\' ? put_escape(w) : put_in_class(w);
    }
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        if (str_starts(rest(w), str_of(faults[i].text))) {
            return refuse(w, faults[i].fault);
        }
    }
    return c == '\\'  ? put_escape(w)
           : c == '[' ? begin_class(w)
           : c == '(' ? put_group(w)
           : c == '.' ? put(w, "[^" LINE_ENDS "]", 1)
                      : copy(w, 1);
}

const char *schema__rewrite_pattern(struct str pattern, struct buf *out)
{
    struct rewriting w = {.in = pattern, .out = out};
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
