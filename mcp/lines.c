#include "mcp/lines.h"

void lines_init(struct lines *l, size_t max)
{
    *l = (struct lines){0};
    buf_init(&l->line, max);
}

void lines_release(struct lines *l)
{
    buf_release(&l->line);
}

static struct str without_cr(struct str s)
{
    return str_slice(s, 0, s.len - (s.len && s.ptr[s.len - 1] == '\r'));
}

/* Moves bytes up to the line's end; true: the end was there. */
static bool take(struct lines *l, struct str *input)
{
    size_t n = str_find_char(*input, '\n');
    bool complete = n != STR_NPOS;
    if (!l->skips) {
        buf_append(&l->line, str_slice(*input, 0, n));
    }
    *input = str_slice(*input, complete ? n + 1 : input->len, input->len);
    return complete;
}

enum lines_read lines_next(struct lines *l, struct str *input, struct str *line)
{
    if (l->given) {
        buf_clear(&l->line);
        l->given = false;
    }
    while (input->len) {
        bool complete = take(l, input), no_memory = l->line.no_memory;
        if (l->line.failed) {
            buf_release(&l->line);
            l->skips = !complete;
            return no_memory ? LINES_NO_MEMORY : LINES_TOO_LONG;
        }
        if (complete && l->skips) {
            l->skips = false;
        } else if (complete && without_cr(buf_view(&l->line)).len) {
            *line = without_cr(buf_view(&l->line));
            l->given = true;
            return LINES_LINE;
        } else if (complete) {
            buf_clear(&l->line);
        }
    }
    return LINES_MORE;
}

struct str lines_rest(const struct lines *l)
{
    return l->given ? (struct str){NULL, 0} : buf_view(&l->line);
}
