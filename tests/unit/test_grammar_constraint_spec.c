/* Specs come back as they were written; what is cut, too much or senseless is refused. And triggers in streams of
 * bytes. */
#include "grammar/constraint_spec.h"

#include "base/array.h"
#include "base/limits.h"
#include "grammar/trigger_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int32_t ids[] = {1, 5, LIMIT_VOCAB - 1};
static const struct str texts[] = {STR("<tool_call>"), STR("[\0x")};

static struct constraint_spec full(void)
{
    return (struct constraint_spec){.kind = CONSTRAINT_LARK,
                                    .grammar = STR("start: \"\xC3\xA9\""),
                                    .triggers = texts,
                                    .n_triggers = 2,
                                    .think_start = {ids, 1},
                                    .think_end = {ids + 1, 2},
                                    .think_open = true,
                                    .think_budget = 1 << 20,
                                    .forced_end = {ids, 3}};
}

static void same_ids(const struct constraint_ids *a, const struct constraint_ids *b)
{
    assert_int_equal(a->n, b->n);
    assert_true(a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

static void same(const struct constraint_spec *a, const struct constraint_spec *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_true(str_eq(a->grammar, b->grammar));
    assert_int_equal(a->n_triggers, b->n_triggers);
    for (uint32_t i = 0; i < a->n_triggers; i++) {
        assert_true(str_eq(a->triggers[i], b->triggers[i]));
    }
    same_ids(&a->think_start, &b->think_start);
    same_ids(&a->think_end, &b->think_end);
    same_ids(&a->forced_end, &b->forced_end);
    assert_int_equal(a->think_open, b->think_open);
    assert_int_equal(a->think_budget, b->think_budget);
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    struct constraint_spec specs[] = {full(), constraint_spec_none(), constraint_spec_none()}, again;
    specs[2].kind = CONSTRAINT_REGEX;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct error err = {0};
        struct buf out;
        struct arena *arena = arena_create(MIB(1));
        buf_init(&out, LIMIT_CONSTRAINT);
        assert_true(constraint_spec_encode(&specs[i], &out, &err));
        assert_true(constraint_spec_decode(buf_view(&out), arena, &again, &err));
        same(&specs[i], &again);
        for (size_t cut = 0; cut < out.len; cut++) {
            assert_false(constraint_spec_decode(str_slice(buf_view(&out), 0, cut), arena, &again, &err));
            assert_int_equal(err.code, ERR_PROTOCOL);
        }
        struct sha256 before = constraint_spec_digest(buf_view(&out)), after;
        buf_putc(&out, 'x');
        after = constraint_spec_digest(buf_view(&out));
        assert_false(sha256_equal(&before, &after));
        assert_false(constraint_spec_decode(buf_view(&out), arena, &again, &err));
        buf_release(&out);
        arena_free(arena);
    }
}

static void counts_past_the_end_ask_for_no_memory(void **state)
{
    (void)state;
    struct error err = {0};
    struct constraint_spec spec = full(), again;
    struct arena *arena = arena_create(4096), *small = arena_create(8);
    struct buf out;
    buf_init(&out, LIMIT_CONSTRAINT);
    assert_true(constraint_spec_encode(&spec, &out, &err));
    assert_false(constraint_spec_decode(buf_view(&out), small, &again, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    memset(out.data + 7, 0xFF, 4); /* ids of think_start */
    assert_false(constraint_spec_decode(buf_view(&out), arena, &again, &err));
    assert_int_equal(err.code, ERR_PROTOCOL);
    assert_int_equal(arena_used(arena), 0);
    buf_release(&out);
    arena_free(arena);
    arena_free(small);
}

#define REFUSE(wanted, change)                         \
    do {                                               \
        struct constraint_spec s = full();             \
        struct error err = {0};                        \
        change;                                        \
        assert_false(constraint_spec_check(&s, &err)); \
        assert_int_equal(err.code, wanted);            \
    } while (0)

static void limits_are_kept(void **state)
{
    (void)state;
    static char big[LIMIT_GRAMMAR_SIZE + 2];
    static const int32_t bad[] = {LIMIT_VOCAB}, negative[] = {-1};
    static const struct str empty[] = {{"", 0}};
    struct str many[LIMIT_TRIGGERS + 1], wide[] = {{big, LIMIT_TRIGGER_SIZE + 1}};
    memset(big, 'x', sizeof big - 1);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = STR("x");
    }
    REFUSE(ERR_INVALID, s.kind = CONSTRAINT_KIND_COUNT);
    REFUSE(ERR_INVALID, s.kind = CONSTRAINT_NONE);
    REFUSE(ERR_INVALID, s.kind = CONSTRAINT_NONE; s.grammar.len = 0);
    REFUSE(ERR_TOO_LARGE, s.grammar = ((struct str){big, LIMIT_GRAMMAR_SIZE + 1}));
    REFUSE(ERR_INVALID, s.grammar = STR("a\0b"));
    REFUSE(ERR_INVALID, s.grammar = STR("\xC3"));
    REFUSE(ERR_TOO_LARGE, s.triggers = many; s.n_triggers = LIMIT_TRIGGERS + 1);
    REFUSE(ERR_TOO_LARGE, s.triggers = wide; s.n_triggers = 1);
    REFUSE(ERR_INVALID, s.triggers = empty; s.n_triggers = 1);
    REFUSE(ERR_TOO_LARGE, s.think_start.n = LIMIT_MARKER_IDS + 1);
    REFUSE(ERR_TOO_LARGE, s.forced_end.n = LIMIT_FORCED_IDS + 1);
    REFUSE(ERR_INVALID, s.think_end = ((struct constraint_ids){bad, 1}));
    REFUSE(ERR_INVALID, s.think_end = ((struct constraint_ids){negative, 1}));
    REFUSE(ERR_INVALID, s.think_end.n = 0);
    REFUSE(ERR_INVALID, s.think_budget = -2);
}

/* ---- triggers ---- */

static void finds(const struct str *list, size_t n, struct str text, size_t end)
{
    struct error err = {0};
    struct trigger_scan *s = trigger_scan_create(list, n, &err);
    assert_non_null(s);
    for (size_t cut = 0; cut <= text.len; cut++) {
        uint32_t at = 0;
        size_t fed = trigger_scan_feed(s, &at, str_slice(text, 0, cut));
        if (fed == STR_NPOS) {
            fed = trigger_scan_feed(s, &at, str_slice(text, cut, text.len));
            fed += fed == STR_NPOS ? 0 : cut;
        }
        assert_true(fed == end);
    }
    for (size_t i = 0; i < text.len && end != STR_NPOS; i++) {
        assert_true(trigger_scan_may_end(s, str_slice(text, i, end)) || i >= end);
    }
    trigger_scan_free(s);
}

static void triggers_are_found_where_they_end(void **state)
{
    (void)state;
    const struct str tags[] = {STR("<tool_call>"), STR("[call]")},
                     nested[] = {STR("abcd"), STR("bc"), STR("\xFF\0\x01")}, same_start[] = {STR("ab"), STR("abc")};
    finds(tags, 2, STR("x<tool_call>{"), 12);
    finds(tags, 2, STR("<tool<tool_call>"), 16);
    finds(tags, 2, STR("[ca[call]"), 9);
    finds(tags, 2, STR("<tool_cal>[cal]"), STR_NPOS);
    finds(nested, 3, STR("abcd"), 3);
    finds(nested, 3, STR("ab\xFF\0\x01"), 5);
    finds(same_start, 2, STR("aabc"), 3);
    finds(tags, 0, STR("anything"), STR_NPOS);
}

static void the_ends_of_triggers_are_known(void **state)
{
    (void)state;
    struct error err = {0};
    const struct str tags[] = {STR("<call>")};
    struct trigger_scan *s = trigger_scan_create(tags, 1, &err);
    assert_true(trigger_scan_may_end(s, STR(">")) && trigger_scan_may_end(s, STR("ll>")));
    assert_true(trigger_scan_may_end(s, STR("x<call>")));
    assert_false(trigger_scan_may_end(s, STR("x>")) || trigger_scan_may_end(s, STR("l")));
    trigger_scan_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(counts_past_the_end_ask_for_no_memory),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(triggers_are_found_where_they_end),
        cmocka_unit_test(the_ends_of_triggers_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
