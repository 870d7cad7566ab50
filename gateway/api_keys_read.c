/* Where keys come from. Every copy of a key's text that is made here is wiped; error messages name keys by their name
 * or place and never show their text. */
#include "gateway/api_keys_internal.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST_PREFIX "sha256:"
#define SHORT_KEY     16         /* bytes; fewer can be guessed */
#define MAX_LIMIT     1000000000 /* of anything */

/* ---- one key ---- */

static bool parse_digest(struct str hex, struct sha256 *out)
{
    bool ok = hex.len == 2 * SHA256_SIZE;
    for (size_t i = 0; ok && i < SHA256_SIZE; i++) {
        int high = hex_digit(hex.ptr[2 * i]), low = hex_digit(hex.ptr[2 * i + 1]);
        ok = high >= 0 && low >= 0;
        out->bytes[i] = ok ? (uint8_t)(high << 4 | low) : 0;
    }
    return ok;
}

/* A key must fit into a header field, and arrive there as it was written. */
static bool is_visible(struct str key)
{
    for (size_t i = 0; i < key.len; i++) {
        if (key.ptr[i] <= 0x20 || key.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

/* The digest of a key as it is written down: the key itself, or "sha256:" and 64 hexadecimal digits. */
static bool digest_of(struct str key, const char *name, struct sha256 *out, struct error *err)
{
    struct str prefix = STR(DIGEST_PREFIX);
    if (str_starts(key, prefix)) {
        return parse_digest(str_slice(key, prefix.len, key.len), out) ||
               error_set(err, ERR_INVALID, "'sha256:' must be followed by %d hexadecimal digits.", 2 * SHA256_SIZE);
    }
    if (key.len == 0 || key.len > LIMIT_API_KEY_SIZE || !is_visible(key)) {
        return error_set(err, ERR_INVALID,
                         "a key must have 1 to %d visible ASCII characters without blanks, and this one has %zu bytes.",
                         LIMIT_API_KEY_SIZE, key.len);
    }
    if (key.len < SHORT_KEY) {
        LOG_WARN("a short API key can be guessed", "key=%s length=%zu", name, key.len);
    }
    *out = sha256_of(key.ptr, key.len);
    return true;
}

/* ---- the environment ---- */

static size_t count_parts(const char *text)
{
    size_t n = 1;
    for (; *text; text++) {
        n += *text == ',';
    }
    return n;
}

static bool split_list(struct str text, size_t n, struct api_key *keys, struct error *err)
{
    struct str part;
    for (size_t i = 0; str_split(&text, ',', &part); i++) {
        struct api_key *key = &keys[i];
        key->from_environment = true;
        snprintf(key->name, sizeof key->name, n == 1 ? "env" : "env-%zu", i + 1);
        if (!digest_of(str_trim(part), key->name, &key->digest, err)) {
            return n == 1 ? false : error_wrap(err, "key %zu of %zu", i + 1, n);
        }
    }
    return true;
}

bool api_keys_set_list(struct api_keys *k, char *text, struct error *err)
{
    size_t n = count_parts(text), size = strlen(text);
    bool fits = n <= LIMIT_API_KEYS;
    struct api_key *keys = calloc(fits ? n : 1, sizeof *keys);
    bool ok =
        keys && fits && split_list((struct str){text, size}, n, keys, err) && api_keys__replace(k, true, keys, n, err);
    if (!fits) {
        error_set(err, ERR_INVALID, "%zu keys, at most %d are possible.", n, LIMIT_API_KEYS);
    } else if (!keys) {
        error_set(err, ERR_NO_MEMORY, "no memory for %zu keys.", n);
    }
    free(keys);
    memory_wipe(text, size);
    return ok;
}

/* ---- the file ---- */

/* Letters, digits and a few signs: it goes into logs, labels and headers as it is. */
static bool valid_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr("-_.@+", c))) {
            return false;
        }
    }
    return name.len > 0 && name.len < API_KEY_NAME;
}

static bool read_name(struct api_key *key, const struct json *v, struct error *err)
{
    if (json_type(v) != JSON_STRING || !valid_name(json_str(v))) {
        return error_set(err, ERR_INVALID, "'name': expected 1 to %d letters, digits and -_.@+.", API_KEY_NAME - 1);
    }
    snprintf(key->name, sizeof key->name, STR_FMT, STR_ARG(json_str(v)));
    return true;
}

static bool read_key(struct api_key *key, const struct json *v, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return error_set(err, ERR_INVALID, "'key': expected a string, but got %s.", json_type_name(json_type(v)));
    }
    return digest_of(json_str(v), key->name, &key->digest, err) || error_wrap(err, "'key'");
}

static int64_t *limit_slot(struct api_key *key, struct str name)
{
    int64_t *slots[API_KEY_N_LIMITS] = {&key->limits.requests, &key->limits.tokens, &key->limits.concurrent};
    for (int i = 0; i < API_KEY_N_LIMITS; i++) {
        if (str_eq(name, str_of(api_key_limit_name((enum api_key_limit)i)))) {
            return slots[i];
        }
    }
    return NULL;
}

