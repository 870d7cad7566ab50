/* The watch on the descriptor lives on its own: libuv closes a handle later than pressure_free returns, and the
 * descriptor must stay open until then. */
#include "gateway/pressure.h"

#include "base/log.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define EVERY_MS 500

struct descriptor_watch {
    uv_poll_t uv;
    struct sys_pressure *system;
    struct pressure *owner; /* NULL: it is being closed */
};

struct pressure {
    struct pressure_options options;
    struct loop_timer *timer;
    struct sys_pressure *system;    /* NULL: a file is read; else owned by `watch`, if there is one */
    struct descriptor_watch *watch; /* NULL: the system has no descriptor */
    enum pressure_level level;
};

/* ---- the descriptor ---- */

static void on_watch_closed(uv_handle_t *handle)
{
    struct descriptor_watch *w = handle->data;
    sys_pressure_close(w->system);
    free(w);
}

static void look(void *arg);

static void on_descriptor(uv_poll_t *uv, int status, int events)
{
    struct descriptor_watch *w = uv->data;
    (void)events;
    if (status < 0) { /* its group is gone: the timer goes on */
        uv_poll_stop(uv);
    } else if (w->owner) {
        look(w->owner);
    }
}

static void watch_descriptor(struct pressure *p)
{
    int fd = sys_pressure_fd(p->system);
    struct descriptor_watch *w = fd >= 0 ? calloc(1, sizeof *w) : NULL;
    if (!w || uv_poll_init(loop_uv(p->options.loop), &w->uv, fd) != 0) {
        free(w);
        return;
    }
    w->uv.data = w;
    w->system = p->system;
    w->owner = p;
    p->watch = w;
    uv_poll_start(&w->uv, UV_PRIORITIZED, on_descriptor);
}

/* ---- the level ---- */

/* What is not there, or says something else, says nothing new. */
static enum pressure_level read_file(const struct pressure *p)
{
    char line[64];
    enum pressure_level level = p->level;
    FILE *f = fopen(p->options.file, "re");
    bool ok = f && fgets(line, sizeof line, f);
    for (int i = PRESSURE_NONE; ok && i <= PRESSURE_CRITICAL; i++) {
        if (str_eq(str_trim(str_of(line)), str_of(pressure_level_name((enum pressure_level)i)))) {
            level = (enum pressure_level)i;
        }
    }
    if (f) {
        fclose(f);
    }
    return level;
}

static void look(void *arg)
{
    struct pressure *p = arg;
    enum pressure_level level = p->system ? sys_pressure_level(p->system) : read_file(p);
    if (level != p->level) {
        LOG_INFO("memory pressure", "level=%s before=%s", pressure_level_name(level), pressure_level_name(p->level));
    }
    p->level = level;
    p->options.on_level(p->options.arg, level);
}

/* ---- life ---- */

struct pressure *pressure_create(const struct pressure_options *options, struct error *err)
{
    struct pressure *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, "no memory to watch the memory.");
        return NULL;
    }
    p->options = *options;
    p->timer = loop_timer_create(options->loop, look, p);
    p->system = options->file ? NULL : sys_pressure_open();
    if (!p->timer || (!options->file && !p->system)) {
        pressure_free(p);
        error_set(err, ERR_NO_MEMORY, "no memory to watch the memory.");
        return NULL;
    }
    if (p->system) {
        watch_descriptor(p);
    }
    loop_timer_start(p->timer, EVERY_MS, EVERY_MS);
    return p;
}

void pressure_free(struct pressure *p)
{
    if (!p) {
        return;
    }
    loop_timer_free(p->timer);
    if (p->watch) {
        p->watch->owner = NULL;
        uv_close((uv_handle_t *)&p->watch->uv, on_watch_closed);
    } else {
        sys_pressure_close(p->system);
    }
    free(p);
}

enum pressure_level pressure_level(const struct pressure *p)
{
    return p ? p->level : PRESSURE_NONE;
}
