/* A sandbox profile for sandbox_init, which Apple calls deprecated and still uses for its own. Profiles are Scheme; the
 * last rule that matches decides. What is forbidden is named, and all else allowed: which services the system's
 * libraries speak to is nobody's promise. */
#include "base/sys_sandbox_internal.h"

#include "base/buf.h"
#include "base/limits.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

/* <sandbox.h>, whose functions are marked deprecated. */
int sandbox_init(const char *profile, uint64_t flags, char **message);
void sandbox_free_error(char *message);

static const char base_rules[] = "(version 1)\n"
                                 "(allow default)\n"
                                 "(deny network*)\n"
                                 "(deny file-write*)\n"
                                 "(allow file-write-data (literal \"/dev/null\") (literal \"/dev/zero\"))\n";

static const char no_programs[] = "(deny process-exec*)\n"
                                  "(deny process-fork)\n"
                                  "(deny signal)\n"
                                  "(allow signal (target self))\n";

/* Where people and other services keep what is theirs; the system's own stays readable. */
static const char no_reading[] =
    "(deny file-read-data (subpath \"/Users\") (subpath \"/Volumes\") (subpath \"/Network\")\n"
    "  (subpath \"/private/tmp\") (subpath \"/private/var/tmp\") (subpath \"/private/var/root\")\n"
    "  (subpath \"/private/var/folders\") (subpath \"/private/var/mail\") (subpath \"/private/etc/ssh\"))\n";

bool sandbox__limit_memory(uint64_t size)
{
    (void)size;
    return false; /* RLIMIT_DATA is not enforced here */
}

/* The rules are about real paths: /tmp is a link here. */
static void put_path(struct buf *out, const char *operation, const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        return; /* not there */
    }
    buf_printf(out, "(allow %s (subpath \"", operation);
    for (const char *c = real; *c; c++) {
        if (*c == '"' || *c == '\\') {
            buf_putc(out, '\\');
        }
        buf_putc(out, *c);
    }
    buf_puts(out, "\"))\n");
}

/* Of this user, by the system: where Metal keeps compiled shaders. */
static void put_user_dir(struct buf *out, int name)
{
    char path[PATH_MAX];
    size_t n = confstr(name, path, sizeof path);
    if (n > 0 && n <= sizeof path) {
        put_path(out, "file-read* file-write*", path);
    }
}

static void put_rules(struct buf *out, const struct sandbox_profile *p)
{
    buf_puts(out, base_rules);
    if (!p->start_programs) {
        buf_puts(out, no_programs);
    }
    if (!p->read_all) {
        buf_puts(out, no_reading);
    }
    for (size_t i = 0; i < p->n_read; i++) {
        put_path(out, "file-read*", p->read[i]);
    }
    for (size_t i = 0; i < p->n_write; i++) {
        put_path(out, "file-read* file-write*", p->write[i]);
    }
    if (p->devices) {
        put_user_dir(out, _CS_DARWIN_USER_CACHE_DIR);
        put_user_dir(out, _CS_DARWIN_USER_TEMP_DIR);
    }
}

void sandbox__confine(const struct sandbox_profile *profile, struct sandbox_state *state)
{
    struct buf rules;
    char *message = NULL;
    buf_init(&rules, MIB(1));
    put_rules(&rules, profile);
    buf_putc(&rules, '\0');
    if (rules.failed || sandbox_init(rules.data, 0, &message) != 0) {
        sandbox__missing(state, "no sandbox profile (%s)", message ? message : "no memory");
        if (message) {
            sandbox_free_error(message);
        }
    } else {
        state->files = state->network = state->calls = true;
        sandbox__in_force(state, "sandbox profile");
    }
    buf_release(&rules);
}
