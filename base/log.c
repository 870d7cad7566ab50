#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_SIZE 4096 /* PIPE_BUF: what is written at once to a pipe does not mix with other processes' lines */
#define LOG_VALUE_SIZE                                                                                               \
    512                    /* bytes of a value; six times as long when escaped, which still leaves room for the rest \
                            */
#define LOG_SHOWN_MAX 3072 /* bytes of the longest value, when it needs no escapes */
#define LOG_TEXT_SIZE ((size_t)64 << 10)
#define LOG_SEPARATOR '\x1F' /* between fields, put into the format; see split_format */

/* The process's one log sink (STYLE 4): set in main, read-only afterwards but for its level. */
static struct log_options sink = {.level = LOG_LEVEL_INFO, .fd = 2, .process = "tandem"};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const level_labels[] = {"ERROR", "WARN", "INFO", "DEBUG"};

void log_init(const struct log_options *options)
{
    sink = *options;
    sink.fd = sink.fd > 0 ? sink.fd : 2;
    sink.process = sink.process ? sink.process : "tandem";
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&sink.level, level, __ATOMIC_RELAXED);
}

bool log_enabled(enum log_level level)
{
    return level <= __atomic_load_n(&sink.level, __ATOMIC_RELAXED);
}

bool log_level_parse(const char *name, enum log_level *out, struct error *err)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "the log level '%s' is none of: error, warn, info, debug.", name);
}

static void timestamp(char out[32])
{
    int64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%03dZ", (int)(ms % 1000));
}

/* What could end a line, steer a terminal or reorder what is shown: control characters (C0, DEL, C1), line and
 * paragraph separators, bidirectional controls. */
static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* Appends text that cannot leave its line; within quotes also none that can leave those. */
static void put_escaped(struct buf *out, struct str text, bool quoted)
{
    uint32_t c;
    for (size_t i = 0, n; i < text.len; i += n) {
        n = utf8_decode(str_slice(text, i, text.len), &c);
        if (c == UTF8_INVALID) {
            n = 1;
            buf_printf(out, "\\x%02x", (unsigned char)text.ptr[i]);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            buf_puts(out, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
        } else if (is_unsafe(c)) {
            buf_printf(out, c < 0x80 ? "\\x%02x" : "\\u%04x", (unsigned)c);
        } else {
            if (quoted && (c == '"' || c == '\\')) {
                buf_putc(out, '\\');
            }
            buf_append(out, str_slice(text, i, i + n));
        }
    }
}

static bool needs_quotes(struct str value)
{
    uint32_t c;
    for (size_t i = 0; i < value.len;) {
        i += utf8_decode(str_slice(value, i, value.len), &c);
        if (c == ' ' || c == '"' || c == '=' || c == '\\' || c == UTF8_INVALID || is_unsafe(c)) {
            return true;
        }
    }
    return value.len == 0;
}

/* One line in the making. A field that no longer fits is left out, and the line says that it was cut. */
struct line {
    struct buf text;
    struct json_writer json;
    bool cut;
};

/* JSON allows more in a string than a terminal should see: the rest of the unsafe characters are escaped as well. */
static void put_json_string(struct line *l, struct str value)
{
    struct buf quoted, safe;
    buf_init(&quoted, 8 * LOG_LINE_SIZE);
    buf_init(&safe, 8 * LOG_LINE_SIZE);
    json_quote(&quoted, value);
    put_escaped(&safe, buf_view(&quoted), false);
    json_put_raw(&l->json, buf_view(&safe));
    l->text.failed = l->text.failed || quoted.failed || safe.failed;
    buf_release(&quoted);
    buf_release(&safe);
}

/* value: what is shown of it, at most LOG_SHOWN_MAX bytes. */
static void put_pair(struct line *l, struct str key, struct str value, bool shortened)
{
    if (sink.format == LOG_FORMAT_JSON) {
        char name[64], shown[LOG_SHOWN_MAX + 4];
        snprintf(name, sizeof name, STR_FMT, STR_ARG(key));
        memcpy(shown, value.ptr ? value.ptr : "", value.len);
        memcpy(shown + value.len, "...", 4);
        json_key(&l->json, name);
        put_json_string(l, (struct str){shown, value.len + (shortened ? 3 : 0)});
        return;
    }
    bool quoted = shortened || needs_quotes(value);
    buf_putc(&l->text, ' ');
    put_escaped(&l->text, key, false);
    buf_puts(&l->text, quoted ? "=\"" : "=");
    put_escaped(&l->text, value, quoted);
    buf_puts(&l->text, shortened ? "...\"" : quoted ? "\"" : "");
}

static bool fits(const struct line *l)
{
    return l->text.len <= LOG_LINE_SIZE - sizeof " \"cut\":true}\n";
}

/* Shows as much of the value as `most` and the line allow; a field that has no room even when it is short is left out.
 */
static void put_field(struct line *l, struct str key, struct str value, size_t most)
{
    size_t before = l->text.len;
    struct json_writer json = l->json;
    for (;; most = most / 2 > LOG_VALUE_SIZE ? most / 2 : LOG_VALUE_SIZE) {
        size_t shown = utf8_cut(value, most);
        put_pair(l, key, str_slice(value, 0, shown), shown < value.len);
        if (fits(l)) {
            return;
        }
        buf_truncate(&l->text, before);
        l->json = json;
        if (most <= LOG_VALUE_SIZE) {
            l->cut = true;
            return;
        }
    }
}

/* Copies fmt with LOG_SEPARATOR for the blanks between fields and without the quotes around %s, so that the fields are
 * found by the format's own structure and never by what its arguments bring. Returns the number of separators, -1 when
 * fmt is too long. */
static int split_format(const char *fmt, char *out, size_t size)
{
    int n = 0;
    bool quoted = false;
    char last = ' ';
    for (; *fmt && size > 1; last = *fmt++) {
        if (*fmt == '"') {
            quoted = !quoted;
            continue;
        }
        bool between = *fmt == ' ' && !quoted && last != '%'; /* "% d" is a conversion */
        n += between;
        *out++ = between ? LOG_SEPARATOR : *fmt;
        size--;
    }
    *out = '\0';
    return *fmt ? -1 : n;
}

static int count_separators(struct str text)
{
    int n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += text.ptr[i] == LOG_SEPARATOR;
    }
    return n;
}

