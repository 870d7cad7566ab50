/* What a user may call a model by, and where a redirect leads to. The first byte chooses. */
#include "hub/fetch.h"
#include "hub/reference.h"

#include <stdlib.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static void check_reference(const char *text)
{
    struct error err = {0}, ignored = {0};
    struct hub_reference r;
    if (!hub_reference_parse(text, &r, &err)) {
        check(err.code == ERR_INVALID && err.msg[0]);
        return;
    }
    if (r.kind == HUB_REPO) {
        check(hub_repo_check(str_of(r.repo), &ignored));
        check(hub_revision_check(str_of(hub_reference_revision(&r)), &ignored));
        check(!r.file[0] || (hub_file_check(str_of(r.file), &ignored) && !r.precision[0]));
        check(!strstr(r.repo, "..") && !strstr(r.revision, "..") && !strstr(r.file, "/../"));
    }
    check(r.kind != HUB_NAME || hub_short_check(text, &ignored));
}

/* From https only to https; what came out is of http or https, without what a header must not have. */
static void check_redirect(struct str location)
{
    static const char hub[] = "https://hub.example/a/b?c";
    char out[FETCH_URL_MAX];
    struct error err = {0};
    if (!hub_follow(hub, location, out, &err)) {
        check(err.code != ERR_NONE && err.msg[0]);
        return;
    }
    check(strncmp(out, "https://", 8) == 0 && strlen(out) < FETCH_URL_MAX && !strpbrk(out, " \r\n\t"));
    check(!hub_same_origin(hub, out) || strncasecmp(out + 8, "hub.example", 11) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    char *text = malloc(size);
    if (text) {
        memcpy(text, data + 1, size - 1);
        text[size - 1] = '\0';
        if (data[0] & 1) {
            check_reference(text);
        } else {
            check_redirect((struct str){text, size - 1});
        }
        free(text);
    }
    return 0;
}
