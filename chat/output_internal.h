/* Inside of chat/output.h: the rows of both tables, the parser's state and what the shapes of calls share.
 *
 * A parser is a state machine over the bytes fed so far. `at` is how far they were read, `done` how far they were given
 * away as pieces or dropped; what lies between is held back. All offsets count from the first byte ever fed. A state
 * reads on from `at` and says whether to go on or to wait for more; it decides nothing that more bytes could change, so
 * the pieces do not depend on how the text was cut.
 *
 *     text --opener--> states of a syntax --name known: commit--> arguments --end--> next call, or text
 *                          \--reject: next syntax with this opener, else what was held back is text
 *
 * Once a call is committed nothing goes back: what is malformed in it is handed on as arguments up to the next closing
 * marker, and its CALL_END says so. */
#ifndef TANDEM_CHAT_OUTPUT_INTERNAL_H
#define TANDEM_CHAT_OUTPUT_INTERNAL_H

#include "chat/output.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"

/* ---- tables ---- */

enum call_shape {
    CALL_JSON,       /* {"name": ..., "arguments": {...}}, alone or in an array */
    CALL_NAMED,      /* a name, then the arguments as JSON */
    CALL_TAGGED,     /* a name, then each argument between tags */
    CALL_EXPRESSION, /* f(a=1, b="x") and other notations with values that are not JSON */
    CALL_HARMONY     /* messages with channels and recipients; has a parser of its own */
};

enum mark_use {
    MARK_ENDS,   /* ends the name or key */
    MARK_KEEPS,  /* the same, and belongs to what follows */
    MARK_ID,     /* after the name: the call's id follows */
    MARK_STRING, /* ends the key: the value is a string */
    MARK_VALUE   /* ends the key: the value is JSON */
};

struct call_mark {
    const char *text; /* NULL: end of the list */
    enum mark_use use;
};

#define CALL_MARKS     4
#define CALL_SYNTAXES  6
#define FORMAT_MARKERS 8

/* White space as the models write it, between what the parser looks for; NULL: none. */
struct call_layout {
    bool single; /* each call has a block of its own */
    const char *after_open, *after_name, *after_key, *after_value, *before_end, *between, *before_close;
};

/* One way of writing calls. Texts are "" or NULL where there is no such thing; white space may surround each. */
struct call_syntax {
    enum call_shape shape;
    bool known_only;  /* only the name of a tool of the request makes it a call */
    bool qualified;   /* names are written functions.NAME:INDEX, which is the call's id, too */
    bool list;        /* EXPRESSION: calls may stand in [...], separated by commas; JSON: the grammar writes an array */
    bool repeats;     /* EXPRESSION: calls follow each other without anything between */
    bool newlines;    /* TAGGED: one newline before and after each value is not part of it */
    const char *open; /* what begins a block of calls; "": an answer that begins with a call */
    const char *close;  /* what ends it */
    const char *item;   /* what begins each call */
    const char *end[2]; /* what ends each call, one after the other */
    struct call_mark name_ends[CALL_MARKS];
    /* JSON: keys of name and arguments as the grammar writes them, the parser takes all that are known; NULL: the name
     * is the key of the arguments */
    const char *name_key, *arguments_key;
    /* TAGGED */
    const char *key;
    struct call_mark key_ends[CALL_MARKS];
    const char *value, *value_end;
    /* EXPRESSION */
    char closer;               /* what ends the arguments; "(" or "{" is in name_ends */
    char assign;               /* between key and value */
    const char *quote;         /* around strings; NULL: Python's quotes */
    struct call_layout layout; /* what only the grammar needs */
};

/* What a chat template shows of a format: both texts, or the other one alone. */
struct template_signs {
    const char *both[2]; /* the second may be NULL */
    const char *instead; /* or NULL */
};

struct tool_format {
    const char *name;
    const char *aliases; /* further names, separated by spaces, or NULL */
    struct template_signs signs;
    const char *answer[2]; /* what may stand before an answer that is text and is no part of it */
    const struct call_syntax *syntaxes[CALL_SYNTAXES]; /* those with the same opener are tried in this order */
    size_t canonical;                                  /* the one that the models are meant to write */
    const char *markers[FORMAT_MARKERS];
};

