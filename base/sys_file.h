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
/* The whole of size bytes at offset, whatever signals come between. False: errno says why; ENODATA: the file ends
 * before them. */
NODISCARD bool file_read_at(int fd, uint64_t offset, void *out, size_t size);
NODISCARD bool file_write_at(int fd, uint64_t offset, const void *data, size_t size);
NODISCARD bool file_cut(int fd, uint64_t size); /* or lengthens it, without taking room; errno */

/* An exclusive lock on an open file, held until it is closed or the process ends, however that happens. */
enum file_lock { FILE_LOCKED, FILE_BUSY /* somebody else has it */, FILE_NO_LOCKS /* errno says why */ };
enum file_lock file_lock(int fd); /* never waits */
void file_unlock(int fd);

struct file_space { /* of the file system that holds an open file, in bytes */
    uint64_t total, available;
};
bool file_space(int fd, struct file_space *out);            /* false: it does not say */
void file_prefetch(int fd, uint64_t offset, uint64_t size); /* advice: these bytes will be read soon */
/* Makes a file of `from` bytes `size` bytes long and, where the file system can, sets blocks aside for what is new, so
 * that writing there does not run out of space. False: errno says why (ENOSPC). */
NODISCARD bool file_reserve(int fd, uint64_t from, uint64_t size);

bool sys_cache_dir(char *out,
                   size_t size); /* "$XDG_CACHE_HOME/tandem", "$HOME/.cache/tandem" or "~/Library/Caches/tandem" */
bool sys_config_dir(char *out, size_t size); /* "$XDG_CONFIG_HOME/tandem" or "$HOME/.config/tandem" */
bool sys_self_path(char *out, size_t size);  /* path of the running program */

#endif
