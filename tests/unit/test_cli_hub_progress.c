#include "base/limits.h"
#include "cli/hub_progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void line_is(const struct hub_progress_view *v, const struct hub_progress *p, const char *want)
{
    struct buf line;
    buf_init(&line, KIB(1));
    hub_progress_line(v, p, &line);
    assert_string_equal(line.data, want);
    buf_release(&line);
}

static void lines(void **state)
{
    struct hub_progress_view v = {.what = "own/er"};
    struct hub_progress p = {.file = "m.gguf", .done = MIB(100), .total = MIB(400)};
    (void)state;
    line_is(&v, &p, "own/er   25% of 400 MiB: m.gguf");
    v.rate = (double)MIB(2);
    line_is(&v, &p, "own/er   25% of 400 MiB, 2 MiB/s, 2 min 30 s left: m.gguf");
    v.rate = (double)KIB(50);
    line_is(&v, &p, "own/er   25% of 400 MiB, 50 KiB/s, 1 h 42 min left: m.gguf");
    v.rate = (double)MIB(100);
    line_is(&v, &p, "own/er   25% of 400 MiB, 100 MiB/s, 3 s left: m.gguf");
    v.terminal = true;
    line_is(&v, &p, "own/er  [######..................]  25% of 400 MiB, 100 MiB/s, 3 s left: m.gguf");
    p.waiting = true;
    line_is(&v, &p,
            "own/er  [######..................]  25% of 400 MiB, 100 MiB/s, 3 s left, another program brings the same: "
            "m.gguf");
    p = (struct hub_progress){.done = 0, .total = 0}; /* nothing to bring */
    line_is(&v, &p, "own/er  [########################] 100% of 0 KiB");
}

static void sizes(void **state)
{
    char text[24];
    (void)state;
    hub_size_text(10, text);
    assert_string_equal(text, "0 KiB");
    hub_size_text(MIB(870), text);
    assert_string_equal(text, "870 MiB");
    hub_size_text(GIB(1) + GIB(1) / 4, text);
    assert_string_equal(text, "1.2 GiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
