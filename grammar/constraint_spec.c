/* version, kind, think_open, budget, three lists of ids, triggers, grammar: little-endian, counts as u32. */
#include "grammar/constraint_spec.h"

#include "base/limits.h"
#include "base/utf8.h"

struct constraint_spec constraint_spec_none(void)
{
    return (struct constraint_spec){.kind = CONSTRAINT_NONE, .think_budget = -1};
}

/* ---- checking ---- */

static bool check_ids(const struct constraint_ids *list, uint32_t max, const char *what, struct error *err)
{
    if (list->n > max) {
        return error_set(err, ERR_TOO_LARGE, "A constraint has %u tokens that %s, at most %u are allowed.",
                         (unsigned)list->n, what, (unsigned)max);
    }
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->ids[i] < 0 || (uint32_t)list->ids[i] >= LIMIT_VOCAB) {
            return error_set(err, ERR_INVALID, "Token %d, one of those that %s, is in no vocabulary.",
                             (int)list->ids[i], what);
        }
    }
    return true;
}

static bool check_triggers(const struct constraint_spec *s, struct error *err)
{
    if (s->n_triggers > LIMIT_TRIGGERS) {
        return error_set(err, ERR_TOO_LARGE, "A constraint has %u triggers, at most %d are allowed.",
                         (unsigned)s->n_triggers, LIMIT_TRIGGERS);
    }
    if (s->n_triggers && s->kind == CONSTRAINT_NONE) {
        return error_set(err, ERR_INVALID, "A constraint has triggers, but no grammar that could begin behind them.");
    }
    for (uint32_t i = 0; i < s->n_triggers; i++) {
        size_t len = s->triggers[i].len;
        if (len == 0 || len > LIMIT_TRIGGER_SIZE) {
            return error_set(err, len ? ERR_TOO_LARGE : ERR_INVALID,
                             "A trigger of a constraint has %zu bytes, 1 to %d are allowed.", len, LIMIT_TRIGGER_SIZE);
        }
    }
    return true;
}

static bool check_grammar(const struct constraint_spec *s, struct error *err)
{
    if ((unsigned)s->kind >= CONSTRAINT_KIND_COUNT) {
        return error_set(err, ERR_INVALID, "There is no kind %u of constraints.", (unsigned)s->kind);
    }
    if (s->kind == CONSTRAINT_NONE) {
        return s->grammar.len == 0 ||
               error_set(err, ERR_INVALID, "A constraint without a kind has a grammar of %zu bytes.", s->grammar.len);
    }
    if (s->grammar.len > LIMIT_GRAMMAR_SIZE) {
        return error_set(err, ERR_TOO_LARGE, "The grammar has %zu bytes, at most %zu are allowed.", s->grammar.len,
                         LIMIT_GRAMMAR_SIZE);
    }
    if (!utf8_valid(s->grammar)) {
        return error_set(err, ERR_INVALID, "The grammar is not valid UTF-8.");
    }
    return str_find_char(s->grammar, '\0') == STR_NPOS || error_set(err, ERR_INVALID, "The grammar has a NUL in it.");
}

static bool check_thinking(const struct constraint_spec *s, struct error *err)
{
    if (s->think_budget < -1) {
        return error_set(err, ERR_INVALID, "A thinking budget of %d tokens is none.", (int)s->think_budget);
    }
    bool reasons = s->think_open || s->think_start.n || s->think_budget >= 0;
    return !reasons || s->think_end.n ||
           error_set(err, ERR_INVALID, "A constraint does not say what ends the reasoning.");
}

bool constraint_spec_check(const struct constraint_spec *s, struct error *err)
{
    return check_grammar(s, err) && check_triggers(s, err) && check_thinking(s, err) &&
           check_ids(&s->think_start, LIMIT_MARKER_IDS, "begin the reasoning", err) &&
           check_ids(&s->think_end, LIMIT_MARKER_IDS, "end the reasoning", err) &&
           check_ids(&s->forced_end, LIMIT_FORCED_IDS, "end the reasoning when its budget is used up", err);
}

/* ---- writing ---- */

static void put_u32(struct buf *out, uint32_t v)
{
    char bytes[4] = {(char)(v & 0xff), (char)(v >> 8 & 0xff), (char)(v >> 16 & 0xff), (char)(v >> 24 & 0xff)};
    buf_append_bytes(out, bytes, sizeof bytes);
}

static void put_ids(struct buf *out, const struct constraint_ids *list)
{
    put_u32(out, list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        put_u32(out, (uint32_t)list->ids[i]);
    }
}

