/* Names of the Hugging Face Hub: repositories, revisions, files, commits, and what blobs are called. All of them come
 * from a user or from the network and become parts of paths and URLs, so that each has its rule here and nothing that
 * breaks it goes any further. Any thread. */
#ifndef TANDEM_HUB_NAME_H
#define TANDEM_HUB_NAME_H

#include "base/error.h"
#include "base/str.h"

#define HUB_REPO_MAX     96  /* bytes of "owner/name", as the Hub has it */
#define HUB_REVISION_MAX 200 /* branch, tag, refs/pr/1, commit */
#define HUB_FILE_MAX     512 /* path of a file in a repository */
#define HUB_FILE_PARTS   8   /* folders and name of it */
#define HUB_COMMIT_SIZE  40
#define HUB_ETAG_MAX     64 /* SHA-256, or SHA-1 of a git blob, in hexadecimal digits */

/* "owner/name": letters, digits, '-', '_' and '.'; each part begins and ends with a letter, a digit or '_'; no "--" and
 * "..", which the cache's folders use as separators; not ending in ".git". INVALID says which part is wrong. */
NODISCARD bool hub_repo_check(struct str repo, struct error *err);
/* Parts of letters, digits, '-', '_', '.' and '+', separated by '/'; no part is empty or begins with '.'; no
 * "..", as in git. */
NODISCARD bool hub_revision_check(struct str revision, struct error *err);
/* A path of a repository, relative and below it: parts separated by '/', none empty, "." or "..", valid UTF-8 without
 * control characters, '\\' and ':'. */
NODISCARD bool hub_file_check(struct str path, struct error *err);
bool hub_is_commit(struct str s); /* 40 hexadecimal digits, small letters */
bool hub_is_etag(struct str s);   /* 40 or 64 of them */

#endif
