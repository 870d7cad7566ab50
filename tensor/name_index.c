#include "tensor/name_index.h"

#include "base/hash.h"
#include "base/rng.h"

bool name_index_init(struct name_index *index, struct arena *arena, size_t n)
{
    size_t n_slots = 16;
    while (n_slots / 2 < n && n_slots <= SIZE_MAX / 4)
        n_slots *= 2;
    index->slots = arena_alloc_array(arena, n_slots, sizeof(*index->slots));
    index->mask = n_slots - 1;
    index->seed = rng_entropy64();
    return index->slots != NULL;
}

/* The slot that holds the name, or the free one where it belongs. */
static struct name_slot *slot_of(const struct name_index *index, struct str name)
{
    size_t i = (size_t)xxh3(name.ptr, name.len, index->seed) & index->mask;
    while (index->slots[i].name.ptr && !str_eq(index->slots[i].name, name))
        i = (i + 1) & index->mask;
    return &index->slots[i];
}

bool name_index_add(struct name_index *index, struct str name, size_t value)
{
    struct name_slot *slot = slot_of(index, name);
    if (slot->name.ptr)
        return false;
    *slot = (struct name_slot){name, value};
    return true;
}

bool name_index_find(const struct name_index *index, struct str name, size_t *value)
{
    const struct name_slot *slot = slot_of(index, name);
    if (!slot->name.ptr)
        return false;
    *value = slot->value;
    return true;
}
