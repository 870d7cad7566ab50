#include "cli/announce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOADING_TICK_MS 250
#define TICK_MS         5000

struct announcer {
    struct gateway *gateway;
    const struct service *service;
    struct loop_timer *timer;
    bool ready, stopping;
    char status[256]; /* the last that was sent */
};

/* Half of the time after which silence means death, and at least often enough for people who look at the status. */
static int64_t tick_ms(const struct announcer *a)
{
    int64_t half = a->service->watchdog_ms / 2, tick = a->ready ? TICK_MS : LOADING_TICK_MS;
    half = half > 1 ? half : 1;
    return a->service->watchdog_ms && half < tick ? half : tick;
}

static void say(struct announcer *a, enum service_event event, const char *status)
{
    snprintf(a->status, sizeof a->status, "%s", status);
    service_notify(a->service, event, a->status);
}

/* What gateway_ready says begins small: it is the rest of a sentence elsewhere. */
static bool look(const struct announcer *a, char out[256])
{
    struct error why = {0};
    bool ready = gateway_ready(a->gateway, &why);
    size_t n = gateway_n_models(a->gateway);
    if (!ready) {
        snprintf(out, 256, "%.255s", why.msg);
    } else if (n == 1) {
        snprintf(out, 256, "serving %.200s", served_model_name(gateway_model_at(a->gateway, 0)));
    } else {
        snprintf(out, 256, "serving %zu models", n);
    }
    return ready && n > 0;
}

void announcer_look(struct announcer *a)
{
    char status[256];
    if (!a || a->stopping) {
        return;
    }
    bool ready = look(a, status);
    if (ready && !a->ready) {
        a->ready = true;
        say(a, SERVICE_READY, status);
        loop_timer_start(a->timer, tick_ms(a), tick_ms(a));
    } else if (strcmp(status, a->status) != 0) {
        say(a, a->ready ? SERVICE_STATUS : SERVICE_LOADING, status);
    }
}

static void on_tick(void *arg)
{
    struct announcer *a = arg;
    if (a->service->watchdog_ms) {
        service_notify(a->service, SERVICE_ALIVE, NULL);
    }
    announcer_look(a);
}

struct announcer *announcer_create(struct gateway *gateway, const struct service *service)
{
    struct announcer *a = service_is_managed(service) ? calloc(1, sizeof *a) : NULL;
    if (!a) {
        return NULL;
    }
    *a = (struct announcer){.gateway = gateway, .service = service};
    a->timer = loop_timer_create(gateway_loop(gateway), on_tick, a);
    if (!a->timer) {
        free(a);
        return NULL;
    }
    loop_timer_start(a->timer, 0, tick_ms(a));
    return a;
}

void announcer_free(struct announcer *a)
{
    if (a) {
        loop_timer_free(a->timer);
        free(a);
    }
}

void announcer_reloading(struct announcer *a)
{
    if (a) {
        service_notify(a->service, SERVICE_RELOADING, "reloading");
    }
}

void announcer_reloaded(struct announcer *a, const char *status)
{
    char now[256];
    if (a && (look(a, now) || a->ready)) { /* else the start is still under way, and READY would end it */
        say(a, SERVICE_READY, status ? status : now);
    }
}

void announcer_stopping(struct announcer *a)
{
    if (a && !a->stopping) {
        a->stopping = true;
        say(a, SERVICE_STOPPING, "finishing what runs");
    }
}
