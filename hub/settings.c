#include "hub/settings.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define MAX_TOKEN_FILE   KIB(8)

/* The first variable of these that is set and not empty; *name gets which. */
static const char *variable(const char *first, const char *second, const char **name)
{
    const char *names[] = {first, second};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = names[i] ? getenv(names[i]) : NULL;
        if (value && value[0]) {
            *name = names[i];
            return value;
        }
    }
    return NULL;
}

static bool is_true(const char *name)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    struct str value = str_of(getenv(name));
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_eq_nocase(value, str_of(words[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- paths ---- */

/* "~" and "~/x" are below the home folder. */
static bool expand(const char *path, char *out, size_t size)
{
    const char *home = getenv("HOME");
    bool at_home = path[0] == '~' && (path[1] == '/' || path[1] == '\0');
    int n = at_home && home ? snprintf(out, size, "%s%s", home, path + 1) : snprintf(out, size, "%s", path);
    return n > 0 && (size_t)n < size;
}

static bool hf_home(char *out, size_t size)
{
    const char *name, *given = variable("HF_HOME", NULL, &name), *cache = variable("XDG_CACHE_HOME", NULL, &name);
    char below[HUB_PATH_MAX];
    if (given) {
        return expand(given, out, size);
    }
    if (!cache && !getenv("HOME")) {
        return false;
    }
    int n = expand(cache ? cache : "~/.cache", below, sizeof below) ? snprintf(out, size, "%s/huggingface", below) : -1;
    return n > 0 && (size_t)n < size;
}

static bool read_cache(struct hub_settings *out, struct error *err)
{
    const char *name, *given = variable("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", &name);
    char home[HUB_PATH_MAX - 8];
    if (given) {
        return expand(given, out->cache, sizeof out->cache) ||
               error_set(err, ERR_INVALID, "%s is longer than a path can be.", name);
    }
    if (!hf_home(home, sizeof home)) {
        return error_set(err, ERR_NOT_FOUND,
                         "there is no home folder for the cache of the Hugging Face Hub; set HF_HOME.");
    }
    snprintf(out->cache, sizeof out->cache, "%s/hub", home);
    return true;
}

/* ---- the endpoint ---- */

static bool read_endpoint(struct hub_settings *out, struct error *err)
{
    const char *name, *given = variable("HF_ENDPOINT", NULL, &name);
    struct str url = str_of(given ? given : DEFAULT_ENDPOINT);
    while (url.len && url.ptr[url.len - 1] == '/') {
        url.len--;
    }
    if (url.len >= sizeof out->endpoint) {
        return error_set(err, ERR_INVALID, "HF_ENDPOINT is longer than %d bytes.", HUB_ENDPOINT_MAX - 1);
    }
    if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://"))) {
        return error_set(err, ERR_INVALID, "HF_ENDPOINT is '%.100s', which begins with neither http:// nor https://.",
                         given);
    }
    snprintf(out->endpoint, sizeof out->endpoint, STR_FMT, STR_ARG(url));
    return true;
}

/* ---- the token ---- */

static bool take_token(struct str text, const char *where, struct hub_settings *out, struct error *err)
{
    text = str_trim(text);
    if (text.len >= sizeof out->token) {
        return error_set(err, ERR_INVALID, "%s holds %zu bytes, which is more than a token has.", where, text.len);
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~') {
            return error_set(err, ERR_INVALID, "%s holds what is no token: a blank or a control character.", where);
        }
    }
    if (text.len) { /* str_trim of nothing may have no address */
        memcpy(out->token, text.ptr, text.len);
    }
    out->token[text.len] = '\0';
    return true;
}

static bool token_path(char *out, size_t size)
{
    char home[HUB_PATH_MAX - 8];
    const char *name, *given = variable("HF_TOKEN_PATH", NULL, &name);
    if (given) {
        return expand(given, out, size);
    }
    int n = hf_home(home, sizeof home) ? snprintf(out, size, "%s/token", home) : -1;
    return n > 0 && (size_t)n < size;
}

bool hub_settings_read_token(struct hub_settings *out, struct error *err)
{
    char path[HUB_PATH_MAX];
    const char *name = NULL, *given = variable("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", &name);
    struct buf text = {0};
    if (given) {
        return take_token(str_of(given), name, out, err);
    }
    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") || !token_path(path, sizeof path) || !file_exists(path)) {
        return true;
    }
    bool ok = file_read(path, MAX_TOKEN_FILE, &text, err) && take_token(buf_view(&text), "the token file", out, err);
    if (text.data) {
        memory_wipe(text.data, text.len);
    }
    buf_release(&text);
    return ok || error_wrap(err, "the Hub's token");
}

bool hub_settings_read(struct hub_settings *out, struct error *err)
{
    const char *name = NULL; /* the first that is set decides, also by 0 */
    struct hub_settings s = {.offline = variable("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", &name) && is_true(name)};
    if (!read_endpoint(&s, err) || !read_cache(&s, err)) {
        return false;
    }
    *out = s;
    return true;
}
