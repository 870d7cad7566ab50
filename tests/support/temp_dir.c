#include "tests/support/temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void temp_dir_make(struct temp_dir *dir)
{
    const char *base = getenv("TMPDIR");
    snprintf(dir->path, sizeof(dir->path), "%s/tandem-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir->path)) {
        perror(dir->path);
        abort();
    }
}

char *temp_dir_file(const struct temp_dir *dir, const char *name)
{
    size_t size = strlen(dir->path) + strlen(name) + 2;
    char *path = malloc(size);
    if (!path)
        abort();
    snprintf(path, size, "%s/%s", dir->path, name);
    return path;
}

void temp_dir_remove(struct temp_dir *dir)
{
    DIR *entries = opendir(dir->path);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = temp_dir_file(dir, entry->d_name);
        unlink(path);
        free(path);
    }
    if (entries)
        closedir(entries);
    rmdir(dir->path);
}