struct reasoning_format {
    const char *name;
    const char *aliases;
    struct template_signs signs;
    const char *starts[3], *ends[3]; /* the first of each is the one to write */
    const char *answer[2];           /* what may stand around the answer and is no part of it */
    bool ends_at_call;               /* a call ends the reasoning, even without the closing marker */
    bool harmony;                    /* channels: chat/output_harmony.c */
    const char *markers[FORMAT_MARKERS];
};

bool tool_format__names(const char *name, const char *aliases, struct str wanted);
bool tool_format__shows(const struct template_signs *signs, struct str source);
size_t tool_format__count(const char *const *texts, size_t max); /* of a list that NULL ends */

/* ---- following JSON ---- */

enum json_step {
    JSON_STEP_MORE,
    JSON_STEP_END,    /* this byte ended the value */
    JSON_STEP_BEFORE, /* the value had ended before this byte: a number */
    JSON_STEP_BAD     /* not JSON, or deeper than OUTPUT_JSON_DEPTH */
};

#define OUTPUT_JSON_DEPTH 128

struct json_follow { /* zeroed: before the value */
    uint8_t state, depth, n;
    bool key;
    const char *word;                         /* what is left of true, false, null */
    uint64_t objects[OUTPUT_JSON_DEPTH / 64]; /* which containers are objects */
};

enum json_step output__json_step(struct json_follow *f, char c);
bool output__json_in_string(const struct json_follow *f);

struct json_unescape { /* zeroed: behind the opening quote */
    uint8_t state, n;
    uint32_t code, high;
};

/* One byte of a string's inside: *n bytes (0 to 7) of text come out. END at the closing quote. */
enum json_step output__unescape_step(struct json_unescape *u, char c, char out[8], size_t *n);
bool output__unescape(struct str inside, struct buf *out); /* without the quotes; false: not a string's inside */
/* The inside of a JSON string. */
void output__escape(struct buf *out, struct str s);
bool output__json_whole(struct str s); /* one JSON value, white space around it allowed */

/* ---- Python's notation ---- */

struct str output__python_word(struct str s); /* True, False and None as JSON has them; others as they are */
/* An escape of a string, as the inside of a JSON string; what is none is a backslash. s begins with the backslash and
 * something behind it. How many bytes of s it took. */
size_t output__python_escape(struct str s, struct buf *out);
/* What Python prints of lists and dictionaries, ['a', True], which templates show instead of JSON. False, and nothing
 * is appended: it is none. */
bool output__python_value(struct str s, struct buf *out);

/* ---- the parser ---- */

enum step { STEP_GO, STEP_WAIT };

typedef enum step (*output_state)(struct output_parser *p);

enum match { MATCH_NO, MATCH_YES, MATCH_PARTIAL };

struct output_range {
    size_t from, to;
};

enum args_mode { ARGS_BEGIN, ARGS_OBJECT, ARGS_STRING, ARGS_NULL };

struct output_args { /* arguments on their way: JSON, or a string that holds JSON */
    enum args_mode mode;
    bool seen, ended, bad, complete, wrote;
    bool broken; /* the string that holds them is not one */
    struct json_follow outer, inner;
    struct json_unescape escape;
};

enum text_mark_use { TEXT_CALL, TEXT_REASONING, TEXT_REASONING_END, TEXT_ANSWER, TEXT_ANSWER_END };

struct text_mark { /* what ends a run of text */
    const char *text;
    enum text_mark_use use;
    const struct call_syntax *syntax;
};

#define TEXT_MARKS 24

struct output_entry { /* a piece in the queue; texts lie in out */
    struct output_piece piece;
    struct output_range text, id;
};

enum value_type { VALUE_ANY, VALUE_STRING, VALUE_STRING_OR_NULL, VALUE_JSON };

struct output_parser {
    struct output_options options;
    struct buf in; /* bytes from `base` on */
    size_t base, done, at;
    bool ended;
    output_state state;

    struct buf out; /* texts of the queue */
    struct output_entry *queue;
    size_t n_queue, cap_queue, next;
    struct error err; /* the first failure */
    bool failed;

    struct text_mark marks[TEXT_MARKS];
    size_t n_marks;
    uint8_t mark_starts[256];       /* bytes that a mark begins with */
    const struct call_syntax *bare; /* the first syntax without an opener, or NULL */
    bool reasoning, fresh, trim, in_answer;

