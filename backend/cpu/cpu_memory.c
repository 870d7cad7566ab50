/* Memory of a step, tensors, scratch. */
#include "backend/cpu/cpu_internal.h"

#include "base/array.h"
#include "base/limits.h"

#include <stdlib.h>

#define STEP_BLOCK_MIN MIB(1)

static size_t align_up(size_t n)
{
    return (n + CPU_ALIGN - 1) & ~(size_t)(CPU_ALIGN - 1);
}

static size_t memory_size(const struct step_memory *m)
{
    if (m->n_blocks == 0)
        return 0;
    const struct step_block *last = &m->blocks[m->n_blocks - 1];
    return last->start + last->size;
}

/* Appends a block that doubles the memory and has room for size bytes. */
static bool add_block(struct step_memory *m, size_t size)
{
    size_t total = memory_size(m);
    size_t block_size = size > total ? size : total;
    block_size = block_size > STEP_BLOCK_MIN ? block_size : STEP_BLOCK_MIN;
    if (m->n_blocks == STEP_MEMORY_MAX_BLOCKS)
        return false;
    uint8_t *data = aligned_alloc(CPU_ALIGN, block_size);
    if (!data)
        return false;
    m->blocks[m->n_blocks++] = (struct step_block){data, block_size, total};
    return true;
}

/* The block whose room begins at or before `used`, walking over those too small for size. NULL: none has room. */
static struct step_block *find_block(struct step_memory *m, size_t size)
{
    for (int i = 0; i < m->n_blocks; i++) {
        struct step_block *b = &m->blocks[i];
        size_t from = m->used > b->start ? m->used : b->start;
        if (from <= b->start + b->size && size <= b->start + b->size - from) {
            m->used = from;
            return b;
        }
    }
    return NULL;
}

static void *memory_alloc(struct step_memory *m, size_t size)
{
    if (size > SIZE_MAX / 4)
        return NULL;
    size = align_up(size ? size : 1);
    struct step_block *b = find_block(m, size);
    if (!b) {
        if (!add_block(m, size))
            return NULL;
        b = find_block(m, size);
    }
    uint8_t *p = b->data + (m->used - b->start);
    m->used += size;
    return p;
}

void step_memory_release(struct step_memory *m)
{
    for (int i = 0; i < m->n_blocks; i++)
        free(m->blocks[i].data);
    m->n_blocks = 0;
    m->used = 0;
}

/* A step that needed several blocks is followed by one that finds all of them in one. */
void step_memory_reset(struct step_memory *m)
{
    size_t total = memory_size(m);
    m->used = 0;
    if (m->n_blocks <= 1)
        return;
    step_memory_release(m);
    if (!add_block(m, total))
        m->n_blocks = 0; /* blocks are made again as they are needed */
}

void *cpu__fail(struct cpu_backend *be, enum error_code code, const char *what)
{
    if (!be->failed)
        error_set(&be->error, code, "%s", what);
    be->failed = true;
    return NULL;
}

static void *no_memory(struct cpu_backend *be)
{
    return cpu__fail(be, ERR_NO_MEMORY, "There is no memory for the values of this step.");
}

void *cpu__alloc(struct cpu_backend *be, size_t size)
{
    void *p = memory_alloc(&be->memory, size);
    return p ? p : no_memory(be);
}

void *cpu__alloc_ids(struct cpu_backend *be, size_t size)
{
    void *p = memory_alloc(&be->ids_memory[be->step & 1], size);
    return p ? p : no_memory(be);
}

struct tensor *cpu__tensor(struct cpu_backend *be, int n_rows, int n_cols)
{
    struct tensor *t = cpu__alloc(be, sizeof(*t));
    if (!t)
        return NULL;
    *t = (struct tensor){.n_rows = n_rows, .n_cols = n_cols};
    t->f32 = cpu__alloc(be, (size_t)n_rows * (size_t)n_cols * sizeof(float));
    t->mark = be->memory.used;
    return t->f32 ? t : NULL;
}

bool cpu__scratch(struct cpu_backend *be, size_t size)
{
    size = align_up(size);
    if (size <= be->scratch_size)
        return true;
    uint8_t *scratch = aligned_alloc(CPU_ALIGN, size * (size_t)be->n_threads);
    if (!scratch) {
        no_memory(be);
        return false;
    }
    free(be->scratch);
    be->scratch = scratch;
    be->scratch_size = size;
    return true;
}

size_t cpu__scratch_size(const struct backend *base)
{
    const struct cpu_backend *be = (const struct cpu_backend *)base;
    size_t size = memory_size(&be->memory) + be->scratch_size * (size_t)be->n_threads;
    for (size_t i = 0; i < ARRAY_LEN(be->ids_memory); i++)
        size += memory_size(&be->ids_memory[i]);
    for (int i = 0; i < be->n_ropes; i++)
        size += be->ropes[i].cap * sizeof(float);
    return size;
}
