#include "api/volatile_lines.h"

#include "base/array.h"

static bool is_volatile(struct str text)
{
    static const char *const prefixes[] = {
#define X(text) text,
        VOLATILE_LINES(X)
#undef X
    };
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct str prefix = str_of(prefixes[i]);
        if (str_eq_nocase(str_slice(text, 0, prefix.len), prefix)) {
            return true;
        }
    }
    return false;
}

size_t volatile_lines_at(struct str text, uint64_t *n)
{
    struct str rest = text, line;
    while (is_volatile(rest) && str_split(&rest, '\n', &line)) {
        ++*n;
    }
    return text.len - rest.len;
}
