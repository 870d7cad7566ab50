/* The table as text: Prometheus' format 0.0.4, and docs/METRICS.md. */
#include "gateway/metrics_internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

void metrics__label_value(struct buf *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '"' || *value == '\\' || *value == '\n') {
            buf_putc(out, '\\');
        }
        buf_putc(out, *value == '\n' ? 'n' : *value);
    }
}

static void head(struct buf *out, const char *name, enum metrics_kind kind, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind_names[kind]);
}

/* ---- one sample: name, labels, value ---- */

struct sample { /* what its labels are made of */
    const struct metrics_family *family;
    const struct model_metrics *model; /* NULL: without */
    const char *key, *server;          /* names of an API key, of an MCP server; NULL: none */
    const char *suffix, *value, *le;   /* of the name; of the family's label; a bucket's: NULL: none */
};

static void label(struct buf *out, bool *any, const char *name, const char *value)
{
    buf_putc(out, *any ? ',' : '{');
    buf_puts(out, name);
    buf_append(out, STR("=\""));
    metrics__label_value(out, value);
    buf_putc(out, '"');
    *any = true;
}

/* The sample up to its value. */
static void begin(struct buf *out, const struct sample *s)
{
    bool any = false;
    buf_puts(out, s->family->name);
    buf_puts(out, s->suffix ? s->suffix : "");
    if (s->model && s->family->labels == LABELS_VLLM) {
        label(out, &any, "engine", "0");
        label(out, &any, "model_name", s->model->name);
    } else if (s->model) {
        label(out, &any, "model", s->model->name);
    }
    if (s->key) {
        label(out, &any, "key", s->key);
    }
    if (s->server) {
        label(out, &any, "server", s->server);
    }
    if (s->value && s->family->label) {
        label(out, &any, s->family->label, s->value);
    }
    if (s->le) {
        label(out, &any, "le", s->le);
    }
    if (s->family->write_labels) {
        s->family->write_labels(out, s->model);
    }
    buf_puts(out, any ? "} " : " ");
}

static void put_count(struct buf *out, const struct sample *s, uint64_t value) /* every digit */
{
    begin(out, s);
    buf_put_uint(out, value);
    buf_putc(out, '\n');
}

static void put_double(struct buf *out, const struct sample *s, double value)
{
    begin(out, s);
    buf_printf(out, "%.15g\n", value);
}

/* ---- histograms ---- */

static void put_bucket(struct buf *out, struct sample s, double bound, uint64_t value)
{
    char le[32];
    snprintf(le, sizeof le, "%.10g", bound);
    s.suffix = "_bucket";
    s.le = le;
    put_count(out, &s, value);
}

static void put_end(struct buf *out, struct sample s, double sum, uint64_t count)
{
    s.suffix = "_bucket";
    s.le = "+Inf";
    put_count(out, &s, count);
    s.le = NULL;
    s.suffix = "_sum";
    put_double(out, &s, sum);
    s.suffix = "_count";
    put_count(out, &s, count);
}

static void put_histogram(struct buf *out, struct sample s, const struct histogram *h)
{
    uint64_t seen = 0;
    for (int i = 0; i < h->n; i++) {
        seen += h->counts[i];
        put_bucket(out, s, h->bounds[i], seen);
    }
    put_end(out, s, h->sum, seen + h->counts[h->n]);
}

/* Buckets of powers of two, counted by the engine; so is the sum of what they count. */
static void put_rows(struct buf *out, struct sample s)
{
    const struct metrics_member *members = s.family->members;
    struct metrics_field bucket = {.at = members[0].at};
    uint64_t seen = 0, sum = 0;
    for (int i = 0; i < ENGINE_ROWS_BUCKETS; i++, bucket.at += sizeof(uint64_t)) {
        seen += metrics__engine_value(s.model, &bucket);
        if (i + 1 < ENGINE_ROWS_BUCKETS) {
            put_bucket(out, s, 1 << i, seen);
        }
    }
    for (int i = 1; i < s.family->n_members; i++) {
        sum += metrics__engine_value(s.model, metrics__field(members[i].field));
    }
    put_end(out, s, (double)sum, seen);
}

/* ---- families ---- */

static uint64_t count_at(const void *base, size_t at)
{
    uint64_t value;
    memcpy(&value, (const char *)base + at, sizeof value);
    return value;
}

