/* A folder of its own for one test, below $TMPDIR or /tmp. Flat: files only. Failures end the test. */
#ifndef TANDEM_TESTS_SUPPORT_TEMP_DIR_H
#define TANDEM_TESTS_SUPPORT_TEMP_DIR_H

struct temp_dir {
    char path[256];
};

void temp_dir_make(struct temp_dir *dir);
void temp_dir_remove(struct temp_dir *dir); /* with the files in it */

/* "PATH/name"; free(). */
char *temp_dir_file(const struct temp_dir *dir, const char *name);

#endif
