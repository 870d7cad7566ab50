/* Feeds every file of the folders given to a fuzz target, so that the committed corpus runs with every test run,
 * without libFuzzer. A folder that is empty or missing is said and is no failure. */
#include "base/sys_file.h"

#include <dirent.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX ((size_t)64 << 20)

static bool replay_file(const char *path)
{
    struct buf content;
    struct error err;
    if (!file_exists(path)) {
        return false;
    }
    if (!file_read(path, INPUT_MAX, &content, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return false;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)(content.data ? content.data : ""), content.len);
    buf_release(&content);
    return true;
}

static void replay_folder(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    if (!dir) {
        printf("%s: no such folder, nothing replayed\n", folder);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4096];
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < sizeof path) {
            n += replay_file(path);
        }
    }
    closedir(dir);
    printf("%s: %d inputs replayed\n", folder, n);
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        replay_folder(argv[i]);
    }
    return 0;
}
