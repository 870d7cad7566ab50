/* What a user may call a model by:
 *
 *     model.gguf, ./folder, /models/x       a path: it begins with '/', '.' or '~', ends in .gguf, or has two '/'
 *     owner/name                            a repository of the Hugging Face Hub
 *     owner/name@v1.0                       at a branch, tag or commit
 *     owner/name:Q4_K_M, owner/name:4bit    of its files those of a precision
 *     owner/name@v1.0:model-q4.gguf         a file
 *     smollm2:135m, mine                    a name, which the local registry or the models folder knows
 *
 * Text alone decides; whether there is such a thing is not asked here. Any thread. */
#ifndef TANDEM_HUB_REFERENCE_H
#define TANDEM_HUB_REFERENCE_H

#include "hub/name.h"

#define HUB_PRECISION_MAX 32  /* bytes of "Q4_K_M" */
#define HUB_SHORT_MAX     128 /* of "name:tag" */
#define HUB_REFERENCE_MAX (HUB_REPO_MAX + HUB_REVISION_MAX + HUB_FILE_MAX + 3)

enum hub_reference_kind { HUB_PATH, HUB_REPO, HUB_NAME };

struct hub_reference {
    enum hub_reference_kind kind;
    /* of HUB_REPO */
    char repo[HUB_REPO_MAX + 1];
    char revision[HUB_REVISION_MAX + 1]; /* "" when none is given: main */
    char file[HUB_FILE_MAX + 1];         /* "" or one that ends in .gguf */
    char precision[HUB_PRECISION_MAX + 1];
};

#define HUB_MAIN_REVISION "main"

/* INVALID says which part of the text is wrong. A path or a name is not kept: it is the text itself. */
NODISCARD bool hub_reference_parse(const char *text, struct hub_reference *out, struct error *err);
const char *hub_reference_revision(const struct hub_reference *r); /* "main" when none is given */

/* A name or name:tag: letters, digits, '-', '_' and '.', at most HUB_SHORT_MAX bytes. */
NODISCARD bool hub_short_check(const char *name, struct error *err);

#endif
