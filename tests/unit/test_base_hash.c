/* Digests against published values (FIPS 180-4 examples, the XXH3 specification's empty input). */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *hex, struct sha256 digest)
{
    char text[2 * SHA256_SIZE + 1];
    sha256_hex(&digest, text);
    assert_string_equal(text, hex);
}

static void sha256_examples(void **state)
{
    (void)state;
    expect("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", sha256_of(NULL, 0));
    expect("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", sha256_of("abc", 3));
    expect("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
           sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56));
}

static void sha256_in_pieces(void **state)
{
    (void)state;
    struct sha256_ctx *ctx = sha256_create();
    char block[1000];
    memset(block, 'a', sizeof block);
    for (int round = 0; round < 2; round++) {
        sha256_start(ctx);
        for (int i = 0; i < 1000; i++) {
            sha256_update(ctx, block, sizeof block);
        }
        sha256_update(ctx, NULL, 0);
        expect("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", sha256_finish(ctx));
    }
    sha256_free(ctx);
    sha256_free(NULL);
}

static void equality(void **state)
{
    (void)state;
    struct sha256 a = sha256_of("a", 1), b = a;
    assert_true(sha256_equal(&a, &b));
    for (int i = 0; i < SHA256_SIZE; i++) {
        b.bytes[i] ^= 1;
        assert_false(sha256_equal(&a, &b));
        b.bytes[i] ^= 1;
    }
}

static void sha1_examples(void **state)
{
    char hex[SHA1_HEX_SIZE + 1];
    struct sha1_ctx *ctx = sha1_create();
    (void)state;
    sha1_finish_hex(ctx, hex);
    assert_string_equal(hex, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_free(ctx);
    ctx = sha1_create(); /* as git names an empty file; in pieces */
    sha1_update(ctx, "blob ", 5);
    sha1_update(ctx, "0", 2);
    sha1_finish_hex(ctx, hex);
    assert_string_equal(hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    sha1_free(ctx);
    sha1_free(NULL);
}

static void xxh3_values(void **state)
{
    (void)state;
    assert_true(xxh3("", 0, 0) == 0x2D06800538D394C2u);
    assert_true(xxh3("a", 1, 0) != xxh3("a", 1, 1));
    char text[400] = {0};
    uint64_t before = xxh3(text, sizeof text, 0);
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = 1;
        assert_true(xxh3(text, sizeof text, 0) != before);
        text[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_examples), cmocka_unit_test(sha256_in_pieces), cmocka_unit_test(equality),
        cmocka_unit_test(sha1_examples),   cmocka_unit_test(xxh3_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
