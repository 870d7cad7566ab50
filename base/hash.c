#define XXH_INLINE_ALL
#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <xxhash.h>

struct sha256_ctx {
    EVP_MD_CTX *evp;
};

struct sha256_ctx *sha256_try_create(void)
{
    struct sha256_ctx *ctx = malloc(sizeof *ctx);
    if (!ctx || !(ctx->evp = EVP_MD_CTX_new()) || EVP_DigestInit_ex(ctx->evp, EVP_sha256(), NULL) != 1) {
        if (ctx) {
            EVP_MD_CTX_free(ctx->evp);
        }
        free(ctx);
        return NULL;
    }
    return ctx;
}

struct sha256_ctx *sha256_create(void)
{
    struct sha256_ctx *ctx = sha256_try_create();
    if (!ctx) {
        abort();
    }
    return ctx;
}

void sha256_free(struct sha256_ctx *ctx)
{
    if (ctx) {
        EVP_MD_CTX_free(ctx->evp);
        free(ctx);
    }
}

void sha256_start(struct sha256_ctx *ctx)
{
    if (EVP_DigestInit_ex(ctx->evp, EVP_sha256(), NULL) != 1) {
        abort();
    }
}

void sha256_update(struct sha256_ctx *ctx, const void *data, size_t size)
{
    if (EVP_DigestUpdate(ctx->evp, data, size) != 1) {
        abort();
    }
}

struct sha256 sha256_finish(struct sha256_ctx *ctx)
{
    struct sha256 digest;
    unsigned size = sizeof digest.bytes;
    if (EVP_DigestFinal_ex(ctx->evp, digest.bytes, &size) != 1) {
        abort();
    }
    return digest;
}

struct sha256 sha256_of(const void *data, size_t size)
{
    struct sha256_ctx *ctx = sha256_create();
    sha256_update(ctx, data, size);
    struct sha256 digest = sha256_finish(ctx);
    sha256_free(ctx);
    return digest;
}

static void put_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

void sha256_hex(const struct sha256 *digest, char out[2 * SHA256_SIZE + 1])
{
    put_hex(digest->bytes, SHA256_SIZE, out);
}

bool sha256_equal(const struct sha256 *a, const struct sha256 *b)
{
    return CRYPTO_memcmp(a->bytes, b->bytes, SHA256_SIZE) == 0;
}

struct sha1_ctx {
    EVP_MD_CTX *evp;
};

struct sha1_ctx *sha1_create(void)
{
    struct sha1_ctx *ctx = malloc(sizeof *ctx);
    if (!ctx || !(ctx->evp = EVP_MD_CTX_new()) || EVP_DigestInit_ex(ctx->evp, EVP_sha1(), NULL) != 1) {
        abort();
    }
    return ctx;
}

void sha1_free(struct sha1_ctx *ctx)
{
    if (ctx) {
        EVP_MD_CTX_free(ctx->evp);
        free(ctx);
    }
}

void sha1_update(struct sha1_ctx *ctx, const void *data, size_t size)
{
    if (EVP_DigestUpdate(ctx->evp, data, size) != 1) {
        abort();
    }
}

void sha1_finish_hex(struct sha1_ctx *ctx, char out[SHA1_HEX_SIZE + 1])
{
    uint8_t bytes[SHA1_HEX_SIZE / 2];
    if (EVP_DigestFinal_ex(ctx->evp, bytes, NULL) != 1) {
        abort();
    }
    put_hex(bytes, sizeof bytes, out);
}

void memory_wipe(void *p, size_t size)
{
    OPENSSL_cleanse(p, size);
}

uint64_t xxh3(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}
