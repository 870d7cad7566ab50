/* A lost process is lost between two instructions of each of its threads, and what it stored before is in the memory.
 * So the order of stores is all that is needed: a seal's state is cleared before its page may be written, and set after
 * the seal, which is made of the page's bytes. The checksum of the entry is there for those who write where they must
 * not; the checksum of the page likewise.
 *
 * The checksum of a part does not depend on its key: it goes on from that of the part before, which is in the entry
 * that is replaced.
 *
 * Every beginning anew draws a salt, which is in the seed of all entries' checksums: what older tables left behind is
 * invalid by that, and need not be cleared. (Memory that was never touched stays unused so.) */
#include "engine/kv_seal.h"

#include "base/array.h"
#include "base/rng.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC     0x314c4145534b5654u /* "TVKSEAL1" */
#define VERSION   2
#define SEALED    0x64656c616573u /* "sealed" */
#define HEAD_SIZE 256
#define MAX_POOL  50 /* bits of the size of a pool whose pages are counted */

/* Bytes are little-endian, as everywhere (CONTRIBUTING.md). */
struct head {
    uint64_t magic; /* written last, cleared first */
    uint32_t version, page_tokens, n_groups, n_entries;
    uint64_t page_size[KV_MAX_GROUPS];
    uint32_t first[KV_MAX_GROUPS]; /* entry of the group's page 0 */
    struct sha256 identity;
    uint64_t salt;
    uint64_t sum;                   /* of all before it */
    uint32_t n_used[KV_MAX_GROUPS]; /* entries that may have been written since this was begun */
};

struct entry {
    struct sha256 key;
    uint64_t page_sum; /* of a whole block seeded by key and group, of a part by group */
    uint32_t depth, n_tokens;
    uint64_t sum;   /* of all before it, seeded by identity, salt, group and page */
    uint64_t state; /* SEALED, or the page is not */
};
static_assert(sizeof(struct entry) == 64, "an entry has a fixed size in the table");
static_assert(sizeof(struct head) <= HEAD_SIZE, "the head fits into its place");

struct kv_seals {
    struct kv_seal_options options;
    struct head *head;
    struct entry *entries;
    uint32_t first[KV_MAX_GROUPS], n[KV_MAX_GROUPS]; /* entries of each group; pages of the pool among them */
    uint32_t n_entries;
    uint64_t seed;
    struct kv_seal *found; /* [n_found] */
    uint32_t n_found;
};

static _Atomic uint64_t *word(uint64_t *at)
{
    return (_Atomic uint64_t *)at;
}

/* ---- layout ---- */

static uint64_t pages_in(const struct kv_seal_options *o, uint64_t pool_size)
{
    uint64_t n = 0;
    for (int g = 0; g < o->n_groups; g++) {
        n += pool_size / o->page_size[g];
    }
    return n;
}

/* The table is divided as the largest pool is of which every page has an entry. It does not depend on the pool's size:
 * a smaller pool finds its entries where those of a larger one were. */
static void lay_out(struct kv_seals *s)
{
    const struct kv_seal_options *o = &s->options;
    uint64_t room = (o->size - HEAD_SIZE) / sizeof(struct entry), pool = 0;
    s->n_entries = room < INT32_MAX ? (uint32_t)room : INT32_MAX;
    for (uint64_t bit = (uint64_t)1 << MAX_POOL; bit; bit >>= 1) {
        pool |= pages_in(o, pool | bit) <= s->n_entries ? bit : 0;
    }
    uint32_t first = 0;
    for (int g = 0; g < o->n_groups; g++) {
        uint64_t most = pool / o->page_size[g], pages = o->pool_size / o->page_size[g];
        s->first[g] = first;
        s->n[g] = (uint32_t)(pages < most ? pages : most);
        first += (uint32_t)most;
    }
}

static uint32_t room_of(const struct kv_seals *s, int group)
{
    bool last = group + 1 == s->options.n_groups;
    return (last ? s->n_entries : s->first[group + 1]) - s->first[group];
}

bool kv_seal_covers(const struct kv_seals *s, int group, uint32_t page)
{
    return page < s->n[group];
}

static struct entry *entry_of(const struct kv_seals *s, int group, uint32_t page)
{
    return &s->entries[s->first[group] + page];
}

/* ---- entries ---- */

static uint64_t entry_sum(const struct kv_seals *s, int group, uint32_t page, const struct entry *e)
{
    return xxh3(e, offsetof(struct entry, sum), s->seed + ((uint64_t)group << 32 | page));
}

static uint64_t page_sum(const struct kv_seals *s, int group, uint32_t page, const struct sha256 *key)
{
    uint64_t seed;
    size_t size = s->options.page_size[group];
    memcpy(&seed, key->bytes, sizeof seed);
    return xxh3(s->options.pool + page * size, size, seed + (uint64_t)group);
}