static void put_member(struct buf *out, struct sample s, const struct metrics_member *member, const void *base)
{
    const struct metrics_field *field = member->field ? metrics__field(member->field) : NULL;
    uint64_t count = field ? metrics__engine_value(s.model, field) : count_at(base, member->at);
    s.value = member->value;
    if (s.family->form == FORM_SECONDS) {
        put_double(out, &s, (double)count * 1e-9);
    } else {
        put_count(out, &s, count);
    }
}

static void put_family_of(struct buf *out, const struct metrics_family *f, const struct model_metrics *m,
                          const void *base)
{
    struct sample s = {.family = f, .model = m};
    double value;
    switch (f->form) {
    case FORM_COUNT:
    case FORM_SECONDS:
        for (int i = 0; i < f->n_members; i++) {
            put_member(out, s, &f->members[i], base);
        }
        break;
    case FORM_DOUBLE:
        memcpy(&value, (const char *)base + f->members[0].at, sizeof value);
        put_double(out, &s, value);
        break;
    case FORM_HISTOGRAM:
        put_histogram(out, s, &m->histograms[f->members[0].at]);
        break;
    case FORM_ROWS:
        put_rows(out, s);
        break;
    case FORM_INFO:
        put_count(out, &s, 1);
        break;
    }
}

/* Of fields that this build's engines do not count there is nothing to say. */
static bool is_counted(const struct metrics_family *f)
{
    for (int i = 0; i < f->n_members; i++) {
        if (f->members[i].field && !metrics__field(f->members[i].field)) {
            return false;
        }
    }
    return true;
}

static void put_family_of_keys(struct buf *out, const struct metrics_family *f, const struct api_keys *keys)
{
    struct api_key_usage usage;
    for (size_t i = 0; i < api_keys_count(keys); i++) {
        api_keys_usage_at(keys, i, clock_ms(), &usage);
        for (int k = 0; k < f->n_members; k++) {
            put_member(out, (struct sample){.family = f, .key = usage.name}, &f->members[k], &usage);
        }
    }
}

static void put_family_of_servers(struct buf *out, const struct metrics_family *f, const struct mcp_host *mcp)
{
    for (size_t i = 0; i < mcp_host_n_servers(mcp); i++) {
        for (int k = 0; k < f->n_members; k++) {
            put_member(out, (struct sample){.family = f, .server = mcp_host_server_name(mcp, i)}, &f->members[k],
                       mcp_host_usage(mcp, i));
        }
    }
}

static void put_family(struct buf *out, const struct metrics *m, const struct metrics_family *f)
{
    if ((f->labels == LABELS_KEY && api_keys_count(m->keys) == 0) || (f->labels == LABELS_MCP && !m->mcp)) {
        return;
    }
    head(out, f->name, f->kind, f->help);
    if (f->labels == LABELS_KEY) {
        put_family_of_keys(out, f, m->keys);
        return;
    }
    if (f->labels == LABELS_MCP) {
        put_family_of_servers(out, f, m->mcp);
        return;
    }
    if (f->labels == LABELS_NONE) {
        put_family_of(out, f, NULL, &m->server);
        return;
    }
    for (int i = 0; i < m->n_models; i++) {
        put_family_of(out, f, &m->models[i], &m->models[i]);
    }
}

/* ---- the engine's other statistics ---- */

/* The engine counts in its own units; Prometheus wants base units in the name, and _total for counters alone. */
static const struct unit {
    const char *ending, *name;
    enum metrics_form form;
} units[] = {{"_ns", "_seconds", FORM_SECONDS},
             {"_size", "_bytes", FORM_COUNT},
             {"_total", "", FORM_COUNT},
             {"", "", FORM_COUNT}};

struct engine_family { /* a row that is made of a field */
    struct metrics_family family;
    struct metrics_member member;
    char name[96];
};

static void engine_family(struct engine_family *e, const struct metrics_field *field)
{
    const struct unit *unit = units;
    bool gauge = metrics__is_gauge(field);
    while (!str_ends(str_of(field->name), str_of(unit->ending))) {
        unit++;
    }
    snprintf(e->name, sizeof e->name, "tandem_engine_%.*s%s%s", (int)(strlen(field->name) - strlen(unit->ending)),
             field->name, unit->name, gauge ? "" : "_total");
    e->member = (struct metrics_member){.field = field->name};
    e->family = (struct metrics_family){.name = e->name,
                                        .kind = gauge ? METRICS_GAUGE : METRICS_COUNTER,
                                        .labels = LABELS_MODEL,
                                        .form = unit->form,
                                        .members = &e->member,
                                        .n_members = 1,
                                        .help = field->help};
}

