/* Reports: what JSON and CSV say of rows with texts, integers, numbers and absent values; files that cannot be written.
 */
#include "cli/bench_report.h"

#include "base/sys_file.h"
#include "tests/support/temp_dir.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct report_column columns[] = {
    {"name", "name", -8, false}, {"count", "count", 5, true}, {"rate", "rate", 8, false}, {"hidden", NULL, 0, false}};

static void read_file(const char *path, struct buf *out)
{
    struct error err = {0};
    if (!file_read(path, 1 << 20, out, &err))
        fail_msg("%s", err.msg);
}

static void test_files(void **state)
{
    struct temp_dir dir;
    struct error err = {0};
    struct buf text;
    (void)state;
    temp_dir_make(&dir);
    char *json = temp_dir_file(&dir, "r.json"), *csv = temp_dir_file(&dir, "r.csv");
    struct report *r = report_create(columns, 4, &(struct report_files){json, csv}, &err);
    assert_non_null(r);
    char name[] = "a, \"b\"";
    struct report_cell *row = report_row(r, &err);
    row[0].text = report_text(r, name);
    memset(name, 'x', 3); /* it was copied */
    row[1].number = 3;
    row[2].number = 0.5;
    report_show(r);
    row = report_row(r, &err);
    row[0].text = "plain";
    row[3].number = 1234567;
    report_show(r);
    report_note(r, "a note");
    if (!report_write(r, STR("\"build\":\"x\""), &err))
        fail_msg("%s", err.msg);
    read_file(json, &text);
    assert_string_equal(text.data, "{\"build\":\"x\",\"rows\":[{\"name\":\"a, \\\"b\\\"\",\"count\":3,\"rate\":0.5,"
                                   "\"hidden\":null},{\"name\":\"plain\",\"count\":null,\"rate\":null,"
                                   "\"hidden\":1234567.0}]}\n");
    buf_release(&text);
    read_file(csv, &text);
    assert_string_equal(text.data, "name,count,rate,hidden\r\n\"a, \"\"b\"\"\",3,0.5,\r\nplain,,,1234567\r\n");
    buf_release(&text);
    report_free(r);
    free(json);
    free(csv);
    temp_dir_remove(&dir);
}

static void test_no_file(void **state)
{
    struct error err = {0};
    (void)state;
    struct report *r = report_create(columns, 4, &(struct report_files){NULL, NULL}, &err);
    assert_true(r && report_write(r, STR(""), &err));
    report_free(r);
    r = report_create(columns, 4, &(struct report_files){"/no/such/folder/r.json", NULL}, &err);
    assert_non_null(r);
    assert_false(report_write(r, STR(""), &err));
    assert_non_null(strstr(err.msg, "/no/such/folder/r.json"));
    report_free(r);
    report_free(NULL);
}

static void test_numbers(void **state)
{
    static const struct {
        double x;
        const char *text;
    } cases[] = {{NAN, "-"},      {0, "0"},       {3, "3"},        {0.126, "0.13"},    {9.876, "9.88"},
                 {12.34, "12.3"}, {123.6, "124"}, {-1.5, "-1.50"}, {1e9, "1000000000"}};
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(report_number(cases[i].x, out, sizeof out), cases[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
