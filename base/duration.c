#include "base/duration.h"

static const struct {
    struct str name;
    double ms;
} units[] = {{{"ms", 2}, 1}, {{"s", 1}, 1000}, {{"m", 1}, 60000}, {{"h", 1}, 3600000}}; /* "ms" before "m" */

static size_t number_len(struct str text)
{
    size_t n = 0;
    while (n < text.len && ((text.ptr[n] >= '0' && text.ptr[n] <= '9') || text.ptr[n] == '.')) {
        n++;
    }
    return n;
}

/* One "1.5h" at the begin of *text, which goes on behind it. */
static bool take_part(struct str *text, double *ms)
{
    size_t n = number_len(*text);
    double value;
    if (n == 0 || !str_to_f64(str_slice(*text, 0, n), &value)) {
        return false;
    }
    struct str rest = str_slice(*text, n, text->len);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (str_starts(rest, units[i].name)) {
            *ms += value * units[i].ms;
            *text = str_slice(rest, units[i].name.len, rest.len);
            return true;
        }
    }
    return false;
}

bool duration_parse(struct str text, int64_t *ms)
{
    double sum = 0;
    bool negative = str_starts(text, STR("-"));
    text = str_slice(text, negative ? 1 : 0, text.len);
    if (text.len && number_len(text) == text.len) {
        if (!str_to_f64(text, &sum)) {
            return false;
        }
        sum *= 1000;
    } else if (text.len == 0) {
        return false;
    } else {
        while (text.len) {
            if (!take_part(&text, &sum)) {
                return false;
            }
        }
    }
    int64_t whole = sum < (double)DURATION_MAX_MS ? (int64_t)sum : DURATION_MAX_MS;
    *ms = negative && sum > 0 ? -1 : whole;
    return true;
}
