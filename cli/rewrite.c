#include "cli/rewrite.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "text/tokenizer_export.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define TEMPLATES "additional_chat_templates" /* a folder of NAME.jinja in a folder */

struct run {
    const struct model_file *file;
    const struct rewrite_options *o;
};

static bool put_tokenizer(void *arg, struct gguf_writer *w, int n_vocab, struct error *err)
{
    const struct run *r = arg;
    return tokenizer_export_gguf(r->file, w, n_vocab, err);
}

static bool pass_progress(void *arg, double fraction)
{
    const struct run *r = arg;
    return !r->o->progress || r->o->progress(r->o->arg, fraction);
}

/* ---- files of a folder that are not weights ---- */

static bool write_document(const char *folder, const char *name, struct str text, struct error *err)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (n < 0 || n >= (int)sizeof path) {
        return error_set(err, ERR_INVALID, "The path of the output is too long.");
    }
    return file_write_atomic(path, text, err);
}

/* Chat templates beside the usual one that are in files of their own. */
static bool copy_templates(const struct model_file *file, const char *folder, struct error *err)
{
    const struct str prefix = STR("tokenizer.chat_template.");
    for (size_t i = 0; i < model_file_n_meta(file); i++) {
        char name[PATH_SIZE], path[PATH_SIZE];
        struct str key = model_file_meta_key(file, i);
        if (!str_starts(key, prefix) || key.len > PATH_SIZE / 2) {
            continue;
        }
        snprintf(name, sizeof name, TEMPLATES "/" STR_FMT ".jinja", STR_ARG(str_slice(key, prefix.len, key.len)));
        struct str text = model_file_document(file, name);
        snprintf(path, sizeof path, "%.*s/" TEMPLATES, PATH_SIZE - 64, folder);
        if (text.len && (!dir_make(path, err) || !write_document(folder, name, text, err))) {
            return false;
        }
    }
    return true;
}

static bool copy_documents(const struct model_file *file, const char *folder, struct error *err)
{
    static const char *const names[] = {"generation_config.json", "tokenizer.json",     "tokenizer_config.json",
                                        "chat_template.jinja",    "chat_template.json", "special_tokens_map.json",
                                        "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct str text = model_file_document(file, names[i]);
        if (text.len && !write_document(folder, names[i], text, err)) {
            return false;
        }
    }
    return copy_templates(file, folder, err);
}

static bool make_documents(const struct model_file *file, const char *folder, struct error *err)
{
    struct buf tokenizer, config;
    buf_init(&tokenizer, LIMIT_FOLDER_DOCUMENT);
    buf_init(&config, LIMIT_FOLDER_JSON);
    bool ok = tokenizer_export_json(file, &tokenizer, &config, err) &&
              write_document(folder, "tokenizer.json", buf_view(&tokenizer), err) &&
              write_document(folder, "tokenizer_config.json", buf_view(&config), err);
    buf_release(&tokenizer);
    buf_release(&config);
    return ok;
}

/* ---- the whole ---- */

/* With the folder, when it holds nothing else. */
static void remove_files(const char *path)
{
    char name[PATH_SIZE + 300];
    struct dirent *entry;
    DIR *dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            unlink(name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    rmdir(path);
}

/* Only what this program put there: files, and those of the one folder in it. */
static void remove_folder(const char *path)
{
    char templates[PATH_SIZE + sizeof TEMPLATES + 1];
    snprintf(templates, sizeof templates, "%s/" TEMPLATES, path);
    remove_files(templates);
    remove_files(path);
}

static bool write_folder(const struct model_file *file, const char *out, const struct export_options *e,
                         struct error *err)
{
    char part[PATH_SIZE];
    int n = snprintf(part, sizeof part, "%s.part", out);
    while (n > 6 && n < (int)sizeof part && out[n - 6] == '/') { /* "folder/" */
        n = snprintf(part, sizeof part, "%.*s.part", n - 6, out);
    }
    if (n < 0 || n >= (int)sizeof part) {
        return error_set(err, ERR_INVALID, "The path of the output is too long.");
    }
    if (file_exists(out) || dir_exists(out)) {
        return error_set(err, ERR_INVALID, "'%.120s' is there already.", out);
    }
    remove_folder(part); /* of a run that was cut off */
    bool ok = dir_make(part, err) && export_write(file, part, e, err) &&
              (model_file_is_folder(file) ? copy_documents(file, part, err) : make_documents(file, part, err));
    if (ok && rename(part, out) != 0) {
        ok = error_set(err, ERR_IO, "'%.120s' cannot be renamed to its name: %s.", part, strerror(errno));
    }
    if (!ok) {
        remove_folder(part);
    }
    return ok;
}

/* The source would be lost with the first mistake. */
static bool is_source(const struct model_file *file, const char *out)
{
    struct stat a, b;
    return stat(model_file_path(file), &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool rewrite_model(const struct model_file *file, const char *out, const struct rewrite_options *o, struct error *err)
{
    struct run run = {file, o};
    if (is_source(file, out)) {
        return error_set(err, ERR_INVALID, "'%.120s' is the model itself: give what is written another name.", out);
    }
    struct pool *pool = pool_create(&(struct pool_options){.n_threads = o->n_threads}, err);
    if (!pool) {
        return false;
    }
    struct export_options e = {.container = o->container,
                               .precision = o->precision,
                               .importance = o->importance,
                               .pool = pool,
                               .tokenizer = put_tokenizer,
                               .progress = pass_progress,
                               .arg = &run};
    bool ok = o->container == EXPORT_GGUF ? export_write(file, out, &e, err) : write_folder(file, out, &e, err);
    pool_free(pool);
    return ok;
}
