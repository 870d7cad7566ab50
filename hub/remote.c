#include "hub/remote.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/gguf_head.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FIRST_GGUF        MIB(1)
#define FIRST_SAFETENSORS KIB(64)
#define MAX_DOCUMENT      LIMIT_FOLDER_INDEX

struct remote {
    struct hub_client *client;
    const char *repo, *commit, *folder;
};

/* ---- heads ---- */

static bool read_to(const struct remote *r, const struct hub_file *f, uint64_t size, struct buf *out, struct error *err)
{
    return out->len >= size || out->len >= f->size ||
           hub_client_read(r->client, r->repo, r->commit, f, out->len, size - out->len, out, err);
}

static bool head_too_large(const struct hub_file *f, struct error *err)
{
    return error_set(err, ERR_FORMAT, "%.120s: its head is longer than %zu MiB, or than the file.", f->path.ptr,
                     LIMIT_HUB_HEAD >> 20);
}

static bool read_gguf(const struct remote *r, const struct hub_file *f, struct buf *out, struct error *err)
{
    uint64_t needed = 0;
    for (uint64_t size = FIRST_GGUF;; size = needed > 2 * size ? needed : 2 * size) {
        if (needed > f->size || needed > LIMIT_HUB_HEAD) {
            return head_too_large(f, err);
        }
        size = size < LIMIT_HUB_HEAD ? size : LIMIT_HUB_HEAD;
        if (!read_to(r, f, size, out, err)) {
            return false;
        }
        if (!gguf_head_size(out->data, out->len, &needed, err)) {
            return error_wrap(err, "%.100s", f->path.ptr);
        }
        if (needed <= out->len) {
            return true;
        }
        if (out->len >= f->size || out->len >= LIMIT_HUB_HEAD) {
            return head_too_large(f, err);
        }
    }
}

static bool read_safetensors(const struct remote *r, const struct hub_file *f, struct buf *out, struct error *err)
{
    uint64_t len = 0;
    if (!read_to(r, f, FIRST_SAFETENSORS, out, err)) {
        return false;
    }
    if (out->len < sizeof len) {
        return error_set(err, ERR_FORMAT, "%.120s is no safetensors file: it has %zu bytes.", f->path.ptr, out->len);
    }
    memcpy(&len, out->data, sizeof len);
    if (len > LIMIT_SAFETENSORS_HEAD || len > f->size - sizeof len || len > LIMIT_HUB_HEAD - sizeof len) {
        return head_too_large(f, err);
    }
    return read_to(r, f, sizeof len + len, out, err);
}

/* ---- files ---- */

/* Only GGUF files lie in folders of a repository; their name is enough. */
static const char *flat_name(const struct hub_file *f)
{
    const char *slash = strrchr(f->path.ptr, '/');
    return slash ? slash + 1 : f->path.ptr;
}

static bool write_head(const struct remote *r, const struct hub_file *f, struct str head, struct error *err)
{
    char path[HUB_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", r->folder, flat_name(f));
    int fd =
        n > 0 && n < (int)sizeof path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
    bool ok = fd >= 0 && file_write_at(fd, 0, head.ptr, head.len) && file_cut(fd, f->size);
    if (!ok) {
        error_set(err, ERR_IO, "the head of '%.120s' could not be written: %s.", f->path.ptr, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool bring(const struct remote *r, const struct hub_file *f, struct error *err)
{
    struct buf head;
    bool ok;
    buf_init(&head, LIMIT_HUB_HEAD + 1);
    if (str_ends(f->path, STR(".gguf"))) {
        ok = read_gguf(r, f, &head, err);
    } else if (str_ends(f->path, STR(".safetensors"))) {
        ok = read_safetensors(r, f, &head, err);
    } else if (f->size > MAX_DOCUMENT) {
        ok = error_set(err, ERR_FORMAT, "%.120s is larger than %zu MiB.", f->path.ptr, MAX_DOCUMENT >> 20);
    } else {
        ok = read_to(r, f, f->size, &head, err);
    }
    ok = ok && write_head(r, f, buf_view(&head), err);
    buf_release(&head);
    return ok;
}

static bool is_needed(const struct hub_file *f)
{
    return !str_eq(f->path, STR("tokenizer.json")) && !str_ends(f->path, STR(".jinja"));
}

bool hub_remote_heads(struct hub_client *c, const char *repo, const struct hub_listing *l,
                      const struct hub_choice *choice, const char *folder, char path[HUB_PATH_MAX], struct error *err)
{
    struct remote r = {.client = c, .repo = repo, .commit = l->commit, .folder = folder};
    bool ok = true;
    for (size_t i = 0; ok && i < choice->n; i++) {
        ok = !is_needed(choice->files[i]) || bring(&r, choice->files[i], err);
    }
    const struct hub_file *first = choice->is_folder ? NULL : hub_listing_find(l, choice->main);
    int n = snprintf(path, HUB_PATH_MAX, "%s%s%s", folder, first ? "/" : "", first ? flat_name(first) : "");
    return ok &&
           ((n > 0 && n < HUB_PATH_MAX) || error_set(err, ERR_INVALID, "the folder '%.100s' is too long.", folder));
}

void hub_remote_clear(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
        rmdir(folder);
    }
}
