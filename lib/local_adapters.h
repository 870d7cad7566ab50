/* The adapters of an engine in this process, by name: loaded one after another, found by whoever makes a request, kept
 * for those who have them. The bookkeeping is that of pipeline/adapter_set.h, the reading that of engine/adapters.h.
 *
 *   any thread                                the loop's thread                  the engine's threads
 *   hold: a name of the table, counted        load -> set -> order ----------->  reads, binds
 *   release, unload: signal -------------->   publish to the table  <----------  done
 *                                             what has no users goes: order -->  drops
 *
 * No lock: an entry of the table is one word, whether requests find it and how many have it, and what else is in it is
 * written while that word is zero. */
#ifndef TANDEM_LIB_LOCAL_ADAPTERS_H
#define TANDEM_LIB_LOCAL_ADAPTERS_H

#include "lib/local_port.h"
#include "pipeline/adapter_set.h"

struct local_adapters;

struct adapter_load { /* one that is to be loaded; whoever asks has it until fn was called */
    const char *name;
    const char *path;           /* whole, unless the process keeps its folder: it may be read again much later */
    struct adapter_facts facts; /* adapter_facts_read(path) */
    /* Once, on the loop's thread, and calls nothing here; err->code: why it is not loaded, 0 when it is. CANCELLED:
     * local_adapters_free. */
    void (*fn)(void *arg, const struct error *err);
    void *arg;
    struct adapter_load *next;
};

struct local_adapter {
    char name[ADAPTER_NAME_MAX + 1];
    struct adapter_facts facts;
    uint32_t n_users; /* now */
};

/* The loop's thread. The port outlives what is asked of it, but is freed first: local_port_free, local_adapters_free.
 */
NODISCARD struct local_adapters *local_adapters_create(struct loop *loop, struct local_port *port, struct error *err);
void local_adapters_free(struct local_adapters *a); /* NULL is fine */

/* The loop's thread. Behind those that were asked for before; fn may be called at once. INVALID: the name, or the model
 * has it, or WIRE_MAX_ADAPTERS; what is wrong with the file is told as model_adapter_load does. */
void local_adapters_load(struct local_adapters *a, struct adapter_load *load);

/* Any thread. The number under which the engine has the adapter of this name, for struct gen_request, with its digest:
 * it stays until it is released. 0: there is none. */
uint32_t local_adapters_hold(struct local_adapters *a, struct str name, struct sha256 *digest);
void local_adapters_release(struct local_adapters *a, uint32_t number); /* 0 is fine */

/* Any thread. No request finds it any more, and it goes when the last that has it has ended. False: there is none. */
bool local_adapters_unload(struct local_adapters *a, struct str name);

/* Any thread. The index-th of those that requests find; false: there are fewer. */
bool local_adapters_get(struct local_adapters *a, uint32_t index, struct local_adapter *out);

#endif
