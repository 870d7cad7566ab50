#include "text/trie.h"

#include "base/array.h"

#include <stdlib.h>

static int by_text(const void *a, const void *b)
{
    const struct trie_item *x = a, *y = b;
    int order = str_cmp(x->text, y->text);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* While building, node k stands for the sorted items [low, high) that share its path of `depth` bytes. */
struct range {
    uint32_t low, high, depth;
};

static bool count_nodes(const struct trie_item *items, size_t n, size_t *n_nodes, struct error *err)
{
    size_t total = 1;
    for (size_t i = 0; i < n; i++) { /* the bytes of an item beyond what it shares with the one before it */
        size_t shared = 0;
        struct str before = i ? items[i - 1].text : (struct str){NULL, 0};
        while (shared < before.len && shared < items[i].text.len && before.ptr[shared] == items[i].text.ptr[shared])
            shared++;
        total += items[i].text.len - shared;
    }
    if (total >= UINT32_MAX)
        return error_set(err, ERR_FORMAT, "the vocabulary's pieces are too long: %zu bytes", total);
    *n_nodes = total;
    return true;
}

/* Appends the children of node k, breadth first. */
static void expand(struct trie_node *nodes, struct range *ranges, size_t *n_nodes, uint32_t k,
                   const struct trie_item *items)
{
    struct range r = ranges[k];
    while (r.low < r.high && items[r.low].text.len == r.depth) { /* items that end here */
        if (nodes[k].id < 0)
            nodes[k].id = items[r.low].id;
        r.low++;
    }
    nodes[k].first_child = (uint32_t)*n_nodes;
    while (r.low < r.high) {
        uint8_t byte = (uint8_t)items[r.low].text.ptr[r.depth];
        uint32_t high = r.low + 1;
        while (high < r.high && (uint8_t)items[high].text.ptr[r.depth] == byte)
            high++;
        nodes[*n_nodes] = (struct trie_node){.byte = byte, .id = -1};
        ranges[*n_nodes] = (struct range){r.low, high, r.depth + 1};
        ++*n_nodes;
        nodes[k].n_children++;
        r.low = high;
    }
}

bool trie_init(struct trie *t, struct trie_item *items, size_t n, struct arena *arena, struct error *err)
{
    *t = (struct trie){0};
    if (!n)
        return true;
    size_t n_nodes = 0;
    qsort(items, n, sizeof *items, by_text);
    if (!count_nodes(items, n, &n_nodes, err))
        return false;
    struct trie_node *nodes = arena_alloc_array(arena, n_nodes, sizeof *nodes);
    struct range *ranges = calloc(n_nodes, sizeof *ranges);
    if (!nodes || !ranges) {
        free(ranges);
        return arena_full(arena, "tokenizer", err);
    }
    nodes[0].id = -1;
    ranges[0] = (struct range){0, (uint32_t)n, 0};
    size_t filled = 1;
    for (uint32_t k = 0; k < filled; k++)
        expand(nodes, ranges, &filled, k, items);
    for (uint32_t c = 0; c < nodes[0].n_children; c++)
        t->root_child[nodes[nodes[0].first_child + c].byte] = nodes[0].first_child + c;
    t->nodes = nodes;
    t->n_nodes = filled;
    free(ranges);
    return true;
}

size_t trie_longest(const struct trie *t, struct str text, size_t at, int32_t *id)
{
    size_t longest = 0;
    uint32_t node = 0;
    for (size_t i = at; i < text.len; i++) {
        node = trie_step(t, node, (uint8_t)text.ptr[i]);
        if (node == TRIE_NONE)
            break;
        if (t->nodes[node].id >= 0) {
            longest = i + 1 - at;
            *id = t->nodes[node].id;
        }
    }
    return longest;
}