static void put_text(struct buf *out, struct str text)
{
    put_u32(out, (uint32_t)text.len);
    buf_append(out, text);
}

bool constraint_spec_encode(const struct constraint_spec *s, struct buf *out, struct error *err)
{
    if (!constraint_spec_check(s, err)) {
        return false;
    }
    buf_putc(out, CONSTRAINT_SPEC_VERSION);
    buf_putc(out, (char)s->kind);
    buf_putc(out, s->think_open);
    put_u32(out, (uint32_t)s->think_budget);
    put_ids(out, &s->think_start);
    put_ids(out, &s->think_end);
    put_ids(out, &s->forced_end);
    put_u32(out, s->n_triggers);
    for (uint32_t i = 0; i < s->n_triggers; i++) {
        put_text(out, s->triggers[i]);
    }
    put_text(out, s->grammar);
    return buf_ok(out, "constraint", err);
}

/* ---- reading ---- */

struct reader {
    struct str left;
    struct arena *arena;
    bool failed, no_memory;
};

static struct str take(struct reader *r, size_t n)
{
    if (r->failed || r->left.len < n) {
        r->failed = true;
        return (struct str){NULL, 0};
    }
    struct str taken = str_slice(r->left, 0, n);
    r->left = str_slice(r->left, n, r->left.len);
    return taken;
}

static uint8_t get_u8(struct reader *r)
{
    struct str byte = take(r, 1);
    return byte.len ? (uint8_t)byte.ptr[0] : 0;
}

static uint32_t get_u32(struct reader *r)
{
    struct str bytes = take(r, 4);
    uint32_t v = 0;
    for (size_t i = bytes.len; i-- > 0;) {
        v = v << 8 | (uint8_t)bytes.ptr[i];
    }
    return v;
}

/* An array of n values that take at least `size` bytes each in what is left. */
static void *array_for(struct reader *r, uint32_t n, size_t size, size_t value_size)
{
    if (r->failed || n > r->left.len / size) {
        r->failed = true;
        return NULL;
    }
    void *array = n ? arena_alloc_array(r->arena, n, value_size) : NULL;
    r->no_memory = r->no_memory || (n && !array);
    r->failed = r->failed || r->no_memory;
    return array;
}

static struct constraint_ids get_ids(struct reader *r)
{
    struct constraint_ids list = {.n = get_u32(r)};
    int32_t *ids = array_for(r, list.n, 4, sizeof *ids);
    if (!ids) {
        return (struct constraint_ids){NULL, 0};
    }
    for (uint32_t i = 0; i < list.n; i++) {
        ids[i] = (int32_t)get_u32(r);
    }
    list.ids = ids;
    return list;
}

static struct str get_text(struct reader *r)
{
    return take(r, get_u32(r));
}

bool constraint_spec_decode(struct str bytes, struct arena *arena, struct constraint_spec *spec, struct error *err)
{
    struct reader r = {.left = bytes, .arena = arena};
    struct constraint_spec s = {0};
    uint8_t version = get_u8(&r), open;
    if (bytes.len > LIMIT_CONSTRAINT || version != CONSTRAINT_SPEC_VERSION) {
        return error_set(err, ERR_PROTOCOL, "A constraint of version %u and %zu bytes came; expected version %d.",
                         version, bytes.len, CONSTRAINT_SPEC_VERSION);
    }
    s.kind = (enum constraint_kind)get_u8(&r);
    open = get_u8(&r);
    s.think_open = open == 1;
    s.think_budget = (int32_t)get_u32(&r);
    s.think_start = get_ids(&r);
    s.think_end = get_ids(&r);
    s.forced_end = get_ids(&r);
    s.n_triggers = get_u32(&r);
    struct str *triggers = array_for(&r, s.n_triggers, 5, sizeof *triggers);
    for (uint32_t i = 0; triggers && i < s.n_triggers; i++) {
        triggers[i] = get_text(&r);
    }
    s.triggers = triggers;
    s.grammar = get_text(&r);
    if (r.no_memory) {
        return arena_full(arena, "constraint", err);
    }
    if (r.failed || r.left.len || open > 1) {
        return error_set(err, ERR_PROTOCOL, "A constraint of %zu bytes is cut off or has bytes too many.", bytes.len);
    }
    struct error why = {0};
    if (!constraint_spec_check(&s, &why)) {
        return error_set(err, ERR_PROTOCOL, "%s", why.msg);
    }
    *spec = s;
    return true;
}

struct sha256 constraint_spec_digest(struct str bytes)
{
    return sha256_of(bytes.ptr ? bytes.ptr : "", bytes.len);
}
