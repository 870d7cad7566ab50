/* Log lines, read back from a pipe: formats, escaping, cutting; content can forge neither a line nor a field. */
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static int pipe_ends[2];

static void start(enum log_format format)
{
    assert_int_equal(pipe(pipe_ends), 0);
    log_init(
        &(struct log_options){.level = LOG_LEVEL_INFO, .format = format, .fd = pipe_ends[1], .process = "gateway"});
}

/* What was written since start(); the time, which begins every text line, is checked and cut off. */
static char *finish(void)
{
    static char text[65536];
    close(pipe_ends[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(pipe_ends[0], text + n, sizeof text - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    close(pipe_ends[0]);
    text[n] = '\0';
    return text;
}

static char *after_time(char *line)
{
    int year, month, day, hour, minute, second, ms, n = 0;
    assert_int_equal(
        sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute, &second, &ms, &n), 7);
    assert_true(year >= 2024 && month >= 1 && month <= 12 && n == 25);
    return line + n;
}

static void text_format(void **state)
{
    (void)state;
    start(LOG_FORMAT_TEXT);
    LOG_INFO("engine ready", "model=%s load_ms=%d path=\"%s\"", "x", 12, "/a b");
    assert_string_equal(after_time(finish()), "INFO gateway engine ready model=x load_ms=12 path=\"/a b\"\n");
    start(LOG_FORMAT_TEXT);
    LOG_WARN("plain", NULL);
    assert_string_equal(after_time(finish()), "WARN gateway plain\n");
}

static void logfmt_format(void **state)
{
    (void)state;
    start(LOG_FORMAT_LOGFMT);
    LOG_ERROR("engine lost", "error=\"%s\" empty=%s", "say \"x\" = \\", "");
    char *text = finish();
    assert_true(strncmp(text, "time=", 5) == 0);
    assert_string_equal(
        after_time(text + 5),
        "level=error process=gateway event=\"engine lost\" error=\"say \\\"x\\\" = \\\\\" empty=\"\"\n");
}

static struct json *only_line(char *text)
{
    struct error err;
    size_t len = strlen(text);
    assert_true(len > 0 && strchr(text, '\n') == text + len - 1);
    struct json *root = json_parse(str_of(text), 0, &err);
    if (!root) {
        fail_msg("%s in: %s", err.msg, text);
    }
    return root;
}

static void json_format(void **state)
{
    (void)state;
    start(LOG_FORMAT_JSON);
    LOG_INFO("engine ready", "model=%s error=\"%s\"", "x", "a \"b\"\nc");
    struct json *root = only_line(finish());
    assert_true(str_eq(json_str(json_get(root, "level")), STR("info")));
    assert_true(str_eq(json_str(json_get(root, "process")), STR("gateway")));
    assert_true(str_eq(json_str(json_get(root, "event")), STR("engine ready")));
    assert_true(str_eq(json_str(json_get(root, "model")), STR("x")));
    assert_true(str_eq(json_str(json_get(root, "error")), STR("a \"b\"\nc")));
    assert_int_equal(json_len(root), 6);
    json_free(root);
}

static const char *const hostile[] = {
    "x\n2026-11-23T10:00:00.123Z ERROR gateway forged",
    "\" level=error b=\"",
    "a\037admin=true",
    "\x1B[2J\x7F\r",
    "\xC2\x85\xE2\x80\xA8\xE2\x80\xAE",
    "\xFF\xC0\xED\xA0\x80",
    "back\\slash\"",
};

static void content_cannot_forge(void **state)
{
    (void)state;
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
            start(format);
            LOG_INFO("event", "a=%s b=%d", hostile[i], 1);
            char *text = finish();
            size_t len = strlen(text);
            assert_true(utf8_valid(str_of(text)));
            for (size_t k = 0; k + 1 < len; k++) {
                assert_true((unsigned char)text[k] >= 0x20 && text[k] != 0x7F);
            }
            assert_null(strstr(text, "\xC2\x85"));
            assert_true(format == LOG_FORMAT_JSON || !strstr(text, "\xE2\x80"));
            assert_true(format == LOG_FORMAT_JSON || !strstr(text, " admin=true"));
            if (format == LOG_FORMAT_JSON) {
                struct json *root = only_line(text);
                assert_null(json_get(root, "admin"));
                assert_true(str_eq(json_str(json_get(root, "level")), STR("info")));
                json_free(root);
            } else { /* quotes of the content are escaped, so the field's own two are the only ones */
                int n_quotes = 0;
                for (size_t k = 1; k < len; k++) {
                    n_quotes += text[k] == '"' && text[k - 1] != '\\';
                }
                assert_true(n_quotes % 2 == 0 && n_quotes <= 2);
            }
        }
    }
}

