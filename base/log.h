/* Log lines on standard error (or a given descriptor), logfmt or JSON, one write per line.
 *     LOG_INFO("engine ready", "model=%s load_ms=%lld", name, ms);
 * The sink is process-wide (the one allowed global state besides the kernel table and signal flags); set up once in
 * main before threads start; writing is safe from any thread. Content of prompts and answers is never logged. */
#ifndef TANDEM_BASE_LOG_H
#define TANDEM_BASE_LOG_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_options {
    enum log_level level;
    enum log_format format;
    int fd;              /* where lines go; 2 by default */
    const char *process; /* "gateway", "engine"; part of each line; static storage */
    /* Takes the lines instead: size bytes and a NUL, without the line's end, of an enum log_level; on any thread,
     * several at a time. NULL: they go to fd. */
    void (*write)(void *arg, int level, const char *line, size_t size);
    void *write_arg;
};

void log_init(const struct log_options *options);
void log_set_level(enum log_level level); /* any thread, at any time */
bool log_enabled(enum log_level level);
NODISCARD bool log_level_parse(const char *name, enum log_level *out, struct error *err);

/* event: a short fixed phrase. fmt: further key=value pairs separated by blanks, each value one conversion, in quotes
 * or not
 * ("path=\"%s\" n=%d"), or NULL. Values are shown in quotes where they need it and escaped: content can forge neither a
 * line nor a field. Values of over 512 bytes end in "..."; a line that lost fields says cut=true. errno is kept.
 *
 *     text    2026-11-23T10:00:00.123Z INFO gateway engine ready model=x
 *     logfmt  time=2026-11-23T10:00:00.123Z level=info process=gateway event="engine ready" model=x
 *     json    {"time":"2026-11-23T10:00:00.123Z","level":"info","process":"gateway","event":"engine ready","model":"x"}
 */
void log_write(enum log_level level, const char *event, const char *fmt, ...) PRINTF_FORMAT(3, 4);

/* The same for lines whose fields are chosen while the program runs; in JSON, numbers are numbers and booleans
 * booleans.
 *
 *     struct log_field fields[] = {log_str("id", id), log_int("status", 200), log_real("total_ms", 1.25)};
 *     log_fields(LOG_LEVEL_INFO, "request", fields, 3);
 */
enum log_kind { LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_REAL, LOG_KIND_BOOL };

struct log_field {
    const char *key; /* static: letters, digits, '_' */
    enum log_kind kind;
    struct str text;
    size_t most; /* bytes of text that are shown; 0: 512. What the line has no room for is halved until it fits */
    int64_t number;
    double real; /* finite; shown with three decimals */
};

static inline struct log_field log_str(const char *key, struct str text)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_STR, .text = text};
}

static inline struct log_field log_int(const char *key, int64_t number)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_INT, .number = number};
}

static inline struct log_field log_real(const char *key, double real)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_REAL, .real = real};
}

static inline struct log_field log_bool(const char *key, bool yes)
{
    return (struct log_field){.key = key, .kind = LOG_KIND_BOOL, .number = yes};
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, size_t n);

#define LOG_ERROR(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
