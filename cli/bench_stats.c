#include "cli/bench_stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_stats bench_stats_of(double *samples, size_t n)
{
    qsort(samples, n, sizeof *samples, compare);
    return (struct bench_stats){
        .min = samples[0], .median = (samples[(n - 1) / 2] + samples[n / 2]) / 2, .max = samples[n - 1]};
}

double bench_percentile(const double *sorted, size_t n, double percent)
{
    double rank = ceil(percent / 100 * (double)n);
    size_t i = rank < 1 ? 0 : (size_t)rank - 1;
    return sorted[i < n ? i : n - 1];
}

bool bench_list_parse(const char *text, const struct bench_range *range, struct bench_list *out, struct error *err)
{
    struct str rest = str_of(text), word;
    out->n = 0;
    while (str_split(&rest, ',', &word)) {
        int64_t value;
        if (!str_to_i64(word, &value) || value < range->min || value > range->max) {
            return error_set(err, ERR_INVALID,
                             "%s: expected integers from %d to %d separated by commas, but got '" STR_FMT "'.",
                             range->option, range->min, range->max, STR_ARG(str_slice(word, 0, 60)));
        }
        if (out->n == BENCH_MAX_LIST) {
            return error_set(err, ERR_INVALID, "%s: at most %d numbers are possible.", range->option, BENCH_MAX_LIST);
        }
        out->items[out->n++] = (int)value;
    }
    return out->n > 0 || error_set(err, ERR_INVALID, "%s: expected at least one integer from %d to %d.", range->option,
                                   range->min, range->max);
}

int bench_list_max(const struct bench_list *list)
{
    int max = list->items[0];
    for (int i = 1; i < list->n; i++) {
        max = list->items[i] > max ? list->items[i] : max;
    }
    return max;
}

bool bench_word_matches(struct str word, const char *name)
{
    return str_eq_nocase(word, str_slice(str_of(name), 0, word.len));
}

bool bench_words_match(const char *words, const char *name)
{
    struct str rest = str_of(words), word;
    while (words && str_split(&rest, ',', &word)) {
        if (bench_word_matches(word, name)) {
            return true;
        }
    }
    return !words;
}
