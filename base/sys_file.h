/* Files: read-only mappings, whole-file reads, paths. */
#ifndef TANDEM_BASE_SYS_FILE_H
#define TANDEM_BASE_SYS_FILE_H

#include "base/buf.h"

struct mapped_file {
    const uint8_t *data; /* [size], read-only, shared with the page cache; NULL when size is 0 */
    size_t size;
};

/* Maps a regular file. IO or NOT_FOUND names the path and the system's reason. */
NODISCARD bool mapped_file_open(const char *path, struct mapped_file *out, struct error *err);
void mapped_file_close(struct mapped_file *f);                                      /* fine on a zeroed struct */
void mapped_file_drop(const struct mapped_file *f, size_t offset, size_t size);     /* pages are no longer needed */
void mapped_file_prefetch(const struct mapped_file *f, size_t offset, size_t size); /* read ahead */

NODISCARD bool file_read(const char *path, size_t max_size, struct buf *out,
                         struct error *err); /* out initialised by it, empty on failure */
NODISCARD bool file_write_atomic(const char *path, struct str content,
                                 struct error *err); /* temporary file, then rename */
bool file_exists(const char *path);
bool dir_exists(const char *path);
NODISCARD bool dir_make(const char *path, struct error *err); /* with parents; fine when it exists */
bool sys_cache_dir(char *out,
                   size_t size); /* "$XDG_CACHE_HOME/tandem", "$HOME/.cache/tandem" or "~/Library/Caches/tandem" */
bool sys_self_path(char *out, size_t size); /* path of the running program */

#endif