static void typed_fields(void **state)
{
    (void)state;
    const struct log_field fields[] = {log_str("id", STR("a b")), log_int("n", -5), log_real("ms", 1.25),
                                       log_bool("stream", true), log_str("none", (struct str){0})};
    start(LOG_FORMAT_LOGFMT);
    log_fields(LOG_LEVEL_INFO, "request", fields, 5);
    assert_string_equal(after_time(finish() + 5), "level=info process=gateway event=request id=\"a b\" n=-5 ms=1.250 "
                                                  "stream=true none=\"\"\n");
    start(LOG_FORMAT_TEXT);
    log_fields(LOG_LEVEL_INFO, "request", fields, 2);
    assert_string_equal(after_time(finish()), "INFO gateway request id=\"a b\" n=-5\n");
    start(LOG_FORMAT_JSON);
    log_fields(LOG_LEVEL_INFO, "request", fields, 5);
    struct json *root = only_line(finish());
    assert_true(json_type(json_get(root, "n")) == JSON_INT && json_int(json_get(root, "n")) == -5);
    assert_true(json_double(json_get(root, "ms")) == 1.25);
    assert_true(json_type(json_get(root, "stream")) == JSON_BOOL && json_bool(json_get(root, "stream")));
    assert_true(str_eq(json_str(json_get(root, "id")), STR("a b")));
    json_free(root);
    start(LOG_FORMAT_JSON);
    log_fields(LOG_LEVEL_DEBUG, "request", fields, 5);
    assert_string_equal(finish(), "");
}

/* The fields behind a hostile one are still there, once each, and nothing else is. */
static void typed_fields_cannot_be_forged(void **state)
{
    (void)state;
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
            const struct log_field fields[] = {log_str("a", str_of(hostile[i])), log_int("b", 7)};
            start(format);
            log_fields(LOG_LEVEL_INFO, "event", fields, 2);
            char *text = finish();
            size_t len = strlen(text);
            assert_true(utf8_valid(str_of(text)));
            for (size_t k = 0; k + 1 < len; k++) {
                assert_true((unsigned char)text[k] >= 0x20 && text[k] != 0x7F);
            }
            if (format == LOG_FORMAT_JSON) {
                struct json *root = only_line(text);
                assert_int_equal(json_len(root), 6);
                assert_int_equal(json_int(json_get(root, "b")), 7);
                json_free(root);
            } else {
                assert_true(str_ends(str_of(text), STR(" b=7\n")));
                assert_null(strstr(text, " admin=true"));
            }
        }
    }
}

