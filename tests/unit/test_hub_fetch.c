#include "hub/fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void the_token_knows_its_origin(void **state)
{
    (void)state;
    assert_true(hub_same_origin("https://huggingface.co/a", "https://huggingface.co"));
    assert_true(hub_same_origin("https://HuggingFace.co/a?b", "https://huggingface.co/x#y"));
    assert_true(hub_same_origin("http://127.0.0.1:8000/a", "http://127.0.0.1:8000"));
    assert_false(hub_same_origin("http://huggingface.co", "https://huggingface.co"));
    assert_false(hub_same_origin("https://huggingface.co.evil.org/a", "https://huggingface.co"));
    assert_false(hub_same_origin("https://huggingface.co@evil.org/a", "https://huggingface.co"));
    assert_false(hub_same_origin("https://huggingface.co:444/a", "https://huggingface.co"));
    assert_false(hub_same_origin("https://cdn.huggingface.co/a", "https://huggingface.co"));
    assert_false(hub_same_origin("http://127.0.0.1:8001/a", "http://127.0.0.1:8000"));
    assert_false(hub_same_origin("", ""));
    assert_false(hub_same_origin("https://", "https://"));
}

static void follows(const char *from, const char *location, const char *want)
{
    char out[FETCH_URL_MAX];
    struct error err = {0};
    if (!hub_follow(from, str_of(location), out, &err)) {
        fail_msg("%s: %s", location, err.msg);
    }
    assert_string_equal(out, want);
}

static void refuses(const char *from, const char *location, enum error_code code)
{
    char out[FETCH_URL_MAX];
    struct error err = {0};
    if (hub_follow(from, str_of(location), out, &err)) {
        fail_msg("%s was followed", location);
    }
    assert_int_equal(err.code, code);
}

static void redirects_lead_to_urls(void **state)
{
    char *longer = malloc(FETCH_URL_MAX + 100);
    (void)state;
    follows("https://h/a/b", "https://s/x?y=1", "https://s/x?y=1");
    follows("https://h/a/b", "/x", "https://h/x");
    follows("https://h:1?q", "/x", "https://h:1/x");
    follows("https://h/a", "//s/x", "https://s/x");
    follows("http://h/a", "https://s/x", "https://s/x");
    follows("http://h/a", "http://s/x", "http://s/x");
    refuses("https://h/a", "http://s/x", ERR_FORBIDDEN);
    refuses("https://h/a", "x", ERR_FORMAT);
    refuses("https://h/a", "", ERR_FORMAT);
    refuses("https://h/a", "file:///etc/passwd", ERR_FORMAT);
    refuses("https://h/a", "https://", ERR_FORMAT);
    refuses("https://h/a", "https://s/a b", ERR_FORMAT);
    memset(longer, 'a', FETCH_URL_MAX + 99);
    longer[FETCH_URL_MAX + 99] = '\0';
    longer[0] = '/';
    refuses("https://h/a", longer, ERR_FORMAT);
    free(longer);
}

static void ranges_are_what_was_asked_for(void **state)
{
    (void)state;
    assert_true(hub_content_range_is(STR("bytes 0-9/100"), 0, 10, 100));
    assert_false(hub_content_range_is(STR("bytes 0-9/101"), 0, 10, 100));
    assert_false(hub_content_range_is(STR("bytes 0-8/100"), 0, 10, 100));
    assert_false(hub_content_range_is(STR("bytes 1-10/100"), 0, 10, 100));
    assert_false(hub_content_range_is(STR("bytes 0-9/*"), 0, 10, 100));
    assert_false(hub_content_range_is(STR(""), 0, 10, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_token_knows_its_origin),
        cmocka_unit_test(redirects_lead_to_urls),
        cmocka_unit_test(ranges_are_what_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