static bool family_has(const struct metrics_family *f, const struct engine_family *e)
{
    if (strcmp(f->name, e->name) == 0) {
        return true;
    }
    for (int i = 0; i < f->n_members && f->labels == LABELS_MODEL && f->form != FORM_ROWS; i++) {
        if (f->members[i].field && strcmp(f->members[i].field, e->member.field) == 0) {
            return true;
        }
    }
    return false;
}

/* Does a row of the table say it already? */
static bool has_row(const struct engine_family *e)
{
    for (int i = 0; i < metrics__n_families; i++) {
        if (family_has(&metrics__families[i], e)) {
            return true;
        }
    }
    return false;
}

/* Every family there is: those of the table, then the rest of the engine's statistics. */
static void each_family(void (*each)(void *arg, const struct metrics_family *f), void *arg)
{
    struct engine_family e;
    for (int i = 0; i < metrics__n_families; i++) {
        if (is_counted(&metrics__families[i])) {
            each(arg, &metrics__families[i]);
        }
    }
    for (int i = 0; i < metrics__n_fields; i++) {
        engine_family(&e, &metrics__fields[i]);
        if (!has_row(&e)) {
            each(arg, &e.family);
        }
    }
}

/* ---- all of it ---- */

struct writing {
    const struct metrics *metrics;
    struct buf *out;
};

static void write_family(void *arg, const struct metrics_family *f)
{
    struct writing *w = arg;
    put_family(w->out, w->metrics, f);
}

void metrics_write(struct metrics *m, struct buf *out)
{
    metrics__refresh(m);
    each_family(write_family, &(struct writing){.metrics = m, .out = out});
}

/* ---- documents ---- */

struct documenting {
    enum metrics_labels labels;
    struct buf *out;
};

static void document_family(void *arg, const struct metrics_family *f)
{
    struct documenting *d = arg;
    if (f->labels != d->labels) {
        return;
    }
    buf_printf(d->out, "| `%s` | %s | ", f->name, kind_names[f->kind]);
    if (f->label) {
        buf_printf(d->out, "`%s`:", f->label);
        for (int i = 0; i < f->n_members; i++) {
            buf_printf(d->out, " %s", f->members[i].value);
        }
    }
    if (f->write_labels) {
        const struct model_metrics none = {0};
        struct buf labels;
        buf_init(&labels, 4096);
        f->write_labels(&labels, &none);
        struct str rest = str_slice(buf_view(&labels), 1, labels.len), part;
        for (const char *sep = ""; str_split(&rest, ',', &part); sep = " ") {
            buf_printf(d->out, "%s`" STR_FMT "`", sep, STR_ARG(str_slice(part, 0, str_find_char(part, '='))));
        }
        buf_release(&labels);
    }
    buf_printf(d->out, " | %s |\n", f->help);
}

static void document(struct buf *out, enum metrics_labels labels, const char *text)
{
    buf_puts(out, text);
    buf_puts(out, "\n| name | kind | labels of its own | |\n| --- | --- | --- | --- |\n");
    each_family(document_family, &(struct documenting){.labels = labels, .out = out});
}

void metrics_write_docs(struct buf *out)
{
    buf_puts(
        out,
        "# Metrics\n\nGenerated from the program's table by `make docs`; do not edit. `GET /metrics` answers in "
        "Prometheus' text format 0.0.4.\n[OBSERVABILITY.md](OBSERVABILITY.md) says how they go together.\n\n"
        "Counters only grow while the gateway lives: what an engine process has counted is kept when it is lost, and "
        "the next\none's counts are added. A request is counted once, whatever its `n`. Engines say up to ten times a "
        "second how they stand, in\nthe breaks between their steps.\n");
    document(out, LABELS_MODEL, "\n## By model\n\nEach has the label `model`: the model's first name.\n");
    document(
        out, LABELS_VLLM,
        "\n## Under vLLM's names\n\nThe same figures with the names, labels (`model_name`; `engine`, always \"0\") and "
        "meanings of vLLM's engine, for the\ndashboards and gateways that look for them. Buckets contain vLLM's.\n");
    document(out, LABELS_KEY,
             "\n## By API key\n\nEach has the label `key`: the key's name. Only where there are keys.\n");
    document(
        out, LABELS_MCP,
        "\n## By MCP server\n\nEach has the label `server`: its name in --mcp-config. Only where there are some.\n");
    document(out, LABELS_NONE, "\n## Of the server\n\nWithout a label for the model.\n");
}
