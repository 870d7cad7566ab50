#include "base/error.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WRAP_MIN_CONTEXT 60 /* bytes of a context that stay when the sentence becomes too long */

static const struct error_info infos[ERR_COUNT] = {
#define X(name, http, oai_type, oai_code, anthropic, exit_status, retry) \
    [ERR_##name] = {#name, http, oai_type, oai_code, anthropic, exit_status, retry},
    ERROR_TABLE(X)
#undef X
};

/* Cuts text so that it is valid UTF-8 of less than size bytes; what was too long ends in "...". */
static void cut(char *text, size_t size, bool too_long)
{
    size_t len = strlen(text);
    if (too_long) {
        len = utf8_cut((struct str){text, len}, size - 4);
        memcpy(text + len, "...", 4);
    }
}

static void format(char *out, size_t size, const char *fmt, va_list args)
{
    memset(out, 0, size); /* errors travel as whole structs: no stack bytes in them */
    int n = vsnprintf(out, size, fmt, args);
    cut(out, size, n >= (int)size);
    utf8_make_plain(out, strlen(out)); /* arguments may come from outside, and the sentence may go anywhere */
}

bool error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    va_list args;
    char msg[sizeof err->msg]; /* the arguments may point into *err */
    va_start(args, fmt);
    format(msg, sizeof msg, fmt, args);
    va_end(args);
    *err = (struct error){.code = code};
    memcpy(err->msg, msg, sizeof msg);
    return false;
}

bool error_set_param(struct error *err, enum error_code code, const char *param, const char *fmt, ...)
{
    va_list args;
    char msg[sizeof err->msg], name[sizeof err->param];
    va_start(args, fmt);
    format(msg, sizeof msg, fmt, args);
    va_end(args);
    memset(name, 0, sizeof name);
    int n = snprintf(name, sizeof name, "%s", param);
    cut(name, sizeof name, n >= (int)sizeof name);
    utf8_make_plain(name, strlen(name));
    *err = (struct error){.code = code};
    memcpy(err->msg, msg, sizeof msg);
    memcpy(err->param, name, sizeof name);
    return false;
}

bool error_wrap(struct error *err, const char *fmt, ...)
{
    va_list args;
    char context[sizeof err->msg], msg[2 * sizeof err->msg + 4];
    const size_t room = sizeof err->msg - sizeof ": ";
    va_start(args, fmt);
    format(context, sizeof context, fmt, args);
    va_end(args);
    /* The cause matters more than where it was found: a long context gives way first. */
    size_t cause = strlen(err->msg), space = cause < room - WRAP_MIN_CONTEXT ? room - cause : WRAP_MIN_CONTEXT;
    cut(context, space + 1, strlen(context) > space);
    snprintf(msg, sizeof msg, "%s: %s", context, err->msg);
    bool too_long = strlen(msg) >= sizeof err->msg;
    msg[sizeof err->msg - 1] = '\0';
    memset(err->msg, 0, sizeof err->msg);
    memcpy(err->msg, msg, strlen(msg));
    cut(err->msg, sizeof err->msg, too_long);
    return false;
}

const struct error_info *error_info(enum error_code code)
{
    return &infos[(unsigned)code < ERR_COUNT ? code : ERR_INTERNAL];
}

enum error_code error_code_of(const char *name)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return (enum error_code)i;
        }
    }
    return ERR_INTERNAL;
}