static uint64_t part_sum(const struct kv_seals *s, int group, uint32_t page, uint32_t n_tokens)
{
    const struct kv_seal_options *o = &s->options;
    return o->sum(o->sum_arg, group, page, 0, n_tokens, (uint64_t)group, false);
}

static bool is_part(const struct kv_seals *s, const struct entry *e)
{
    return e->n_tokens != s->options.page_tokens;
}

/* A copy of the entry, if it is one. */
static bool read_entry(const struct kv_seals *s, int group, uint32_t page, struct entry *e)
{
    struct entry *at = entry_of(s, group, page);
    if (atomic_load_explicit(word(&at->state), memory_order_acquire) != SEALED) {
        return false;
    }
    memcpy(e, at, sizeof *e);
    if (e->sum != entry_sum(s, group, page, e)) {
        return false;
    }
    return !is_part(s, e) || (s->options.sum && e->n_tokens > 0 && e->n_tokens < s->options.page_tokens);
}

/* An exchange, since nothing that follows may happen before it. */
static void clear(struct entry *e)
{
    if (atomic_load_explicit(word(&e->state), memory_order_relaxed)) {
        atomic_exchange(word(&e->state), 0);
    }
}

static void write_entry(struct kv_seals *s, int group, uint32_t page, struct entry *e)
{
    struct entry *at = entry_of(s, group, page);
    e->sum = entry_sum(s, group, page, e);
    clear(at);
    memcpy(at, e, offsetof(struct entry, state));
    atomic_store_explicit(word(&at->state), SEALED, memory_order_release);
}

void kv_seal_put(struct kv_seals *s, int group, uint32_t page, const struct sha256 *key, uint32_t depth)
{
    if (kv_seal_covers(s, group, page)) {
        struct entry e = {.key = *key, .depth = depth, .n_tokens = s->options.page_tokens};
        e.page_sum = page_sum(s, group, page, key);
        write_entry(s, group, page, &e);
    }
}

bool kv_seals_parts(const struct kv_seals *s)
{
    return s->options.sum != NULL;
}

void kv_seal_put_part(struct kv_seals *s, int group, uint32_t page, const struct sha256 *key, uint32_t depth,
                      uint32_t n_tokens)
{
    const struct kv_seal_options *o = &s->options;
    struct entry e, last;
    if (!o->sum || !kv_seal_covers(s, group, page)) {
        return;
    }
    bool goes_on = read_entry(s, group, page, &last) && is_part(s, &last) && last.n_tokens <= n_tokens;
    if (goes_on && last.n_tokens == n_tokens && memcmp(&last.key, key, sizeof *key) == 0) {
        return;
    }
    e = (struct entry){.key = *key, .depth = depth, .n_tokens = n_tokens};
    uint32_t from = goes_on ? last.n_tokens : 0;
    e.page_sum = o->sum(o->sum_arg, group, page, from, n_tokens, goes_on ? last.page_sum : (uint64_t)group, true);
    write_entry(s, group, page, &e);
}

void kv_seal_remove(struct kv_seals *s, int group, uint32_t page)
{
    if (kv_seal_covers(s, group, page)) {
        clear(entry_of(s, group, page));
    }
}

bool kv_seal_holds(const struct kv_seals *s, int group, uint32_t page, const struct sha256 *key)
{
    struct entry e;
    if (!kv_seal_covers(s, group, page) || !read_entry(s, group, page, &e) || memcmp(&e.key, key, sizeof *key) != 0) {
        return false;
    }
    return e.page_sum == (is_part(s, &e) ? part_sum(s, group, page, e.n_tokens) : page_sum(s, group, page, key));
}

static struct kv_seal seal_of(const struct entry *e, int group, uint32_t page)
{
    return (struct kv_seal){.key = e->key, .depth = e->depth, .page = page, .n_tokens = e->n_tokens, .group = group};
}

bool kv_seal_get(const struct kv_seals *s, int group, uint32_t page, struct kv_seal *seal)
{
    struct entry e;
    if (!kv_seal_covers(s, group, page) || !read_entry(s, group, page, &e)) {
        return false;
    }
    *seal = seal_of(&e, group, page);
    return true;
}

uint32_t kv_seals_count(const struct kv_seals *s)
{
    uint32_t n = 0;
    struct entry e;
    for (int g = 0; g < s->options.n_groups; g++) {
        for (uint32_t i = 0; i < s->n[g]; i++) {
            n += read_entry(s, g, i, &e);
        }
    }
    return n;
}

/* ---- head ---- */

