/* Feeds every file of the folders given to a fuzz target, so that the committed corpus runs with every test run, without libFuzzer. */
#include "base/sys_file.h"

#include <dirent.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_folder(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[4096];
        struct buf content = {0};
        struct error err = {0};
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (file_exists(path) && file_read(path, (size_t)64 << 20, &content, &err)) {
            LLVMFuzzerTestOneInput((const uint8_t *)(content.data ? content.data : ""), content.len);
            n++;
        }
        buf_release(&content);
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        printf("%s: %d inputs replayed\n", argv[i], replay_folder(argv[i]));
    }
    return 0;
}
