/* Replies of the Hub, also with memory running out. */
#include "base/limits.h"
#include "hub/listing.h"
#include "hub/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SMALL  "{\"rfilename\":\"config.json\",\"size\":2,\"blobId\":\"" COMMIT "\"}"
#define LARGE                                                                                                 \
    "{\"rfilename\":\"a/m.gguf\",\"size\":5000000000,\"blobId\":\"" COMMIT "\",\"lfs\":{\"sha256\":\"" SHA256 \
    "\",\"size\":5000000000,\"pointerSize\":134}}"
#define REPLY(files) "{\"id\":\"a/b\",\"sha\":\"" COMMIT "\",\"gated\":false,\"siblings\":[" files "]}"

static bool parse(struct str text, struct hub_listing *out, struct error *err)
{
    static struct arena *arena; /* of the last call: the listing lives in it */
    arena_free(arena);
    arena = arena_create(MIB(1));
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a test.");
    }
    return hub_listing_parse(text, arena, out, err);
}

static void must_fail(struct str text, const char *message)
{
    struct error err = {0};
    struct hub_listing l;
    if (parse(text, &l, &err)) {
        fail_msg("'" STR_FMT "' was taken", STR_ARG(text));
    }
    assert_int_equal(err.code, ERR_FORMAT);
    if (!strstr(err.msg, message)) {
        fail_msg("'%s', not '%s'", err.msg, message);
    }
}

static void files_and_their_names_in_the_cache(void **state)
{
    struct error err = {0};
    struct hub_listing l;
    (void)state;
    assert_true(parse(STR(REPLY(SMALL "," LARGE)), &l, &err));
    assert_string_equal(l.commit, COMMIT);
    assert_int_equal(l.n, 2);
    assert_true(str_eq(l.files[0].path, STR("a/m.gguf"))); /* sorted */
    assert_string_equal(l.files[0].etag, SHA256);
    assert_true(l.files[0].size == 5000000000);
    assert_string_equal(l.files[1].etag, COMMIT);
    assert_ptr_equal(hub_listing_find(&l, STR("config.json")), &l.files[1]);
    assert_null(hub_listing_find(&l, STR("config")));
    assert_false(l.gated);
    assert_true(parse(STR("{\"sha\":\"" COMMIT "\",\"gated\":\"manual\",\"siblings\":[]}"), &l, &err));
    assert_true(l.gated && l.n == 0);
}

static void what_is_no_reply(void **state)
{
    (void)state;
    must_fail(STR(""), "the Hub's reply");
    must_fail(STR("[]"), "array instead of object");
    must_fail(STR("<html>"), "the Hub's reply");
    must_fail(STR("{}"), "names no commit");
    must_fail(STR("{\"sha\":\"../../x\",\"siblings\":[]}"), "names no commit");
    must_fail(STR("{\"sha\":\"" COMMIT "\"}"), "lists no files");
    must_fail(STR(REPLY("1")), "name of the file is empty");
    must_fail(STR(REPLY(SMALL "," SMALL)), "twice");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":1}")), "no checksum");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":1,\"blobId\":\"../x\"}")), "no checksum");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":1,\"lfs\":{\"sha256\":\"" COMMIT "\",\"size\":1}}")),
              "no checksum");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":-1,\"blobId\":\"" COMMIT "\"}")), "size");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":1e30,\"blobId\":\"" COMMIT "\"}")), "size");
    must_fail(STR(REPLY("{\"rfilename\":\"x\",\"size\":9000000000000000,\"blobId\":\"" COMMIT "\"}")), "size");
#define HALF(name) "{\"rfilename\":\"" name "\",\"size\":600000000000000,\"blobId\":\"" COMMIT "\"}"
    must_fail(STR(REPLY(HALF("x") "," HALF("y"))), "files of more than");
#undef HALF
}

static void hostile_names(void **state)
{
    (void)state;
#define NAMED(name) STR(REPLY("{\"rfilename\":\"" name "\",\"size\":1,\"blobId\":\"" COMMIT "\"}"))
    must_fail(NAMED("../x"), "part '..'");
    must_fail(NAMED("/etc/passwd"), "empty part");
    must_fail(NAMED("a/../../x"), "part '..'");
    must_fail(NAMED("a//b"), "empty part");
    must_fail(NAMED("a\\\\b"), "0x5c");
    must_fail(NAMED("a\\u0000b"), "0x00");
    must_fail(NAMED("a\\nb"), "0x0a");
    must_fail(NAMED("a\\u009b2J"), "U+009F");
    must_fail(NAMED("a\xc2\x9b"), "U+009F");
    must_fail(NAMED("C:/x"), "0x3a");
    must_fail(NAMED("."), "part '.'");
    must_fail(NAMED(""), "empty");
#undef NAMED
}

static void what_is_found(void **state)
{
    struct error err = {0};
    struct hub_search s;
    struct arena *arena = arena_create(MIB(1));
    (void)state;
    assert_true(hub_search_parse(
        STR("[{\"id\":\"a/"
            "b\",\"downloads\":7,\"likes\":2,\"tags\":[\"gguf\",\"x\"],\"gated\":\"auto\"},{\"id\":\"gpt2\"},"
            "{\"id\":\"c/d\",\"downloads\":-1,\"tags\":[\"safetensors\",1]},3,{\"id\":\"../x\"}]"),
        arena, &s, &err));
    assert_int_equal(s.n, 2);
    assert_string_equal(s.items[0].repo.ptr, "a/b");
    assert_true(s.items[0].downloads == 7 && s.items[0].gguf && s.items[0].gated && !s.items[0].safetensors);
    assert_true(s.items[1].downloads == 0 && s.items[1].safetensors);
    assert_false(hub_search_parse(STR("{}"), arena, &s, &err));
    arena_free(arena);
}

/* json-c crashes by itself when a copy of a key fails; so it is our memory, the arena, that runs out at every point. */
static void memory_runs_out(void **state)
{
    static const char registry[] = "{\"aliases\": {\"x\": \"a/b\", \"y\": \"/z\"}}";
    int n_failed = 0, n_done = 0;
    (void)state;
    for (size_t max = 1; max < 4096; max += 7) {
        struct error err = {0};
        struct hub_listing l;
        struct hub_registry r;
        struct arena *arena = arena_create(max);
        assert_non_null(arena);
        bool ok = hub_listing_parse(STR(REPLY(SMALL "," LARGE)), arena, &l, &err) &&
                  hub_registry_parse(str_of(registry), arena, &r, &err);
        assert_true(ok ? l.n == 2 && r.n == 2 : err.code == ERR_TOO_LARGE && err.msg[0]);
        n_failed += !ok;
        n_done += ok;
        arena_free(arena);
    }
    assert_true(n_failed > 10 && n_done > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_and_their_names_in_the_cache),
        cmocka_unit_test(what_is_no_reply),
        cmocka_unit_test(hostile_names),
        cmocka_unit_test(what_is_found),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