static void put_fields(struct line *l, struct str text, int n_separators)
{
    struct str part;
    if (count_separators(text) != n_separators) { /* an argument holds the separator: nobody can say which are real */
        put_field(l, STR("detail"), text, LOG_VALUE_SIZE);
        return;
    }
    while (str_split(&text, LOG_SEPARATOR, &part)) {
        size_t equals = str_find_char(part, '=');
        if (equals != STR_NPOS) {
            put_field(l, str_slice(part, 0, equals), str_slice(part, equals + 1, part.len), LOG_VALUE_SIZE);
        } else if (part.len) {
            put_field(l, STR("detail"), part, LOG_VALUE_SIZE);
        }
    }
}

static void begin_line(struct line *l, enum log_level level, const char *event)
{
    char time[32];
    timestamp(time);
    buf_init(&l->text, 8 * LOG_LINE_SIZE);
    l->json = json_writer(&l->text);
    l->cut = false;
    if (sink.format == LOG_FORMAT_TEXT) {
        buf_printf(&l->text, "%s %s %s ", time, level_labels[level], sink.process);
        put_escaped(&l->text, str_slice(str_of(event), 0, LOG_VALUE_SIZE), false);
    } else if (sink.format == LOG_FORMAT_LOGFMT) {
        buf_printf(&l->text, "time=%s level=%s process=%s", time, level_names[level], sink.process);
        put_field(l, STR("event"), str_of(event), LOG_VALUE_SIZE);
    } else {
        json_begin_object(&l->json);
        put_field(l, STR("time"), str_of(time), LOG_VALUE_SIZE);
        put_field(l, STR("level"), str_of(level_names[level]), LOG_VALUE_SIZE);
        put_field(l, STR("process"), str_of(sink.process), LOG_VALUE_SIZE);
        put_field(l, STR("event"), str_of(event), LOG_VALUE_SIZE);
    }
}

static void end_line(struct line *l)
{
    bool json = sink.format == LOG_FORMAT_JSON;
    if (l->cut) {
        buf_puts(&l->text, json ? ",\"cut\":true" : " cut=true");
    }
    buf_puts(&l->text, json ? "}\n" : "\n");
}

static void write_line(enum log_level level, struct buf *text)
{
    struct str line = buf_view(text);
    if (sink.write) {
        buf_truncate(text, text->len - 1); /* the line's end */
        sink.write(sink.write_arg, (int)level, text->data, text->len);
        return;
    }
    while (line.len) {
        ssize_t n = write(sink.fd, line.ptr, line.len);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return; /* nowhere to say that the log is gone */
        }
        line = str_slice(line, n > 0 ? (size_t)n : 0, line.len);
    }
}

void log_write(enum log_level level, const char *event, const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    int saved = errno; /* logging is often the first thing after a failure */
    struct line line;
    begin_line(&line, level, event);
    if (fmt) {
        char split[512];
        struct buf text;
        va_list args;
        int n_separators = split_format(fmt, split, sizeof split);
        buf_init(&text, LOG_TEXT_SIZE);
        va_start(args, fmt);
        buf_vprintf(&text, n_separators < 0 ? fmt : split, args);
        va_end(args);
        line.cut = text.failed;
        put_fields(&line, buf_view(&text), n_separators);
        buf_release(&text);
    }
    end_line(&line);
    if (!line.text.failed) {
        write_line(level, &line.text);
    }
    buf_release(&line.text);
    errno = saved;
}

/* ---- fields one by one ---- */

/* What needs no quotes in any format. */
static void put_plain(struct line *l, const char *key, const char *value)
{
    size_t before = l->text.len;
    struct json_writer json = l->json;
    if (sink.format == LOG_FORMAT_JSON) {
        json_member_raw(&l->json, key, str_of(value));
    } else {
        buf_printf(&l->text, " %s=%s", key, value);
    }
    if (!fits(l)) {
        buf_truncate(&l->text, before);
        l->json = json;
        l->cut = true;
    }
}

static void put_typed(struct line *l, const struct log_field *f)
{
    char text[64];
    size_t most = f->most ? f->most : LOG_VALUE_SIZE;
    switch (f->kind) {
    case LOG_KIND_STR:
        put_field(l, str_of(f->key), f->text, most < LOG_SHOWN_MAX ? most : LOG_SHOWN_MAX);
        return;
    case LOG_KIND_INT:
        snprintf(text, sizeof text, "%lld", (long long)f->number);
        break;
    case LOG_KIND_REAL:
        snprintf(text, sizeof text, "%.3f", isfinite(f->real) && fabs(f->real) < 1e18 ? f->real : 0);
        break;
    case LOG_KIND_BOOL:
        snprintf(text, sizeof text, "%s", f->number ? "true" : "false");
        break;
    }
    put_plain(l, f->key, text);
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
    if (!log_enabled(level)) {
        return;
    }
    int saved = errno;
    struct line line;
    begin_line(&line, level, event);
    for (size_t i = 0; i < n; i++) {
        put_typed(&line, &fields[i]);
    }
    end_line(&line);
    if (!line.text.failed) {
        write_line(level, &line.text);
    }
    buf_release(&line.text);
    errno = saved;
}
