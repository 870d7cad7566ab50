#include "cli/bench_report.h"

#include "base/arena.h"
#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXTS_MAX MIB(16)
#define FILE_MAX  MIB(256)

struct report {
    const struct report_column *columns; /* [n_columns] */
    int n_columns;
    struct report_files files;
    FILE *table;
    struct report_cell *cells; /* [n_rows, n_columns] */
    size_t n_rows, cap;        /* cap: in cells */
    struct arena *texts;
};

/* ---- the table ---- */

const char *report_number(double x, char *out, size_t size)
{
    double magnitude = fabs(x);
    if (isnan(x)) {
        snprintf(out, size, "-");
    } else if (x == floor(x) && magnitude < 1e15) {
        snprintf(out, size, "%.0f", x);
    } else {
        snprintf(out, size, "%.*f", magnitude < 10 ? 2 : magnitude < 100 ? 1 : 0, x);
    }
    return out;
}

static void print_padded(const struct report *r, const struct report_column *column, const char *text)
{
    if (column->width < 0) {
        fprintf(r->table, "%-*s ", -column->width, text);
    } else {
        fprintf(r->table, "%*s ", column->width, text);
    }
}

static void print_head(const struct report *r)
{
    for (int i = 0; i < r->n_columns; i++) {
        if (r->columns[i].title) {
            print_padded(r, &r->columns[i], r->columns[i].title);
        }
    }
    fputc('\n', r->table);
    fflush(r->table);
}

void report_show(struct report *r)
{
    const struct report_cell *row = r->cells + (r->n_rows - 1) * (size_t)r->n_columns;
    for (int i = 0; i < r->n_columns; i++) {
        char number[32];
        if (r->columns[i].title) {
            print_padded(r, &r->columns[i],
                         row[i].text ? row[i].text : report_number(row[i].number, number, sizeof number));
        }
    }
    fputc('\n', r->table);
    fflush(r->table);
}

void report_note(struct report *r, const char *text)
{
    fprintf(r->table, "%s\n", text);
    fflush(r->table);
}

/* ---- life and rows ---- */

static bool is_stdout(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

struct report *report_create(const struct report_column *columns, int n, const struct report_files *files,
                             struct error *err)
{
    struct report *r = calloc(1, sizeof *r);
    struct arena *texts = arena_create(TEXTS_MAX);
    if (!r || !texts) {
        free(r);
        arena_free(texts);
        error_set(err, ERR_NO_MEMORY, "There is no memory for a report.");
        return NULL;
    }
    *r = (struct report){.columns = columns, .n_columns = n, .files = *files, .texts = texts};
    r->table = is_stdout(files->json) || is_stdout(files->csv) ? stderr : stdout;
    print_head(r);
    return r;
}

void report_free(struct report *r)
{
    if (r) {
        free(r->cells);
        arena_free(r->texts);
        free(r);
    }
}

struct report_cell *report_row(struct report *r, struct error *err)
{
    size_t n = (size_t)r->n_columns, first = r->n_rows * n;
    if (!array_reserve(&r->cells, &r->cap, first + n, REPORT_MAX_ROWS * n, "values of a report", err)) {
        return NULL;
    }
    for (size_t i = first; i < first + n; i++) {
        r->cells[i] = (struct report_cell){.number = NAN};
    }
    r->n_rows++;
    return r->cells + first;
}

const struct report_cell *report_row_at(const struct report *r, int i)
{
    return (size_t)i < r->n_rows ? r->cells + (size_t)i * (size_t)r->n_columns : NULL;
}

const char *report_text(struct report *r, const char *text)
{
    return arena_strdup(r->texts, str_of(text));
}

/* ---- files ---- */

static void put_json_row(const struct report *r, const struct report_cell *row, struct json_writer *w)
{
    json_begin_object(w);
    for (int i = 0; i < r->n_columns; i++) {
        json_key(w, r->columns[i].key);
        if (row[i].text) {
            json_put_cstr(w, row[i].text);
        } else if (r->columns[i].whole && !isnan(row[i].number)) {
            json_put_int(w, (int64_t)row[i].number);
        } else {
            json_put_double(w, row[i].number);
        }
    }
    json_end_object(w);
}

static void make_json(const struct report *r, struct str head, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_put_raw(&w, head);
    json_key(&w, "rows");
    json_begin_array(&w);
    for (size_t i = 0; i < r->n_rows; i++) {
        put_json_row(r, r->cells + i * (size_t)r->n_columns, &w);
    }
    json_end_array(&w);
    json_end_object(&w);
    buf_putc(out, '\n');
}

/* RFC 4180: quoted where a comma or a quote is inside; texts have no line ends. */
static void put_csv_text(struct buf *out, const char *text)
{
    if (!strpbrk(text, ",\"")) {
        buf_puts(out, text);
        return;
    }
    buf_putc(out, '"');
    for (const char *c = text; *c; c++) {
        buf_puts(out, *c == '"' ? "\"\"" : (char[]){*c, '\0'});
    }
    buf_putc(out, '"');
}

static void make_csv(const struct report *r, struct buf *out)
{
    for (int i = 0; i < r->n_columns; i++) {
        buf_printf(out, "%s%s", i ? "," : "", r->columns[i].key);
    }
    buf_puts(out, "\r\n");
    for (size_t k = 0; k < r->n_rows * (size_t)r->n_columns; k++) {
        const struct report_cell *cell = &r->cells[k];
        bool first = k % (size_t)r->n_columns == 0, last = (k + 1) % (size_t)r->n_columns == 0;
        buf_puts(out, first ? "" : ",");
        if (cell->text) {
            put_csv_text(out, cell->text);
        } else if (!isnan(cell->number)) {
            buf_printf(out, "%.10g", cell->number);
        }
        buf_puts(out, last ? "\r\n" : "");
    }
}

static bool write_file(const char *path, const struct buf *content, struct error *err)
{
    if (!buf_ok(content, "the report", err)) {
        return false;
    }
    if (is_stdout(path)) {
        return fwrite(content->data, 1, content->len, stdout) == content->len ||
               error_set(err, ERR_IO, "The report could not be written to standard output.");
    }
    return file_write_atomic(path, buf_view(content), err);
}

bool report_write(const struct report *r, struct str head, struct error *err)
{
    struct buf text;
    bool ok = true;
    buf_init(&text, FILE_MAX);
    if (r->files.json) {
        make_json(r, head, &text);
        ok = write_file(r->files.json, &text, err);
    }
    if (ok && r->files.csv) {
        buf_clear(&text);
        make_csv(r, &text);
        ok = write_file(r->files.csv, &text, err);
    }
    buf_release(&text);
    return ok;
}
