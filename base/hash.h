/* Digests: SHA-256 (OpenSSL) for keys that must not collide, XXH3 (xxHash) for checksums; SHA-1 only where others name
 * things by it. */
#ifndef TANDEM_BASE_HASH_H
#define TANDEM_BASE_HASH_H

#include "base/str.h"

#define SHA256_SIZE 32

struct sha256 {
    uint8_t bytes[SHA256_SIZE];
};

struct sha256_ctx;                          /* one digest in progress */
struct sha256_ctx *sha256_try_create(void); /* NULL when there is no memory; started already, as by the next */
struct sha256_ctx *sha256_create(void);     /* aborts the process when OpenSSL cannot allocate (start-up only) */
void sha256_free(struct sha256_ctx *ctx);
void sha256_start(struct sha256_ctx *ctx);
void sha256_update(struct sha256_ctx *ctx, const void *data, size_t size);
struct sha256 sha256_finish(struct sha256_ctx *ctx); /* start again before the next use */

struct sha256 sha256_of(const void *data, size_t size);
void sha256_hex(const struct sha256 *digest, char out[2 * SHA256_SIZE + 1]);
bool sha256_equal(const struct sha256 *a, const struct sha256 *b); /* constant time */

#define SHA1_HEX_SIZE 40

struct sha1_ctx;                    /* one digest in progress: git names its blobs by it */
struct sha1_ctx *sha1_create(void); /* aborts the process when OpenSSL cannot allocate */
void sha1_free(struct sha1_ctx *ctx);
void sha1_update(struct sha1_ctx *ctx, const void *data, size_t size);
void sha1_finish_hex(struct sha1_ctx *ctx, char out[SHA1_HEX_SIZE + 1]); /* only sha1_free may follow */

void memory_wipe(void *p, size_t size); /* zeroes what must not stay behind; no compiler leaves it out */

uint64_t xxh3(const void *data, size_t size, uint64_t seed);

#endif
