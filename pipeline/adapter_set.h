/* The adapters of one model: their names and numbers, who uses them, and what its engine is to be told so that it has
 * those that it should have, whether it is a process of the gateway's or runs in this one. Plain bookkeeping: no file
 * is read here and no frame is sent. The loop's thread.
 *
 *     adapter_set_add(s, name, path, facts, err)            it has a number from now on, whatever engine comes
 *     while (adapter_set_next(s, &order))                   to the engine, one at a time
 *         ... adapter_set_done(s, &done)
 *     adapter_set_fresh(s)                                  another engine: it has none of them
 *     adapter_set_unlist(s, a)                              no request finds it any more; it goes with the last user
 *
 * A number belongs to one adapter until no user is left and no engine has it, so that what a request was admitted with
 * is what it ends with. */
#ifndef TANDEM_PIPELINE_ADAPTER_SET_H
#define TANDEM_PIPELINE_ADAPTER_SET_H

#include "model/adapter.h"
#include "wire/frame.h"

#define ADAPTER_NAME_MAX   64 /* bytes, without the NUL */
#define ADAPTER_LOSSES_MAX 2  /* engines that may end while they load it */

struct served_adapter {
    char name[ADAPTER_NAME_MAX + 1];
    char path[WIRE_ADAPTER_PATH];
    struct adapter_facts facts;
    uint32_t number;
    bool listed;         /* requests find it */
    bool loaded;         /* the engine has it */
    bool refused;        /* the engine could not load it: `failure` */
    uint32_t n_losses;   /* engines that ended while they loaded it */
    size_t n_users;      /* adapter_set_hold */
    uint64_t n_requests; /* so far */
    int64_t added_s;     /* Unix time */
    struct error failure;
};

struct adapter_words { /* what errors call the fields and limits */
    const char *name, *path, *max_adapters, *max_size;
};

struct adapter_set {                   /* zeroed but for the limits and the words it is empty */
    const struct adapter_words *words; /* NULL: those of the server */
    uint32_t max_adapters;
    uint64_t max_size;                                     /* bytes of all of them */
    struct served_adapter *items[WIRE_MAX_ADAPTERS];       /* [.] by number - 1; NULL: free; owned */
    uint32_t under_way;                                    /* number of the order that is; 0: none */
    bool loading;                                          /* what it is for */
    uint64_t n_requests, n_loads, n_failed_loads, n_drops; /* of engines, so far */
};

void adapter_set_release(struct adapter_set *s);

/* 1 to ADAPTER_NAME_MAX letters, digits, '.', '_' and '-', not beginning with '.' or '-'. INVALID, of this field. */
NODISCARD bool adapter_name_check(struct str name, const char *field, struct error *err);

/* "NAME=PATH", as --lora has it: views of text. INVALID. Any thread. */
NODISCARD bool adapter_option_split(const char *text, struct str *name, const char **path, struct error *err);

/* What lies at a path; whatever is wrong with it is told in one sentence. Any thread. */
NODISCARD bool adapter_facts_read(const char *path, struct adapter_facts *facts, struct error *err);

/* INVALID: the name, a listed one has it already, too many; NO_ROOM: too large for what is left. */
NODISCARD struct served_adapter *adapter_set_add(struct adapter_set *s, struct str name, const char *path,
                                                 const struct adapter_facts *facts, struct error *err);
struct served_adapter *adapter_set_find(const struct adapter_set *s, struct str name); /* a listed one; NULL: none */
void adapter_set_unlist(struct adapter_set *s, struct served_adapter *a);              /* a may be freed */
void adapter_set_hold(struct served_adapter *a);
void adapter_set_release_one(struct adapter_set *s, struct served_adapter *a); /* likewise */

/* What the engine is to do next. False: nothing, or something is under way. */
bool adapter_set_next(struct adapter_set *s, struct adapter_order *order);
void adapter_set_take_back(struct adapter_set *s); /* the order was not sent: it comes again */
/* Its answer. PROTOCOL: nobody asked. */
NODISCARD bool adapter_set_done(struct adapter_set *s, const struct adapter_done *done, struct error *err);
void adapter_set_fresh(struct adapter_set *s);

uint64_t adapter_set_size(const struct adapter_set *s); /* bytes of those that are listed or still there */
size_t adapter_set_n_listed(const struct adapter_set *s);
/* The i-th listed one; NULL behind the last. */
const struct served_adapter *adapter_set_at(const struct adapter_set *s, size_t i);
/* Fingerprint of answers that an engine of this fingerprint computes with the adapter of this digest. Any thread. */
void adapter_fingerprint(const struct sha256 *digest, const char *engine, char out[17]);

#endif
