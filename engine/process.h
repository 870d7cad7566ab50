/* `tandem engine`: an engine in a process of its own. Reads frames from the gateway's socket, writes frames to it;
 * ends when the socket does. */
#ifndef TANDEM_ENGINE_PROCESS_H
#define TANDEM_ENGINE_PROCESS_H

#include "engine/engine.h"

struct engine_process_options {
    struct engine_options engine;
    int socket_fd;     /* connected stream socket to the gateway */
    int pool_fd;       /* shared memory of the KV pool, engine.pool_size bytes; -1: own memory */
    int watch_fd;      /* shared memory of a struct engine_watch; -1: none */
    uint32_t epoch;    /* of every frame */
    bool sandbox;      /* gives up what it does not need (process_sandbox.h) before it reads a model */
    const char *fault; /* test builds: what goes wrong on purpose (engine/fault.h); NULL: nothing */
    int seals_fd;      /* shared memory for the seals of the pool's pages, seals_size bytes; -1, or size 0: none */
    size_t seals_size;
};

/* Runs until the gateway closes the socket, FRAME_DRAIN is done or a fatal error was sent; returns the exit status,
 * that of the error's code in base/error.h. A FATAL before HELLO: it could not start. Behind it: the backend's device
 * failed (DEVICE), and a new engine may fare better. */
int engine_process_run(const struct engine_process_options *options);

#endif
