/* The local registry: short names of this user's own for models, in a JSON file.
 *
 *     {"aliases": {"fast": "Qwen/Qwen3-0.6B-GGUF:Q8_0", "mine": "/models/mine.gguf"}}
 *
 * An alias leads to a path or a repository, or to a name that the models folder knows; never to another alias. The file
 * is $TANDEM_REGISTRY, or models.json in the configuration folder ($XDG_CONFIG_HOME/tandem). Every change writes it
 * anew, in one step; two programs that change it at the same moment may lose one of the changes. Any thread. */
#ifndef TANDEM_HUB_REGISTRY_H
#define TANDEM_HUB_REGISTRY_H

#include "base/arena.h"
#include "hub/reference.h"

struct hub_alias {
    const char *name, *reference;
};

struct hub_registry {
    struct hub_alias *aliases; /* [n] in the file's order */
    size_t n;
};

/* NOT_FOUND: there is no home folder. */
NODISCARD bool hub_registry_path(char *out, size_t size, struct error *err);

/* Strings live in the arena. INVALID names the line. */
NODISCARD bool hub_registry_parse(struct str text, struct arena *arena, struct hub_registry *out, struct error *err);
/* A file that is not there is an empty registry. */
NODISCARD bool hub_registry_read(const char *path, struct arena *arena, struct hub_registry *out, struct error *err);
const char *hub_registry_find(const struct hub_registry *r, const char *name); /* its reference, or NULL */

/* A new alias, or a new reference of one; false also when name or reference break the rules of hub/reference.h. */
NODISCARD bool hub_registry_set(const char *path, const char *name, const char *reference, struct error *err);
NODISCARD bool hub_registry_remove(const char *path, const char *name,
                                   struct error *err); /* NOT_FOUND: there is none */

#endif