static bool read_limit(struct api_key *key, struct str name, const struct json *v, struct error *err)
{
    int64_t *slot = limit_slot(key, name);
    if (!slot) {
        return error_set(err, ERR_INVALID,
                         "'%.60s' is none of name, key, requests_per_minute, tokens_per_minute, max_concurrent.",
                         name.ptr);
    }
    if (json_type(v) != JSON_INT || json_int(v) < 1 || json_int(v) > MAX_LIMIT) {
        return error_set(err, ERR_INVALID, "'%s': expected an integer from 1 to %d; leave it out for no limit.",
                         name.ptr, MAX_LIMIT);
    }
    *slot = json_int(v);
    return true;
}

static bool read_entry(struct api_key *key, const struct json *entry, struct error *err)
{
    if (json_type(entry) != JSON_OBJECT) {
        return error_set(err, ERR_INVALID, "expected an object, but got %s.", json_type_name(json_type(entry)));
    }
    if (!read_name(key, json_get(entry, "name"), err)) { /* first: the messages of the others say it */
        return false;
    }
    if (!json_get(entry, "key")) {
        return error_set(err, ERR_INVALID, "'%s' has no 'key'.", key->name);
    }
    for (struct json_iter it = json_members(entry); json_next(&it);) {
        bool is_key = str_eq(it.key, STR("key")), is_name = str_eq(it.key, STR("name"));
        if (!is_name && !(is_key ? read_key(key, it.value, err) : read_limit(key, it.key, it.value, err))) {
            return error_wrap(err, "'%s'", key->name);
        }
    }
    return true;
}

static bool read_entries(const struct json *root, struct str text, struct api_key *keys, struct error *err)
{
    for (size_t i = 0; i < json_len(root); i++) {
        if (!read_entry(&keys[i], json_at(root, i), err)) {
            char path[32];
            snprintf(path, sizeof path, "[%zu]", i);
            return error_wrap(err, "line %d", json_line_of(text, path));
        }
    }
    return true;
}

static bool read_root(struct api_keys *k, const struct json *root, struct str text, struct error *err)
{
    size_t n = json_len(root);
    if (json_type(root) != JSON_ARRAY || n == 0 || n > LIMIT_API_KEYS) {
        return error_set(err, ERR_INVALID, "expected an array of 1 to %d objects with 'name' and 'key'.",
                         LIMIT_API_KEYS);
    }
    struct api_key *keys = calloc(n, sizeof *keys);
    bool ok = keys ? read_entries(root, text, keys, err) && api_keys__replace(k, false, keys, n, err)
                   : error_set(err, ERR_NO_MEMORY, "no memory for %zu keys.", n);
    free(keys);
    return ok;
}

/* Every string that may be a key: the tree is ours, and goes away after it. */
static void wipe_strings(const struct json *v, int depth)
{
    if (json_type(v) == JSON_STRING) {
        memory_wipe((char *)json_str(v).ptr, json_str(v).len);
    }
    for (size_t i = 0; depth > 0 && json_type(v) == JSON_ARRAY && i < json_len(v); i++) {
        wipe_strings(json_at(v, i), depth - 1);
    }
    for (struct json_iter it = json_members(v); depth > 0 && json_type(v) == JSON_OBJECT && json_next(&it);) {
        wipe_strings(it.value, depth - 1);
    }
}

bool api_keys_read_text(struct api_keys *k, char *text, size_t size, const char *where, struct error *err)
{
    struct str view = {text, size};
    struct json *root = json_parse(view, 0, err);
    bool ok = root && read_root(k, root, view, err);
    wipe_strings(root, JSON_DEFAULT_DEPTH);
    json_free(root);
    memory_wipe(text, size);
    return ok || error_wrap(err, "API keys '%s'", where);
}

/* A regular file of a size that can be; *mode is for the warning. */
static int open_keys(const char *path, size_t *size, mode_t *mode, struct error *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        error_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "API keys '%s': %s.", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        error_set(err, ERR_INVALID, "API keys '%s': it is not a regular file.", path);
    } else if (info.st_size > (off_t)LIMIT_API_KEYS_FILE) {
        error_set(err, ERR_TOO_LARGE, "API keys '%s': it has more than %zu bytes.", path, LIMIT_API_KEYS_FILE);
    } else {
        *size = (size_t)info.st_size;
        *mode = info.st_mode;
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

bool api_keys_read_file(struct api_keys *k, const char *path, struct error *err)
{
    size_t size;
    mode_t mode;
    int fd = open_keys(path, &size, &mode, err);
    if (fd < 0) {
        return false;
    }
    char *text = malloc(size + 1);
    bool ok = text ? file_read_at(fd, 0, text, size) ||
                         error_set(err, ERR_IO, "API keys '%s' could not be read: %s.", path, strerror(errno))
                   : error_set(err, ERR_NO_MEMORY, "no memory to read '%s'.", path);
    close(fd);
    ok = ok && api_keys_read_text(k, text, size, path, err);
    free(text);
    if (ok && mode & S_IROTH) {
        LOG_WARN("everybody on this machine may read the API keys: chmod o-r", "path=\"%s\" mode=%03o", path,
                 (unsigned)mode & 0777);
    }
    return ok;
}
