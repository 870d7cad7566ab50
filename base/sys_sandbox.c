/* What is the same everywhere: resource limits, and the words about what is in force. */
#include "base/sys_sandbox_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static void append(char *out, size_t size, const char *fmt, va_list arguments)
{
    size_t len = strlen(out);
    if (len && len < size) {
        snprintf(out + len, size - len, ", ");
        len = strlen(out);
    }
    vsnprintf(out + len, size - len, fmt, arguments);
}

void sandbox__in_force(struct sandbox_state *state, const char *fmt, ...)
{
    va_list arguments;
    va_start(arguments, fmt);
    append(state->text, sizeof state->text, fmt, arguments);
    va_end(arguments);
}

void sandbox__missing(struct sandbox_state *state, const char *fmt, ...)
{
    va_list arguments;
    va_start(arguments, fmt);
    append(state->missing, sizeof state->missing, fmt, arguments);
    va_end(arguments);
}

/* Downwards only, the hard limit too. */
static bool lower(int resource, uint64_t value)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) {
        return false;
    }
    limit.rlim_max = limit.rlim_max < value ? limit.rlim_max : (rlim_t)value; /* RLIM_INFINITY is the largest value */
    limit.rlim_cur = limit.rlim_cur < limit.rlim_max ? limit.rlim_cur : limit.rlim_max;
    return setrlimit(resource, &limit) == 0;
}

/* A core file would hold what people wrote. */
static void set_limits(const struct sandbox_profile *p, struct sandbox_state *s)
{
    bool ok = lower(RLIMIT_CORE, 0);
    ok = (!p->max_files || lower(RLIMIT_NOFILE, p->max_files)) && ok;
    ok = (!p->max_processes || lower(RLIMIT_NPROC, p->max_processes)) && ok;
    if (p->max_memory && !sandbox__limit_memory(p->max_memory)) {
        sandbox__missing(s, "no limit of memory");
    }
    if (ok) {
        sandbox__in_force(s, "limits");
    } else {
        sandbox__missing(s, "not all limits");
    }
}

void sandbox_enter(const struct sandbox_profile *profile, struct sandbox_state *state)
{
    *state = (struct sandbox_state){0};
    set_limits(profile, state);
    sandbox__confine(profile, state);
    if (!state->text[0]) {
        sandbox__in_force(state, "nothing");
    }
}
