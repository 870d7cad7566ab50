/* The Jinja engine with its n-th allocation failing, for every n: the right text or an error, never a crash or half of
 * a template. The allocator is replaced for the whole program; with sanitizers, which bring their own, it is skipped.
 */
#include "chat/jinja.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Long enough for many blocks of the arenas, tokens and a growing output. */
static const char template[] =
    "{% macro f(x, y=2) %}<{{ x }}{{ y }}{{ caller() if caller }}>{% endmacro %}{% set ns = namespace(t='') %}{% for m "
    "in "
    "xs * 100 %}{% set ns.t = ns.t ~ '{:>8}'.format(m) %}{% endfor %}{{ ns.t|length }} {{ {'a': xs, 'b': 'x' * "
    "3000}|tojson "
    "}} {% call f(xs|sort|join(',')) %}{% filter upper %}body{% endfilter %}{% endcall %} {{ 'a b'|wordwrap(1) }} {{ "
    "xs|map('string')|list }} {{ ('ab' * 4000)|upper|length }}{% for i in range(2000) %}{{ i }},{% endfor %}";

static bool run_once(const struct json *context, long n, struct buf *out)
{
    struct error err = {0};
    n_allocations = 0;
    fail_at = n;
    struct jinja_template *t = jinja_compile(str_of(template), &err);
    bool ok = t && jinja_render(t, context, 0, NULL, out, &err);
    fail_at = -1;
    jinja_free(t);
    assert_true(ok || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE);
    assert_true(ok || err.msg[0]);
    return ok;
}

static void nth_allocation_fails(void **state)
{
    (void)state;
    if (!CAN_FAIL) {
        skip();
    }
    struct error err = {0};
    struct buf want, out;
    struct json *context = json_parse(STR("{\"xs\": [3, 1, 2]}"), 0, &err);
    buf_init(&want, (size_t)1 << 20);
    buf_init(&out, (size_t)1 << 20);
    assert_true(run_once(context, -1, &want));
    long total = n_allocations;
    assert_true(total > 20);
    for (long n = 0; n < total; n++) {
        buf_release(&out); /* so that it has to grow again */
        buf_init(&out, (size_t)1 << 20);
        if (run_once(context, n, &out)) {
            assert_true(str_eq(buf_view(&out), buf_view(&want)));
        }
    }
    buf_release(&out);
    buf_release(&want);
    json_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nth_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
