#include "mcp/revision.h"

#include "base/array.h"

static const struct mcp_revision revisions[] = {
    {.name = "2026-07-28", .modern = true, .header = true},
    {.name = "2025-11-25", .header = true},
    {.name = "2025-06-18", .header = true},
    {.name = "2025-03-26", .batches = true},
    {.name = "2024-11-05"},
};

size_t mcp_revision_count(void)
{
    return ARRAY_LEN(revisions);
}

const struct mcp_revision *mcp_revision_at(size_t i)
{
    return &revisions[i];
}

const struct mcp_revision *mcp_revision_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(revisions); i++) {
        if (str_eq(name, str_of(revisions[i].name))) {
            return &revisions[i];
        }
    }
    return NULL;
}

const struct mcp_revision *mcp_revision_newest(bool modern)
{
    size_t i = 0;
    while (revisions[i].modern != modern) {
        i++;
    }
    return &revisions[i];
}
