#include "model/importance.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER   "tandem importance 1"
#define FILE_MAX GIB(1)

struct entry {
    double *sums; /* [k] of squares, or NULL */
    size_t k;
    double n; /* rows */
    float *means;
};

struct importance {
    int n_layers;
    struct entry entries[]; /* [(n_layers + 1) * PART_COUNT]; those outside layers come first */
};

static struct entry *entry_of(struct importance *m, enum model_part part, int layer)
{
    if (layer < -1 || layer >= m->n_layers || part <= PART_NONE || part >= PART_COUNT)
        return NULL;
    return &m->entries[(size_t)(layer + 1) * PART_COUNT + (size_t)part];
}

struct importance *importance_create(const struct decoder_config *c, struct error *err)
{
    size_t n = ((size_t)c->n_layers + 1) * PART_COUNT;
    struct importance *m = calloc(1, sizeof(*m) + n * sizeof(m->entries[0]));
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the importance of columns.");
        return NULL;
    }
    m->n_layers = c->n_layers;
    return m;
}

void importance_free(struct importance *m)
{
    size_t n = m ? ((size_t)m->n_layers + 1) * PART_COUNT : 0;
    for (size_t i = 0; i < n; i++) {
        free(m->entries[i].sums);
        free(m->entries[i].means);
    }
    free(m);
}

static bool has_room(struct entry *e, size_t k)
{
    if (e->sums)
        return e->k == k;
    e->sums = calloc(k ? k : 1, sizeof(*e->sums));
    e->means = calloc(k ? k : 1, sizeof(*e->means));
    e->k = k;
    return e->sums && e->means;
}

static void update_means(struct entry *e)
{
    for (size_t i = 0; i < e->k; i++) {
        double mean = e->n > 0 ? e->sums[i] / e->n : 0;
        e->means[i] = isfinite(mean) ? (float)mean : 0;
    }
}

bool importance_add(struct importance *m, enum model_part part, int layer, const float *x, size_t n_rows, size_t k)
{
    struct entry *e = entry_of(m, part, layer);
    if (!e || !has_room(e, k))
        return false;
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < k; i++)
            e->sums[i] += (double)x[r * k + i] * (double)x[r * k + i];
    }
    e->n += (double)n_rows;
    update_means(e);
    return true;
}

const float *importance_of(const struct importance *m, enum model_part part, int layer, size_t k)
{
    const struct entry *e = m ? entry_of((struct importance *)m, part, layer) : NULL;
    return e && e->sums && e->k == k && e->n > 0 ? e->means : NULL;
}

bool importance_suits(const struct importance *m, enum model_part part, int layer, size_t k)
{
    const struct entry *e = m ? entry_of((struct importance *)m, part, layer) : NULL;
    return !e || !e->sums || e->k == k;
}

/* ---- files ---- */

/* GGUF's name of a part, "attn_q.weight": unlike its number it stays what it is. NULL: it has none. */
static const char *part_name(enum model_part part)
{
    struct weight_names names = weight_names_for(decoder_family_at(0), false);
    const struct weight_row *row = weight_row(&names, part, 0);
    return row ? row->name : NULL;
}

static enum model_part part_named(struct str name)
{
    for (int p = PART_NONE + 1; p < PART_COUNT; p++) {
        const char *known = part_name((enum model_part)p);
        if (known && str_eq(name, str_of(known)))
            return (enum model_part)p;
    }
    return PART_NONE;
}

bool importance_write(const struct importance *m, const char *path, struct error *err)
{
    struct buf out;
    buf_init(&out, FILE_MAX);
    buf_puts(&out, HEADER "\n");
    for (int layer = -1; layer < m->n_layers; layer++) {
        for (int part = 0; part < PART_COUNT; part++) {
            const struct entry *e = entry_of((struct importance *)m, (enum model_part)part, layer);
            if (!e || !e->sums || !part_name((enum model_part)part))
                continue;
            buf_printf(&out, "%d %s %zu", layer, part_name((enum model_part)part), e->k);
            for (size_t i = 0; i < e->k; i++)
                buf_printf(&out, " %.9g", (double)e->means[i]);
            buf_putc(&out, '\n');
        }
    }
    bool ok = buf_ok(&out, "importance of columns", err) && file_write_atomic(path, buf_view(&out), err);
    buf_release(&out);
    return ok;
}

static bool read_word(struct str *line, double min, double max, double *out)
{
    struct str word;
    char text[32], *end;
    if (!str_split(line, ' ', &word) || word.len == 0 || word.len >= sizeof(text))
        return false;
    memcpy(text, word.ptr, word.len);
    text[word.len] = '\0';
    *out = strtod(text, &end);
    return *end == '\0' && *out >= min && *out <= max;
}

/* "LAYER PART K V V ..." */
static bool read_line(struct importance *m, struct str line, const char *where, struct error *err)
{
    double layer, k, v;
    struct entry *e = NULL;
    struct str part;
    bool ok = read_word(&line, -1, m->n_layers - 1, &layer) && str_split(&line, ' ', &part) &&
              read_word(&line, 1, 1 << 24, &k) &&
              (double)(line.len / 2) + 1 >= k; /* a number and a blank are two characters at least */
    if (ok)
        e = entry_of(m, part_named(part), (int)layer);
    ok = e && !e->sums;
    if (ok && !has_room(e, (size_t)k))
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the importance of %zu columns.", (size_t)k);
    for (size_t i = 0; ok && i < e->k; i++) {
        ok = read_word(&line, 0, 1e30, &v);
        if (ok)
            e->sums[i] = v;
    }
    if (!ok || line.len)
        return error_set(err, ERR_FORMAT, "%s: expected a layer, a part, a count and as many numbers.", where);
    e->n = 1;
    update_means(e);
    return true;
}

struct importance *importance_parse(struct str text, const char *name, const struct decoder_config *c,
                                    struct error *err)
{
    struct importance *m = importance_create(c, err);
    struct str rest = text, line;
    bool ok = m && str_split(&rest, '\n', &line) && str_eq(line, STR(HEADER));
    if (m && !ok)
        error_set(err, ERR_FORMAT, "'%.120s' does not begin with '" HEADER "'.", name);
    for (int n = 2; ok && rest.len && str_split(&rest, '\n', &line); n++) {
        char where[160];
        snprintf(where, sizeof(where), "'%.120s', line %d", name, n);
        ok = !line.len || read_line(m, line, where, err);
    }
    if (ok)
        return m;
    importance_free(m);
    return NULL;
}

struct importance *importance_read(const char *path, const struct decoder_config *c, struct error *err)
{
    struct buf text;
    if (!file_read(path, FILE_MAX, &text, err))
        return NULL;
    struct importance *m = importance_parse(buf_view(&text), path, c, err);
    buf_release(&text);
    return m;
}
