/* `tandem engine`: an engine in a process of its own. Reads frames from the gateway's socket, writes frames to it;
 * ends when the socket does. */
#ifndef TANDEM_ENGINE_PROCESS_H
#define TANDEM_ENGINE_PROCESS_H

#include "engine/engine.h"

struct engine_process_options {
    struct engine_options engine;
    int socket_fd;  /* connected stream socket to the gateway */
    int pool_fd;    /* shared memory of the KV pool, engine.pool_size bytes; -1: own memory */
    int watch_fd;   /* shared memory with the heartbeat and step words (struct engine_watch); -1: none */
    uint32_t epoch; /* of every frame */
    int seals_fd;   /* shared memory for the seals of the pool's pages, seals_size bytes; -1, or size 0: none */
    size_t seals_size;
};

/* Shared with the gateway, written by the engine, read by its watchdog. */
struct engine_watch {
    uint64_t heartbeat_ns; /* monotonic clock, by a thread of its own, every 100 ms */
    uint64_t steps;        /* +1 per step, also while loading makes progress */
    uint64_t busy;         /* 1 while work is scheduled */
};

/* Runs until the gateway closes the socket, FRAME_DRAIN is done or a fatal error was sent; returns the exit status. */
int engine_process_run(const struct engine_process_options *options);

#endif
