/* Replies of the Hub: a listing of files, from which a model is chosen, and what a search found. Whatever is taken
 * obeys the rules of names. */
#include "base/limits.h"
#include "base/utf8.h"
#include "hub/choose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

/* What a terminal may show. */
static void check_plain(struct str path)
{
    char plain[HUB_FILE_MAX + 1];
    memcpy(plain, path.ptr, path.len);
    utf8_make_plain(plain, path.len);
    check(str_eq((struct str){plain, path.len}, path) && !memchr(plain, '\n', path.len));
}

static void check_choice(const struct hub_listing *l, const char *precision, struct arena *arena)
{
    struct error err = {0}, ignored = {0};
    struct hub_choice c;
    struct hub_reference r = {.kind = HUB_REPO};
    char missing[HUB_FILE_MAX + 1];
    memcpy(r.precision, precision, strlen(precision) + 1);
    if (!hub_choose(l, &r, HUB_FOLDER_FIRST, arena, &c, &err)) {
        check(err.code != ERR_NONE && err.msg[0]);
        return;
    }
    check(c.n > 0 && c.n <= l->n);
    for (size_t i = 0; i < c.n; i++) {
        check(str_ends(c.files[i]->path, STR(".json")) || str_ends(c.files[i]->path, STR(".jinja")) ||
              str_ends(c.files[i]->path, STR(".safetensors")) || str_ends(c.files[i]->path, STR(".gguf")));
    }
    check(c.is_folder || hub_listing_find(l, c.main));
    check(!hub_choice_lacks(&c, missing, sizeof missing) || hub_file_check(str_of(missing), &ignored));
}

static void check_listing(struct str text, struct arena *arena)
{
    struct error err = {0};
    struct hub_listing l;
    if (!hub_listing_parse(text, arena, &l, &err)) {
        check(err.code != ERR_NONE && err.msg[0]);
        return;
    }
    check(hub_is_commit(str_of(l.commit)));
    for (size_t i = 0; i < l.n; i++) {
        check(hub_file_check(l.files[i].path, &err) && hub_is_etag(str_of(l.files[i].etag)));
        check(strlen(l.files[i].path.ptr) == l.files[i].path.len);
        check_plain(l.files[i].path);
    }
    check_choice(&l, "", arena);
    check_choice(&l, "Q4_0", arena);
    check_choice(&l, "8bit", arena);
}

static void check_search(struct str text, struct arena *arena)
{
    struct error err = {0};
    struct hub_search s;
    if (!hub_search_parse(text, arena, &s, &err)) {
        check(err.code != ERR_NONE && err.msg[0]);
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        check(hub_repo_check(s.items[i].repo, &err) && s.items[i].downloads >= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct arena *arena = arena_create(MIB(16));
    if (arena) {
        check_listing(text, arena);
        check_search(text, arena);
        arena_free(arena);
    }
    return 0;
}
