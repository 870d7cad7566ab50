/* Calls that are JSON objects: {"name": ..., "arguments": {...}}, alone, one after the other or in an array. The
 * object is read member by member; the arguments go through as they were written once the name is known, and wait for
 * it when they come first. */
#include "base/array.h"
#include "chat/output_internal.h"

static enum step item(struct output_parser *p);
static enum step member(struct output_parser *p);
static enum step key(struct output_parser *p);
static enum step colon(struct output_parser *p);
static enum step before_value(struct output_parser *p);
static enum step value(struct output_parser *p);
static enum step after_member(struct output_parser *p);

/* Takes c, with white space before it; MATCH_NO: something else is there. */
static enum match take_char(struct output_parser *p, char c)
{
    if (!output__skip_space(p)) {
        return MATCH_PARTIAL;
    }
    if (output__peek(p) != (unsigned char)c) {
        return MATCH_NO;
    }
    p->at++;
    return MATCH_YES;
}

/* ---- between calls ---- */

enum step output__json_begin(struct output_parser *p)
{
    enum match m = take_char(p, '[');
    if (m == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    p->array = m == MATCH_YES;
    return output__go(p, item);
}

static enum step item(struct output_parser *p)
{
    enum match m = take_char(p, '{');
    if (m == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    if (m == MATCH_NO) {
        return output__reject(p);
    }
    p->name = p->id = p->held = (struct output_range){0, 0};
    p->args = (struct output_args){0};
    return output__go(p, member);
}

static enum step next_in_array(struct output_parser *p)
{
    int c = output__peek(p);
    if (c == ',' || c == ']') {
        p->done = ++p->at;
        return output__go(p, c == ',' ? item : output__close_block);
    }
    return output__go(p, output__close_block);
}

/* Calls that follow each other without an array may have a semicolon or a comma between them. */
enum step output__json_next(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    if (p->array) {
        return next_in_array(p);
    }
    int c = output__peek(p);
    if (c != ';' && c != ',') {
        return output__go(p, c == '{' ? item : output__close_block);
    }
    size_t at = p->at++;
    if (!output__skip_space(p)) {
        p->at = at;
        return STEP_WAIT;
    }
    if (output__peek(p) == '{') {
        return output__go(p, item);
    }
    p->at = at;
    return output__go(p, output__close_block);
}

/* ---- members of a call ---- */

static enum step call_ends(struct output_parser *p)
{
    if (!p->calling) {
        return output__reject(p); /* no name */
    }
    output__args_end(p);
    return output__end_call(p, p->args.complete, output__next_item);
}

static enum step member(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (c != '"' && c != '}') {
        return output__bad(p);
    }
    p->at++;
    p->key.from = p->at;
    p->follow = (struct json_follow){0};
    output__json_step(&p->follow, '"');
    return c == '"' ? output__go(p, key) : call_ends(p);
}

/* The bytes of a value; what may be looked at later stays held back. */
static enum json_step follow(struct output_parser *p)
{
    enum json_step r = JSON_STEP_MORE;
    int c;
    while (r == JSON_STEP_MORE && (c = output__peek(p)) >= 0) {
        if (c < 0x20 && output__json_in_string(&p->follow)) {
            c = ' '; /* strings may hold line breaks here */
        }
        r = output__json_step(&p->follow, (char)c);
        p->at += r == JSON_STEP_MORE || r == JSON_STEP_END;
    }
    return r;
}

static enum step key(struct output_parser *p)
{
    enum json_step r = follow(p);
    if (r == JSON_STEP_END) {
        p->key.to = p->at - 1;
        return output__go(p, colon);
    }
    return r == JSON_STEP_BAD ? output__bad(p) : STEP_WAIT;
}

enum member { MEMBER_OTHER, MEMBER_NAME, MEMBER_ARGUMENTS, MEMBER_ID, MEMBER_TYPE };

static const struct {
    struct str key;
    enum member is;
} members[] = {
    {STR("name"), MEMBER_NAME},
    {STR("tool_name"), MEMBER_NAME},
    {STR("function"), MEMBER_NAME},
    {STR("arguments"), MEMBER_ARGUMENTS},
    {STR("parameters"), MEMBER_ARGUMENTS},
    {STR("id"), MEMBER_ID},
    {STR("tool_call_id"), MEMBER_ID},
    {STR("type"), MEMBER_TYPE},
};

static enum member member_of(const struct output_parser *p)
{
    struct str k = output__bytes(p, p->key);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (str_eq(k, members[i].key)) {
            return members[i].is;
        }
    }
    return MEMBER_OTHER;
}

static enum step arguments(struct output_parser *p)
{
    return output__args_state(p, after_member);
}

static enum step colon(struct output_parser *p)
{
    enum match m = take_char(p, ':');
    if (m == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    return m == MATCH_YES ? output__go(p, before_value) : output__bad(p);
}

/* {"f": {...}}: the key is the name. */
static bool begin_keyed_call(struct output_parser *p)
{
    if (output__peek(p) != '{' || !output__unescape(output__bytes(p, p->key), &p->text)) {
        return false;
    }
    output__fail(p, &p->text, "a tool's name");
    return !p->failed && output__commit(p, buf_view(&p->text), (struct str){0});
}

static enum step before_value(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    bool keyed = !p->syntax->name_key && !p->calling;
    if (keyed && !begin_keyed_call(p)) {
        return output__reject(p);
    }
    if (keyed) {
        output__args_begin(p);
        return output__go(p, arguments);
    }
    if (member_of(p) == MEMBER_ARGUMENTS && p->calling && !p->args.seen) {
        p->done = p->at;
        output__args_begin(p);
        return output__go(p, arguments);
    }
    if (p->syntax->known_only && !p->calling && member_of(p) == MEMBER_OTHER) {
        return output__reject(p); /* an answer that is JSON: it does not wait for its end */
    }
    p->value.from = p->at;
    p->follow = (struct json_follow){0};
    return output__go(p, value);
}

/* The inside of a string value; {NULL, 0} for what is none. */
static struct str string_inside(const struct output_parser *p, struct output_range r)
{
    struct str s = output__bytes(p, r);
    return s.len >= 2 && *s.ptr == '"' ? str_slice(s, 1, s.len - 1) : (struct str){0};
}

static bool begin_call(struct output_parser *p)
{
    struct str id = p->id.to ? string_inside(p, p->id) : (struct str){0};
    struct str name = string_inside(p, p->value);
    if (!name.ptr || !output__unescape(name, &p->text)) {
        return false;
    }
    output__fail(p, &p->text, "a tool's name");
    if (p->failed || !output__commit(p, buf_view(&p->text), id)) {
        return false;
    }
    if (p->held.to) {
        struct str held = output__bytes(p, p->held);
        output__args_begin(p);
        output__emit_args(p, str_slice(held, output__args_feed(p, held), held.len));
    }
    return true;
}

static enum step value(struct output_parser *p)
{
    enum json_step r = follow(p);
    if (r == JSON_STEP_MORE) {
        return STEP_WAIT;
    }
    if (r == JSON_STEP_BAD) {
        return output__bad(p);
    }
    p->value.to = p->at;
    enum member is = member_of(p);
    if (is == MEMBER_NAME && !p->calling) {
        bool string = p->in.data[p->value.from - p->base] == '"';
        if (string && !begin_call(p)) {
            return output__reject(p);
        }
    } else if (is == MEMBER_ARGUMENTS && !p->calling && !p->held.to) {
        p->held = p->value;
    } else if (is == MEMBER_ID && !p->calling) {
        p->id = p->value;
    }
    if (p->calling) {
        p->done = p->at;
    }
    return output__go(p, after_member);
}

static enum step after_member(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (c != ',' && c != '}') {
        return output__bad(p);
    }
    p->at++;
    return c == ',' ? output__go(p, member) : call_ends(p);
}