static void long_texts_take_what_room_there_is(void **state)
{
    (void)state;
    static char plain[4000], control[4000];
    memset(plain, 'p', sizeof plain - 1);
    memset(control, '\x01', sizeof control - 1);
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        struct log_field fields[] = {log_str("text", str_of(plain)), log_int("b", 7)};
        fields[0].most = 3000;
        start(format);
        log_fields(LOG_LEVEL_INFO, "prompt", fields, 2);
        char *text = finish();
        size_t n = 0;
        for (char *c = text; *c; c++) {
            n += *c == 'p';
        }
        assert_in_range(n, 3000, 3010);
        assert_true(strlen(text) <= 4096 && strstr(text, "..."));
        fields[0].text = str_of(control);
        start(format);
        log_fields(LOG_LEVEL_INFO, "prompt", fields, 2);
        text = finish();
        assert_true(strlen(text) <= 4096 && strlen(text) > 512 && strstr(text, "01"));
        assert_null(strstr(text, "cut"));
    }
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    static char value[100000];
    memset(value, 'v', sizeof value - 1);
    memcpy(value + 510, "\xF0\x9F\x98\x80", 4); /* across the cut */
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        start(format);
        LOG_INFO("event", "a=%.3000s b=%d", value, 1);
        char *text = finish();
        assert_true(utf8_valid(str_of(text)));
        assert_non_null(strstr(text, "vvv..."));
        assert_non_null(strstr(text, format == LOG_FORMAT_JSON ? "\"b\":\"1\"" : " b=1"));
        assert_true(strlen(text) < 1000);
        start(format);
        LOG_INFO("event", "a=%.500s b=%.500s c=%.500s d=%.500s e=%.500s f=%.500s g=%.500s h=%.500s i=%.500s", value,
                 value, value, value, value, value, value, value, value);
        text = finish();
        assert_true(strlen(text) <= 4096);
        assert_non_null(strstr(text, format == LOG_FORMAT_JSON ? "\"cut\":true" : "cut=true"));
        if (format == LOG_FORMAT_JSON) {
            json_free(only_line(text));
        }
        start(format);
        LOG_INFO("event", "a=%s", value); /* beyond every bound: at least the event remains */
        text = finish();
        assert_non_null(strstr(text, "event"));
        assert_non_null(strstr(text, format == LOG_FORMAT_JSON ? "\"cut\":true" : "cut=true"));
    }
}

static void levels(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_WARN;
    struct error err;
    assert_true(log_level_parse("debug", &level, &err) && level == LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("loud", &level, &err));
    assert_non_null(strstr(err.msg, "loud"));
    start(LOG_FORMAT_TEXT);
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
    LOG_DEBUG("nothing", NULL);
    errno = EAGAIN;
    LOG_INFO("something", NULL);
    assert_int_equal(errno, EAGAIN);
    assert_string_equal(after_time(finish()), "INFO gateway something\n");
}

static void *write_many(void *arg)
{
    for (int i = 0; i < 50; i++) {
        LOG_INFO("line", "thread=%d text=\"%s\"", *(int *)arg, "some words that make the line a little longer");
    }
    return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
    (void)state;
    pthread_t threads[4];
    int ids[4], n_lines = 0;
    start(LOG_FORMAT_JSON);
    for (int i = 0; i < 4; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &ids[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    struct str rest = str_of(finish()), line;
    while (str_split(&rest, '\n', &line) && line.len) {
        struct error err;
        struct json *root = json_parse(line, 0, &err);
        assert_non_null(root);
        json_free(root);
        n_lines++;
    }
    assert_int_equal(n_lines, 200);
}

struct taken {
    int n, level;
    char text[256];
};

static void take(void *arg, int level, const char *line, size_t size)
{
    struct taken *t = arg;
    assert_int_equal(strlen(line), size);
    t->n++;
    t->level = level;
    snprintf(t->text, sizeof t->text, "%s", line);
}

static void a_function_takes_the_lines(void **state)
{
    struct taken t = {0};
    (void)state;
    log_init(&(struct log_options){.level = LOG_LEVEL_INFO, .process = "library", .write = take, .write_arg = &t});
    LOG_WARN("disk full", "path=\"%s\"", "/a b");
    LOG_DEBUG("too much", NULL);
    log_init(&(struct log_options){.level = LOG_LEVEL_INFO});
    assert_int_equal(t.n, 1);
    assert_int_equal(t.level, LOG_LEVEL_WARN);
    assert_string_equal(after_time(t.text), "WARN library disk full path=\"/a b\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_format),
        cmocka_unit_test(logfmt_format),
        cmocka_unit_test(json_format),
        cmocka_unit_test(content_cannot_forge),
        cmocka_unit_test(typed_fields),
        cmocka_unit_test(typed_fields_cannot_be_forged),
        cmocka_unit_test(long_texts_take_what_room_there_is),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(levels),
        cmocka_unit_test(threads_do_not_mix_lines),
        cmocka_unit_test(a_function_takes_the_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