static struct head head_of(const struct kv_seals *s, uint64_t salt)
{
    const struct kv_seal_options *o = &s->options;
    struct head h = {.magic = MAGIC,
                     .version = VERSION,
                     .page_tokens = o->page_tokens,
                     .n_groups = (uint32_t)o->n_groups,
                     .n_entries = s->n_entries,
                     .identity = o->identity,
                     .salt = salt};
    for (int g = 0; g < o->n_groups; g++) {
        h.page_size[g] = o->page_size[g];
        h.first[g] = s->first[g];
    }
    h.sum = xxh3(&h, offsetof(struct head, sum), 0);
    return h;
}

static void seed(struct kv_seals *s, uint64_t salt)
{
    s->seed = xxh3(&s->options.identity, sizeof s->options.identity, salt);
}

static void begin_anew(struct kv_seals *s)
{
    struct head h = head_of(s, rng_entropy64());
    kv_seals_void(s->options.memory, s->options.size);
    memcpy(h.n_used, s->n, sizeof h.n_used);
    memcpy((char *)s->head + sizeof h.magic, (char *)&h + sizeof h.magic, sizeof h - sizeof h.magic);
    atomic_store_explicit(word(&s->head->magic), MAGIC, memory_order_release);
    seed(s, h.salt);
}

void kv_seals_void(uint8_t *memory, size_t size)
{
    if (size >= HEAD_SIZE) {
        atomic_exchange(word(&((struct head *)(void *)memory)->magic), 0);
    }
}

/* ---- what is found ---- */

static int children_first(const void *a, const void *b)
{
    const struct kv_seal *x = a, *y = b;
    if (x->depth != y->depth) {
        return x->depth > y->depth ? -1 : 1;
    }
    if (x->n_tokens != y->n_tokens) {
        return x->n_tokens < y->n_tokens ? -1 : 1;
    }
    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    return x->page < y->page ? -1 : x->page > y->page;
}

/* Of the pages that this pool has. Entries of others go: if a larger one follows, its pages will have been others'. */
static void find(struct kv_seals *s, const uint32_t n_used[KV_MAX_GROUPS])
{
    struct entry e;
    for (int g = 0; g < s->options.n_groups; g++) {
        for (uint32_t i = 0; i < n_used[g]; i++) {
            if (i >= s->n[g] || !read_entry(s, g, i, &e)) {
                clear(entry_of(s, g, i));
                continue;
            }
            s->found[s->n_found++] = seal_of(&e, g, i);
        }
    }
    qsort(s->found, s->n_found, sizeof *s->found, children_first);
}

/* The table as an engine before this one left it. False: it is not this engine's, or there is no memory for a list. */
static bool take_over(struct kv_seals *s)
{
    struct head h, want;
    uint32_t n_used[KV_MAX_GROUPS] = {0};
    size_t n = 0;
    memcpy(&h, s->head, sizeof h);
    want = head_of(s, h.salt);
    if (memcmp(&h, &want, offsetof(struct head, n_used)) != 0) {
        return false;
    }
    for (int g = 0; g < s->options.n_groups; g++) {
        uint32_t room = room_of(s, g);
        n_used[g] = h.n_used[g] < room ? h.n_used[g] : room; /* not under the sum: it may be anything */
        n_used[g] = n_used[g] < s->n[g] ? s->n[g] : n_used[g];
        n += n_used[g];
    }
    s->found = calloc(n ? n : 1, sizeof *s->found);
    if (!s->found) {
        return false;
    }
    seed(s, h.salt);
    find(s, n_used);
    memcpy(s->head->n_used, s->n, sizeof s->n);
    return true;
}

const struct kv_seal *kv_seals_found(const struct kv_seals *s, uint32_t *n)
{
    *n = s->n_found;
    return s->found;
}

/* ---- life ---- */

static bool check_options(const struct kv_seal_options *o, struct error *err)
{
    bool ok = o->size >= HEAD_SIZE + sizeof(struct entry) && (uintptr_t)o->memory % sizeof(uint64_t) == 0;
    for (int g = 0; g < o->n_groups; g++) {
        ok = ok && o->page_size[g] > 0;
    }
    return ok || error_set(err, ERR_INVALID, "Seals of KV pages need at least %zu bytes of memory; %zu are there.",
                           HEAD_SIZE + sizeof(struct entry), o->size);
}

struct kv_seals *kv_seals_open(const struct kv_seal_options *options, struct error *err)
{
    if (!check_options(options, err)) {
        return NULL;
    }
    struct kv_seals *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the seals of KV pages.");
        return NULL;
    }
    s->options = *options;
    s->head = (struct head *)(void *)options->memory;
    s->entries = (struct entry *)(void *)(options->memory + HEAD_SIZE);
    lay_out(s);
    if (!take_over(s)) {
        begin_anew(s);
    }
    return s;
}

void kv_seals_close(struct kv_seals *s)
{
    if (s) {
        free(s->found);
        free(s);
    }
}
