/* Byte trie over token pieces: longest or all matches at a position. Const after creation; children of a node lie side
 * by side, sorted by byte. */
#ifndef TANDEM_TEXT_TRIE_H
#define TANDEM_TEXT_TRIE_H

#include "base/arena.h"

struct trie_item {
    struct str text; /* not empty */
    int32_t id;      /* >= 0 */
};

struct trie_node {
    uint32_t first_child;
    uint16_t n_children;
    uint8_t byte; /* of the edge that leads here */
    int32_t id;   /* the item that ends here, or -1 */
};

struct trie {
    const struct trie_node *nodes; /* [n_nodes], root first; NULL when empty */
    size_t n_nodes;
    uint32_t root_child[256]; /* node, or 0 */
};

/* Sorts items in place. Two items of one text: the first id in the sorted order counts. Memory from the arena. */
NODISCARD bool trie_init(struct trie *t, struct trie_item *items, size_t n, struct arena *arena, struct error *err);

#define TRIE_NONE 0u

/* The node one byte below `node` (0 is the root), or TRIE_NONE. */
static inline uint32_t trie_step(const struct trie *t, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return t->root_child[byte];
    const struct trie_node *n = &t->nodes[node];
    uint32_t low = n->first_child, high = n->first_child + n->n_children;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (t->nodes[mid].byte < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n->first_child + n->n_children && t->nodes[low].byte == byte ? low : TRIE_NONE;
}

/* Length of the longest item that text starts with at `at`, and its id; 0 when none. */
size_t trie_longest(const struct trie *t, struct str text, size_t at, int32_t *id);

#endif
