/* Figures of repeated measurements, and lists of numbers on the command line. Any thread. */
#ifndef TANDEM_CLI_BENCH_STATS_H
#define TANDEM_CLI_BENCH_STATS_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>

struct bench_stats {
    double min, median, max;
};

/* Sorts the samples, [n], n at least 1. An even number has the mean of its two middle ones as its median. */
struct bench_stats bench_stats_of(double *samples, size_t n);

/* The smallest of the sorted samples, [n], that at least `percent` of them do not exceed (nearest rank). */
double bench_percentile(const double *sorted, size_t n, double percent);

#define BENCH_MAX_LIST 16

struct bench_list {
    int items[BENCH_MAX_LIST];
    int n;
};

struct bench_range {
    const char *option; /* "--threads", for messages */
    int min, max;
};

/* Numbers separated by commas: "1,4,16"; at least one, in the order given. INVALID names the option, the range and what
 * is no such number. */
NODISCARD bool bench_list_parse(const char *text, const struct bench_range *range, struct bench_list *out,
                                struct error *err);
int bench_list_max(const struct bench_list *list);

/* Whether `name` begins with the word, letter case aside. */
bool bench_word_matches(struct str word, const char *name);
/* Whether `name` begins with one of the words, separated by commas, letter case aside. NULL: every name is. */
bool bench_words_match(const char *words, const char *name);

#endif
