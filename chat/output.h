/* What a model writes, taken apart while it comes: reasoning, answer, tool calls. One parser per choice; its state is a
 * pure function of the text it was fed, so it is rebuilt by feeding the text again.
 *
 *     p = output_parser_create(&options, err);
 *     output_parser_feed(p, text, err);        as detokenized: whole UTF-8, the markers of the formats included
 *     while (output_parser_next(p, &piece)) ...
 *     output_parser_end(p, err);               what was held back, and the ends of what is open
 *     while (output_parser_next(p, &piece)) ...
 *     output_parser_free(p);
 *
 * However the text is cut into feeds, the pieces are the same, but for where a text is cut into pieces of one kind.
 * What is no tool call is never swallowed: it comes as TEXT, byte for byte. What is one never leaks into TEXT. A call's
 * name comes as soon as it is known, its arguments as they are written: the ARGUMENTS pieces of a call, joined, are
 * JSON text of one object (formats that are not JSON are translated), unless the call was cut off or is malformed,
 * which its CALL_END says. White space that touches a call, a reasoning or a marker belongs to no piece.
 *
 * A call is one from its name on: an output that ends before it is text. JSON arguments are handed on as written, but
 * for control characters inside strings, which become escapes; {} stands for arguments that are missing, null or "".
 * What is malformed in a call is handed on as its arguments, up to the format's next closing marker. Formats without
 * markers take only the names of `definitions` for calls, and only where an answer begins. Reasoning begins only there,
 * too. An id that stands behind the name and the arguments is not reported. */
#ifndef TANDEM_CHAT_OUTPUT_H
#define TANDEM_CHAT_OUTPUT_H

#include "base/json.h"

struct tool_format;      /* chat/tool_format.h */
struct reasoning_format; /* chat/reasoning_format.h */

enum output_kind {
    OUTPUT_TEXT,      /* more of the answer */
    OUTPUT_REASONING, /* more of the reasoning */
    OUTPUT_CALL,      /* a tool call begins: its name */
    OUTPUT_ARGUMENTS, /* more of its arguments */
    OUTPUT_CALL_END
};

struct output_piece {
    enum output_kind kind;
    struct str text;   /* TEXT, REASONING, ARGUMENTS: more of it; CALL: the function's name */
    struct str id;     /* CALL: the id that the model gave; {NULL,0}: none */
    uint32_t call;     /* CALL, ARGUMENTS, CALL_END: which of the choice's calls, from 0 */
    bool complete;     /* CALL_END: the arguments are one whole JSON object */
    size_t source_end; /* bytes fed that this piece and all before it come from */
};

struct output_options {
    const struct tool_format *tools;          /* NULL: the answer is text, whatever it looks like */
    const struct reasoning_format *reasoning; /* NULL: it does not reason */
    bool in_reasoning; /* the prompt has opened the reasoning already (its template ends with "<think>") */
    /* Array of OpenAI's tool objects or NULL; outlives the parser. Names make bare JSON a call or not, schemas say
     * whether "5" between tags is a number or a string. */
    const struct json *definitions;
};

struct output_parser;

NODISCARD struct output_parser *output_parser_create(const struct output_options *options, struct error *err);
/* TOO_LARGE past LIMIT_OUTPUT_TEXT bytes, NO_MEMORY; the parser is of no use then. */
NODISCARD bool output_parser_feed(struct output_parser *p, struct str text, struct error *err);
NODISCARD bool output_parser_end(struct output_parser *p, struct error *err);
/* Views live until the next call of any function of p. */
bool output_parser_next(struct output_parser *p, struct output_piece *piece);
void output_parser_free(struct output_parser *p);

#endif
