/* Rows of calls of MCP tools, as the journal has them, one to a line: what is read of them ends at the first that is
 * none, is whole only if nothing is missing, and lies in the arena alone. */
#include "api/kept/kept_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS_MAX 16

static size_t split(struct str text, struct journal_tokens *rows)
{
    size_t n = 0;
    while (text.len && n < ROWS_MAX) {
        size_t end = 0;
        while (end < text.len && text.ptr[end] != '\n') {
            end++;
        }
        rows[n] = (struct journal_tokens){
            .choice = JOURNAL_CALLS, .first = (uint32_t)n, .n = 1, .data = str_slice(text, 0, end)};
        n++;
        text = str_slice(text, end < text.len ? end + 1 : end, text.len);
    }
    return n;
}

static void check_calls(const struct gen_saved_calls *calls, struct buf *all)
{
    for (size_t i = 0; i < calls->n; i++) {
        const struct gen_saved_call *c = &calls->items[i];
        if (!c->answered && c->text.len) {
            abort();
        }
        buf_append(all, c->tool); /* all of it can be read */
        buf_append(all, c->arguments);
        buf_append(all, c->text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_tokens rows[ROWS_MAX];
    struct gen_saved_calls calls;
    bool whole = false;
    char *own = malloc(size + 1);
    struct arena *arena = arena_create(MIB(64));
    if (own && arena) {
        memcpy(own, size ? (const char *)data : "", size);
        size_t n = split((struct str){own, size}, rows);
        bool room = kept__read_calls(arena, rows, n, &calls, &whole);
        free(own); /* nothing points into the rows */
        own = NULL;
        if (room) {
            struct buf all;
            buf_init(&all, MIB(64));
            check_calls(&calls, &all);
            buf_release(&all);
        }
        if (room && (calls.n > n || (whole && calls.n != n))) {
            abort();
        }
    }
    free(own);
    arena_free(arena);
    return 0;
}
