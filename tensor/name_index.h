/* Hash index from names to numbers, filled once; for metadata keys and tensor names. The hash is seeded per index, so a
 * file cannot be made to collide. Reading is thread-safe. */
#ifndef TANDEM_TENSOR_NAME_INDEX_H
#define TANDEM_TENSOR_NAME_INDEX_H

#include "base/arena.h"

struct name_slot {
    struct str name; /* not copied; ptr NULL: free */
    size_t value;
};

struct name_index {
    struct name_slot *slots; /* [mask + 1], open addressing, at most half full */
    size_t mask;
    uint64_t seed;
};

/* Room for n names, in the arena. False when the arena is full. */
NODISCARD bool name_index_init(struct name_index *index, struct arena *arena, size_t n);

/* False when the name is there already (the index is unchanged). At most n names; name.ptr may not be NULL. */
NODISCARD bool name_index_add(struct name_index *index, struct str name, size_t value);

bool name_index_find(const struct name_index *index, struct str name, size_t *value);

#endif
