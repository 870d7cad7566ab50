/* Memory of weights. Single weights are too small for large pages, and there is no telling how many there will be: they
 * share chunks. */
#include "backend/cpu/cpu_internal.h"

#include "base/limits.h"
#include "base/sys_memory.h"

#include <stdlib.h>

#define CHUNK_SIZE MIB(32) /* what its last weights leave free is never touched, so it costs nothing */

static struct weight_chunk *add_chunk(struct cpu_backend *be, size_t size)
{
    struct weight_chunk *c = calloc(1, sizeof(*c));
    size = size < CHUNK_SIZE ? CHUNK_SIZE : (size + SYS_LARGE_PAGE - 1) / SYS_LARGE_PAGE * SYS_LARGE_PAGE;
    uint8_t *data = c ? aligned_alloc(SYS_LARGE_PAGE, size) : NULL;
    if (!data) {
        free(c);
        return NULL;
    }
    sys_prefer_large_pages(data, size);
    *c = (struct weight_chunk){.next = be->chunks, .data = data, .size = size};
    be->chunks = c;
    return c;
}

void *cpu__weight_alloc(struct cpu_backend *be, size_t size, struct weight_chunk **chunk)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    struct weight_chunk *c = be->chunks; /* the newest alone: what an older one has left is too small */
    if (!c || c->size - c->used < size)
        c = add_chunk(be, size);
    if (!c)
        return NULL;
    uint8_t *p = c->data + c->used;
    c->used += size;
    c->n_weights++;
    *chunk = c;
    return p;
}

void cpu__weight_release(struct cpu_backend *be, struct weight_chunk *chunk)
{
    if (!chunk || --chunk->n_weights > 0)
        return;
    struct weight_chunk **link = &be->chunks;
    while (*link != chunk)
        link = &(*link)->next;
    *link = chunk->next;
    free(chunk->data);
    free(chunk);
}
