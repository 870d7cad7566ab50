/* Log lines on standard error (or a given descriptor), logfmt or JSON, one write per line.
 *     LOG_INFO("engine ready", "model=%s load_ms=%lld", name, ms);
 * The sink is process-wide (the one allowed global state besides the kernel table and signal flags); set up once in
 * main before threads start; writing is safe from any thread. Content of prompts and answers is never logged. */
#ifndef TANDEM_BASE_LOG_H
#define TANDEM_BASE_LOG_H

#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_options {
    enum log_level level;
    enum log_format format;
    int fd;              /* where lines go; 2 by default */
    const char *process; /* "gateway", "engine"; part of each line; static storage */
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

#define LOG_ERROR(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