    /* the block of calls being read */
    const struct call_syntax *syntax;
    size_t candidate; /* where its opener begins */
    bool committed;   /* it has a call */
    bool array;       /* inside [...] */
    bool calling;     /* between CALL and CALL_END */
    uint32_t n_calls;
    const struct json *schema; /* of the call's arguments, or NULL */
    struct output_range name, id;
    bool reading_id;
    uint8_t tail;    /* markers behind the call that were looked for */
    struct buf text; /* a name or key, unescaped */

    /* JSON calls */
    struct json_follow follow;
    struct output_range key, value, held; /* held: arguments that came before the name */
    struct output_args args;

    /* arguments that become JSON */
    bool first; /* none was written yet */
    enum value_type type;
    uint8_t depth;
    char closers[OUTPUT_JSON_DEPTH];
    char quote;  /* of the string being read; 0: the syntax's */
    bool in_key; /* that string is a key */
};

static inline enum step output__go(struct output_parser *p, output_state state)
{
    p->state = state;
    return STEP_GO;
}

/* bytes */
struct str output__bytes(const struct output_parser *p, struct output_range r);
int output__peek(const struct output_parser *p); /* the byte at `at`, -1: none yet */
enum match output__match_at(const struct output_parser *p, size_t at, const char *text);
/* At `at`, the first of several that is there, or else whether one may yet come; those that are not given are left out.
 */
enum match output__match_any(const struct output_parser *p, const char *const *texts, size_t n, size_t *which);
enum match output__match_mark(const struct output_parser *p, const struct call_mark *marks,
                              const struct call_mark **found);
bool output__skip_space(struct output_parser *p); /* true: a byte that is none is there */
/* Steps over text, with white space before it. */
enum match output__take(struct output_parser *p, const char *text);
static inline bool output__given(const char *text)
{
    return text && text[0];
}
static inline bool output__space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* pieces */
void output__emit_until(struct output_parser *p, size_t to); /* what is held back, as text or reasoning */
void output__emit_args(struct output_parser *p, struct str text);
void output__emit_made(struct output_parser *p, struct buf *made);   /* arguments; releases them */
void output__emit_escaped(struct output_parser *p, struct str text); /* arguments, inside a string */
void output__fail(struct output_parser *p, const struct buf *b, const char *what);

/* calls */
const struct json *output__tool(const struct output_parser *p, struct str name); /* its "function", or NULL */
/* The name is known: the call begins. False: rejected (nothing else to do). */
bool output__commit(struct output_parser *p, struct str name, struct str id);
enum step output__end_call(struct output_parser *p, bool complete, output_state then);
enum step output__reject(struct output_parser *p);      /* no call: the next syntax or text */
enum step output__bad(struct output_parser *p);         /* not as it should be: reject, or malformed */
enum step output__close_block(struct output_parser *p); /* state: its closing marker, if it comes, and leave */
enum step output__next_item(struct output_parser *p);   /* state: what ends an item, then the next or the end */
enum step output__begin_item(struct output_parser *p);  /* state: what begins an item, then its name */
bool output__name_char(int c);                          /* may stand in a name that is not quoted */
enum step output__text(struct output_parser *p);        /* state: text and reasoning */
void output__prepare_text(struct output_parser *p);     /* the marks of both formats, and the first state */
void output__begin_text(struct output_parser *p);
void output__begin_reasoning(struct output_parser *p);

/* arguments that are JSON */
void output__args_begin(struct output_parser *p);
size_t output__args_feed(struct output_parser *p, struct str bytes); /* how many it took; args.ended, args.bad */
enum step output__args_state(struct output_parser *p, output_state then);
void output__args_end(struct output_parser *p); /* writes {} where there are none */

/* shapes: their states */
enum step output__begin_block(struct output_parser *p);
enum step output__json_begin(struct output_parser *p);
enum step output__json_next(struct output_parser *p);
enum step output__named_arguments(struct output_parser *p);
enum step output__tagged_parameter(struct output_parser *p);
enum step output__expression_begin(struct output_parser *p);
enum step output__expression_key(struct output_parser *p);
enum step output__expression_next(struct output_parser *p);
void output__harmony_begin(struct output_parser *p); /* the first state, where one of the formats is harmony */
enum step output__harmony_next(struct output_parser *p);

/* values by schema */
enum value_type output__value_type(const struct json *parameters, struct str key);
/* The text of a value that is no string for sure, as JSON. */
void output__value_json(struct str text, enum value_type type, struct buf *out);
void output__word_json(struct str word, struct buf *out); /* True, None, numbers, else a string */

#endif
