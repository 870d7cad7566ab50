/* What a benchmark found: rows of named values, shown as a table while they come, and written as JSON and CSV in the
 * end. The columns are one constant table of the benchmark's. One thread.
 *
 *     struct report *r = report_create(columns, COLUMN_COUNT, &files, err);
 *     report_cell *row = report_row(r);               all values absent
 *     row[COLUMN_TEST].text = "prefill";
 *     row[COLUMN_RATE].number = 166.2;
 *     report_show(r);                                 prints the row
 *     report_write(r, head, err);
 */
#ifndef TANDEM_CLI_BENCH_REPORT_H
#define TANDEM_CLI_BENCH_REPORT_H

#include "base/json.h"

struct report_column {
    const char *key;   /* in JSON and CSV */
    const char *title; /* in the table; NULL: not there */
    int width;         /* of the table's column; negative: left-aligned text */
    bool whole;        /* numbers are integers: written as such in JSON */
};

struct report_cell {
    const char *text; /* static storage, or as long as the report lives; NULL: a number */
    double number;    /* NaN: absent */
};

/* Where the rows go besides the table: a path, "-" for standard output (the table is then printed to standard error),
 * NULL: nowhere. */
struct report_files {
    const char *json, *csv;
};

#define REPORT_MAX_ROWS 100000

struct report;

/* columns: [n], static. Prints the table's head. NULL: memory failed. */
NODISCARD struct report *report_create(const struct report_column *columns, int n, const struct report_files *files,
                                       struct error *err);
void report_free(struct report *r); /* NULL is fine */

/* A new last row of absent values, valid until the next. NULL: *err says that there are too many. */
NODISCARD struct report_cell *report_row(struct report *r, struct error *err);
void report_show(struct report *r);                                     /* prints the last row */
void report_note(struct report *r, const char *text);                   /* a line of its own in the table */
const struct report_cell *report_row_at(const struct report *r, int i); /* NULL behind the last */

/* A copy of the text that lives as long as the report; NULL: memory failed. */
const char *report_text(struct report *r, const char *text);

/* head: members of the JSON object beside "rows", `"cpu":"...",...` without braces. IO names the file. */
NODISCARD bool report_write(const struct report *r, struct str head, struct error *err);

/* A number to some three digits, "-" for NaN. Returns out. */
const char *report_number(double x, char *out, size_t size);

#endif
