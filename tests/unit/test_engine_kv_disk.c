/* The disk tier alone: what goes in comes out again, also after a restart, and nothing else ever does: not from
 * damaged, cut or foreign files, not under another writer, not on a disk that refuses. */
#include "engine/kv_disk_internal.h"
#include "tests/support/temp_dir.h"

#include "base/clock.h"
#include "base/sys_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define N_GROUPS   2
#define PAGE_A     5000 /* no multiple of anything */
#define PAGE_B     700
#define WAIT_MS    60000
#define SLOT_BYTES 8192

static struct temp_dir dir;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(&dir);
    return 0;
}

/* ---- blocks whose bytes follow from their key ---- */

struct chain {
    struct sha256 keys[600];
    uint32_t n;
};

static void make_chain(struct chain *c, const char *name, uint32_t n)
{
    struct sha256 parent = sha256_of(name, strlen(name));
    c->n = n;
    for (uint32_t i = 0; i < n; i++) {
        parent = c->keys[i] = sha256_of(&parent, sizeof parent);
    }
}

static size_t page_size(int group)
{
    return group == 0 ? PAGE_A : PAGE_B;
}

static void fill_page(const struct sha256 *key, int group, uint8_t *out)
{
    for (size_t i = 0; i < page_size(group); i++) {
        out[i] = (uint8_t)(key->bytes[i % SHA256_SIZE] + i / SHA256_SIZE + 31 * (size_t)group);
    }
}

static bool page_is_right(const struct sha256 *key, int group, const void *page)
{
    uint8_t wanted[PAGE_A];
    fill_page(key, group, wanted);
    return memcmp(wanted, page, page_size(group)) == 0;
}

/* ---- a tier ---- */

static struct kv_disk_options options_of(uint32_t n_slots)
{
    struct kv_disk_options o = {.dir = dir.path,
                                .max_size = 4096 + 1024 * 128 + (uint64_t)n_slots * SLOT_BYTES,
                                .identity = sha256_of("model", 5),
                                .page_tokens = 32,
                                .n_groups = N_GROUPS,
                                .page_size = {PAGE_A, PAGE_B}};
    return o;
}

static struct kv_disk *open_tier(const struct kv_disk_options *o)
{
    struct error err = {0};
    struct kv_disk *d = kv_disk_create(o, &err);
    if (!d) {
        fail_msg("%s", err.msg);
    }
    return d;
}

static struct kv_disk *open_default(uint32_t n_slots)
{
    struct kv_disk_options o = options_of(n_slots);
    return open_tier(&o);
}

static void check(const struct kv_disk *d)
{
    struct error err = {0};
    if (!kv_disk_check(d, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void close_tier(struct kv_disk *d)
{
    check(d);
    kv_disk_free(d);
}

/* Until nothing is on its way. No read may end meanwhile. */
static void settle(struct kv_disk *d)
{
    struct kv_disk_read r;
    int64_t until_ms = clock_ms() + WAIT_MS;
    while (assert_false(kv_disk_next(d, &r)), kv_disk_stats(d).queued > 0 || d->growing) {
        assert_true(clock_ms() < until_ms);
        clock_sleep_ms(1);
    }
    check(d);
}

static struct kv_disk_read wait_read(struct kv_disk *d)
{
    struct kv_disk_read r;
    int64_t until_ms = clock_ms() + WAIT_MS;
    while (!kv_disk_next(d, &r)) {
        assert_true(clock_ms() < until_ms);
        clock_sleep_ms(1);
    }
    return r;
}

static void offer(struct kv_disk *d, const struct chain *c, uint32_t i)
{
    static uint8_t pages[N_GROUPS][PAGE_A];
    struct kv_disk_block b = {.key = c->keys[i], .parent = i ? &c->keys[i - 1] : NULL, .depth = i, .cost_ns = 1000 + i};
    for (int g = 0; g < N_GROUPS; g++) {
        fill_page(&c->keys[i], g, pages[g]);
        b.pages[g] = pages[g];
    }
    kv_disk_offer(d, &b);
    memset(pages, 0xee, sizeof pages); /* the tier has its own copy */
}

/* Waits for each, so that buffers are never full. */
static void offer_all(struct kv_disk *d, const struct chain *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        offer(d, c, i);
        settle(d);
    }
}

/* What reading a block gives: right, nothing; or the test ends. */
static bool comes_back(struct kv_disk *d, const struct sha256 *key)
{
    if (!kv_disk_read(d, key, 3, 7, 1)) {
        return false;
    }
    struct kv_disk_read r = wait_read(d);
    assert_int_equal(r.ticket, 7);
    assert_int_equal(r.tag, 1);
    for (int g = 0; r.ok && g < N_GROUPS; g++) {
        assert_true(page_is_right(key, g, r.pages[g]));
    }
    return r.ok;
}

static uint32_t n_there(const struct kv_disk *d, const struct chain *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        n += kv_disk_has(d, &c->keys[i]);
    }
    return n;
}

static char *store_path(const struct kv_disk_options *o)
{
    char hex[2 * SHA256_SIZE + 1], name[100];
    sha256_hex(&o->identity, hex);
    snprintf(name, sizeof name, "tandem-kv1-%.32s.pages", hex);
    return temp_dir_file(&dir, name);
}

static uint64_t size_of_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ---- in and out ---- */

static void write_and_read(void **state)
{
    (void)state;
    struct kv_disk *d = open_default(100);
    struct chain c;
    make_chain(&c, "a", 20);
    assert_false(kv_disk_has(d, &c.keys[0]));
    assert_false(kv_disk_read(d, &c.keys[0], 3, 1, 0));
    offer_all(d, &c);
    assert_int_equal(kv_disk_stats(d).blocks, 20);
    assert_int_equal(kv_disk_stats(d).size, 20 * SLOT_BYTES);
    assert_int_equal(kv_disk_stats(d).limit, 100 * SLOT_BYTES);
    for (uint32_t i = 0; i < c.n; i++) {
        assert_true(comes_back(d, &c.keys[i]));
    }
    /* One group alone. */
    assert_true(kv_disk_read(d, &c.keys[3], 2, 5, 9));
    struct kv_disk_read r = wait_read(d);
    assert_true(r.ok && r.ticket == 5 && r.tag == 9 && !r.pages[0] && page_is_right(&c.keys[3], 1, r.pages[1]));
    /* Known blocks are not written again. */
    offer_all(d, &c);
    assert_int_equal(kv_disk_stats(d).written, 20);
    assert_int_equal(kv_disk_stats(d).read, 21);
    close_tier(d);
}

static void restart(void **state)
{
    (void)state;
    struct chain c, other;
    make_chain(&c, "a", 30);
    make_chain(&other, "b", 5);
    struct kv_disk *d = open_default(100);
    assert_int_equal(kv_disk_cost_ns(d), 0);
    offer_all(d, &c);
    close_tier(d);
    d = open_default(100);
    assert_int_equal(kv_disk_stats(d).blocks, 30);
    assert_int_equal(kv_disk_cost_ns(d), 1000 + 29);
    for (uint32_t i = 0; i < c.n; i++) {
        assert_true(comes_back(d, &c.keys[i]));
    }
    offer_all(d, &other);
    close_tier(d);
    d = open_default(100);
    assert_int_equal(n_there(d, &c) + n_there(d, &other), 35);
    close_tier(d);
    struct kv_disk_options o = options_of(100);
    o.identity = sha256_of("another build", 13);
    d = open_tier(&o);
    assert_int_equal(kv_disk_stats(d).blocks, 0);
    close_tier(d);
}

/* What is queued when it closes is written. */
static void close_writes(void **state)
{
    (void)state;
    struct chain c;
    make_chain(&c, "a", 64);
    struct kv_disk *d = open_default(100);
    for (uint32_t i = 0; i < c.n; i++) {
        offer(d, &c, i);
    }
    kv_disk_free(d);
    d = open_default(100);
    assert_int_equal(n_there(d, &c), 64);
    close_tier(d);
}

static void full_buffers(void **state)
{
    (void)state;
    struct kv_disk_options o = options_of(400);
    struct chain c;
    o.buffer_size = 1; /* the least: four */
    make_chain(&c, "a", 300);
    struct kv_disk *d = open_tier(&o);
    for (uint32_t i = 0; i < c.n; i++) {
        offer(d, &c, i); /* never waits: what does not fit is left out, and so are its children */
    }
    settle(d);
    struct kv_disk_stats s = kv_disk_stats(d);
    assert_true(s.written >= 2 && s.skipped > 0);
    assert_int_equal(s.written + s.skipped, 300);
    assert_int_equal(n_there(d, &c), s.written);
    for (uint32_t i = 0; i < s.written; i++) {
        assert_true(kv_disk_has(d, &c.keys[i])); /* no hole */
    }
    uint32_t asked = 0;
    while (kv_disk_read(d, &c.keys[0], 3, 7, 1)) {
        asked++;
        assert_true(asked <= 4);
    }
    assert_int_equal(asked, 4);
    for (; asked > 0; asked--) {
        assert_true(wait_read(d).ok);
    }
    settle(d);
    close_tier(d);
}

/* ---- room ---- */

static void oldest_makes_room(void **state)
{
    (void)state;
    struct chain a, b, c;
    make_chain(&a, "a", 8);
    make_chain(&b, "b", 8);
    make_chain(&c, "c", 4);
    struct kv_disk *d = open_default(16);
    offer_all(d, &a);
    offer_all(d, &b);
    assert_int_equal(kv_disk_stats(d).blocks, 16);
    for (uint32_t i = 8; i > 0; i--) { /* a is used again */
        kv_disk_touch(d, &a.keys[i - 1]);
    }
    offer_all(d, &c);
    assert_int_equal(n_there(d, &a), 8);
    assert_int_equal(n_there(d, &c), 4);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(kv_disk_has(d, &b.keys[i]), i < 4); /* cut from its end */
    }
    assert_int_equal(kv_disk_stats(d).recycled, 4);
    struct kv_disk_options o = options_of(16);
    char *path = store_path(&o);
    assert_true(size_of_file(path) <= o.max_size);
    free(path);
    close_tier(d);
    /* The order of use lasts. */
    d = open_default(16);
    struct chain e;
    make_chain(&e, "e", 12);
    offer_all(d, &e);
    assert_int_equal(n_there(d, &e), 12);
    assert_int_equal(n_there(d, &b), 0);
    assert_int_equal(n_there(d, &c), 4);
    assert_int_equal(n_there(d, &a), 0);
    close_tier(d);
}

static void one_chain_fills_it(void **state)
{
    (void)state;
    struct chain c;
    make_chain(&c, "a", 20);
    struct kv_disk *d = open_default(6);
    offer_all(d, &c);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(kv_disk_has(d, &c.keys[i]), i < 6); /* it does not eat its own parents */
    }
    assert_int_equal(kv_disk_stats(d).skipped, 14);
    close_tier(d);
}

static void many_segments(void **state)
{
    (void)state;
    struct kv_disk_layout l;
    struct error err = {0};
    struct kv_disk_options o = options_of(1);
    assert_true(kv_disk__layout_init(&l, &o, &err));
    assert_int_equal(l.slot_size, SLOT_BYTES);
    for (uint32_t n = 0; n < 5000; n++) {
        uint64_t size = kv_disk__file_size(&l, n);
        assert_int_equal(kv_disk__slots_in(&l, size), n);
        assert_int_equal(kv_disk__slots_in(&l, size + SLOT_BYTES - 1), n);
        assert_true(n == 0 || kv_disk__slot_offset(&l, n - 1) + SLOT_BYTES == size);
        assert_true(n < 2 || kv_disk__slot_offset(&l, n - 1) >= kv_disk__slot_offset(&l, n - 2) + SLOT_BYTES);
        uint64_t head = kv_disk__head_offset(&l, n), slot = kv_disk__slot_offset(&l, n);
        assert_true(head + 128 <= slot && (n % 1024 || head == (n ? size : KV_DISK_FILE_HEAD)));
    }
    struct kv_disk_options large = options_of(1);
    large.page_size[0] = SIZE_MAX / 2;
    assert_false(kv_disk__layout_init(&l, &large, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void smaller_limit(void **state)
{
    (void)state;
    struct chain c;
    make_chain(&c, "a", 20);
    struct kv_disk *d = open_default(100);
    offer_all(d, &c);
    close_tier(d);
    d = open_default(10);
    assert_true(n_there(d, &c) == 10);
    struct kv_disk_options o = options_of(10);
    char *path = store_path(&o);
    assert_true(size_of_file(path) <= o.max_size);
    free(path);
    close_tier(d);
}

/* ---- forgetting ---- */

static void forget(void **state)
{
    (void)state;
    struct chain c;
    make_chain(&c, "a", 10);
    struct kv_disk *d = open_default(100);
    offer_all(d, &c);
    kv_disk_forget(d, &c.keys[4]);
    kv_disk_forget(d, &c.keys[4]);
    assert_false(kv_disk_has(d, &c.keys[4]));
    offer(d, &c, 7); /* known */
    settle(d);
    close_tier(d);
    d = open_default(100);
    assert_int_equal(n_there(d, &c), 9);
    assert_false(kv_disk_has(d, &c.keys[4]));
    offer(d, &c, 4);
    kv_disk_forget(d, &c.keys[4]); /* while it is being written */
    assert_false(kv_disk_has(d, &c.keys[4]));
    settle(d);
    close_tier(d);
    d = open_default(100);
    assert_int_equal(n_there(d, &c), 9);
    close_tier(d);
}

static void clear(void **state)
{
    (void)state;
    struct kv_disk_options o = options_of(100);
    char *path = store_path(&o);
    struct chain c;
    make_chain(&c, "a", 40);
    struct kv_disk *d = open_tier(&o);
    offer_all(d, &c);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(kv_disk_read(d, &c.keys[i], 3, 1, i));
    }
    kv_disk_clear(d);
    assert_int_equal(n_there(d, &c), 0);
    for (uint32_t i = 0; i < 20; i++) {
        assert_false(wait_read(d).ok);
    }
    settle(d);
    for (uint32_t i = 0; i < 40; i++) {
        assert_false(comes_back(d, &c.keys[i]));
    }
    close_tier(d);
    d = open_tier(&o);
    assert_int_equal(kv_disk_stats(d).blocks, 0);
    offer_all(d, &c);
    kv_disk_clear(d);
    kv_disk_clear(d);
    settle(d);
    offer_all(d, &c);
    assert_int_equal(n_there(d, &c), 40);
    assert_true(comes_back(d, &c.keys[39]));
    close_tier(d);
    free(path);
}

static void cancel(void **state)
{
    (void)state;
    struct chain c;
    make_chain(&c, "a", 50);
    struct kv_disk *d = open_default(100);
    offer_all(d, &c);
    for (uint32_t i = 0; i < 50; i++) {
        assert_true(kv_disk_read(d, &c.keys[i], 3, i % 2, i));
    }
    kv_disk_cancel(d, 1);
    for (uint32_t i = 0; i < 50; i++) {
        struct kv_disk_read r = wait_read(d);
        assert_true(r.ok || r.ticket == 1);
        assert_true(!r.ok || page_is_right(&c.keys[r.tag], 0, r.pages[0]));
    }
    settle(d);
    assert_int_equal(n_there(d, &c), 50); /* nothing was wrong with them */
    assert_int_equal(kv_disk_stats(d).dropped, 0);
    close_tier(d);
}

/* ---- damage ---- */

static void write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && file_write_at(fd, 0, data, size) && close(fd) == 0);
}

struct image {
    struct kv_disk_options options;
    struct chain chain;
    char *path;
    struct buf bytes;
};

static void make_image(struct image *m, uint32_t n_blocks)
{
    struct error err = {0};
    m->options = options_of(n_blocks + 2);
    m->path = store_path(&m->options);
    make_chain(&m->chain, "a", n_blocks);
    struct kv_disk *d = open_tier(&m->options);
    offer_all(d, &m->chain);
    close_tier(d);
    assert_true(file_read(m->path, 1 << 24, &m->bytes, &err));
}

static void release_image(struct image *m)
{
    buf_release(&m->bytes);
    free(m->path);
}

/* Opens what lies there now and reads everything; returns how many blocks came back, all of them right. */
static uint32_t read_back(const struct image *m)
{
    struct kv_disk *d = open_tier(&m->options);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->chain.n; i++) {
        n += comes_back(d, &m->chain.keys[i]);
    }
    close_tier(d);
    return n;
}

/* As far as it reaches: bytes that belong to no block may change nothing. */
static void flip_bytes(void **state)
{
    (void)state;
    struct image m;
    make_image(&m, 2);
    assert_int_equal(read_back(&m), 2);
    struct kv_disk_layout l;
    struct error err = {0};
    assert_true(kv_disk__layout_init(&l, &m.options, &err));
    uint8_t *bytes = (uint8_t *)m.bytes.data;
    const struct {
        uint64_t from, to, step;
        uint32_t left; /* blocks that are still right, at most and at least */
    } ranges[] = {
        {0, 152, 1, 0},                                                         /* the file's head, with its identity */
        {kv_disk__head_offset(&l, 0), kv_disk__head_offset(&l, 0) + 128, 1, 1}, /* a slot's */
        {kv_disk__head_offset(&l, 1), kv_disk__head_offset(&l, 1) + 128, 1, 1},
        {kv_disk__slot_offset(&l, 0), kv_disk__slot_offset(&l, 0) + PAGE_A + PAGE_B, 97, 1}, /* pages */
        {kv_disk__slot_offset(&l, 1) + PAGE_A - 3, kv_disk__slot_offset(&l, 1) + PAGE_A + 3, 1, 1},
        {kv_disk__slot_offset(&l, 1) + PAGE_A + PAGE_B, kv_disk__slot_offset(&l, 1) + SLOT_BYTES, 501, 2}, /* padding */
    };
    for (size_t k = 0; k < sizeof ranges / sizeof ranges[0]; k++) {
        for (uint64_t at = ranges[k].from; at < ranges[k].to; at += ranges[k].step) {
            bytes[at] ^= (uint8_t)(1 << at % 8);
            write_file(m.path, bytes, m.bytes.len);
            assert_int_equal(read_back(&m), ranges[k].left);
            bytes[at] ^= (uint8_t)(1 << at % 8);
        }
    }
    release_image(&m);
}

static void cut_anywhere(void **state)
{
    (void)state;
    struct image m;
    make_image(&m, 4);
    size_t len = m.bytes.len;
    for (size_t i = 0; i <= 200; i++) {
        size_t cut = i <= 100 ? len * i / 100 : i * 41 % 4200;
        write_file(m.path, m.bytes.data, cut);
        uint32_t n = read_back(&m);
        assert_true(n <= 4 && (cut < len || n == 4));
        assert_true(cut >= 4096 + 1024 * 128 + SLOT_BYTES || n == 0);
    }
    release_image(&m);
}

/* Slots and pages that belong elsewhere are valid in themselves. */
static void moved_blocks(void **state)
{
    (void)state;
    struct image m;
    struct kv_disk_layout l;
    struct error err = {0};
    make_image(&m, 4);
    assert_true(kv_disk__layout_init(&l, &m.options, &err));
    uint8_t *bytes = (uint8_t *)m.bytes.data, *copy = malloc(m.bytes.len);
    memcpy(copy, bytes, m.bytes.len);
    memcpy(copy + kv_disk__head_offset(&l, 0), bytes + kv_disk__head_offset(&l, 1), 128); /* a head of another slot */
    write_file(m.path, copy, m.bytes.len);
    assert_int_equal(read_back(&m), 3);
    memcpy(copy, bytes, m.bytes.len);
    memcpy(copy + kv_disk__slot_offset(&l, 0), bytes + kv_disk__slot_offset(&l, 1), SLOT_BYTES); /* another's pages */
    write_file(m.path, copy, m.bytes.len);
    assert_int_equal(read_back(&m), 3);
    memcpy(copy, bytes, m.bytes.len);
    memset(copy + 4096, 0xff, m.bytes.len - 4096);
    write_file(m.path, copy, m.bytes.len);
    assert_int_equal(read_back(&m), 0);
    free(copy);
    release_image(&m);
}

/* The second of two heads with one key that is older does not count; both may be found after a crash. */
static void twice_the_same(void **state)
{
    (void)state;
    struct image m;
    struct kv_disk_layout l;
    struct error err = {0};
    make_image(&m, 3);
    assert_true(kv_disk__layout_init(&l, &m.options, &err));
    uint8_t *bytes = (uint8_t *)m.bytes.data;
    struct kv_disk_head head;
    assert_true(kv_disk__get_slot_head(&l, 0, bytes + kv_disk__head_offset(&l, 0), &head));
    head.generation += 5;
    kv_disk__put_slot_head(&l, 2, &head, bytes + kv_disk__head_offset(&l, 2)); /* the pages are right there too */
    memcpy(bytes + kv_disk__slot_offset(&l, 2), bytes + kv_disk__slot_offset(&l, 0), SLOT_BYTES);
    write_file(m.path, bytes, m.bytes.len);
    assert_int_equal(read_back(&m), 2);
    head.generation = UINT64_MAX; /* nothing would ever be newer */
    kv_disk__put_slot_head(&l, 2, &head, bytes + kv_disk__head_offset(&l, 2));
    write_file(m.path, bytes, m.bytes.len);
    assert_int_equal(read_back(&m), 2);
    release_image(&m);
}

/* Damage under an open store: what turns out bad is dropped for good, the rest goes on. */
static void damage_while_open(void **state)
{
    (void)state;
    struct image m;
    struct kv_disk_layout l;
    struct error err = {0};
    make_image(&m, 4);
    assert_true(kv_disk__layout_init(&l, &m.options, &err));
    struct kv_disk *d = open_tier(&m.options);
    int fd = open(m.path, O_RDWR);
    assert_true(file_write_at(fd, kv_disk__slot_offset(&l, 1) + 17, "damage", 6));
    close(fd);
    assert_false(comes_back(d, &m.chain.keys[1]));
    assert_false(kv_disk_has(d, &m.chain.keys[1]));
    assert_true(comes_back(d, &m.chain.keys[0]) && comes_back(d, &m.chain.keys[2]));
    assert_int_equal(kv_disk_stats(d).dropped, 1);
    offer(d, &m.chain, 1);
    settle(d);
    assert_true(comes_back(d, &m.chain.keys[1]));
    assert_int_equal(truncate(m.path, 4096), 0); /* nothing but its head is left */
    assert_false(comes_back(d, &m.chain.keys[2]));
    close_tier(d);
    release_image(&m);
}

/* ---- kill -9 ---- */

/* Writes new chains over old ones until somebody ends it. */
static void write_for_ever(uint32_t round)
{
    struct kv_disk *d = open_default(40);
    struct kv_disk_read ignored;
    for (uint32_t k = 0;; k++) {
        struct chain c;
        char name[32];
        snprintf(name, sizeof name, "%u.%u", round, k % 16);
        make_chain(&c, name, 20);
        for (uint32_t i = 0; i < c.n; i++) {
            offer(d, &c, i);
            (void)kv_disk_next(d, &ignored);
        }
    }
}

/* Heads are written last, so a process that is killed leaves whole blocks and nothing else. */
static void killed_while_writing(void **state)
{
    (void)state;
    uint32_t n = 0;
    for (uint32_t round = 0; round < 20; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            write_for_ever(round);
        }
        clock_sleep_ms(5 + 3 * round);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct kv_disk *d = open_default(40);
        for (uint32_t k = 0; k < 16; k++) {
            struct chain c;
            char name[32];
            snprintf(name, sizeof name, "%u.%u", round, k);
            make_chain(&c, name, 20);
            for (uint32_t i = 0; i < c.n; i++) {
                n += comes_back(d, &c.keys[i]);
            }
        }
        assert_int_equal(kv_disk_stats(d).dropped, 0);
        close_tier(d);
    }
    assert_true(n > 0);
}

/* ---- a disk that refuses ---- */

static void no_space(void **state)
{
    (void)state;
    struct chain c;
    struct rlimit before, small;
    make_chain(&c, "a", 30);
    struct kv_disk *d = open_default(100);
    for (uint32_t i = 0; i < 10; i++) {
        offer(d, &c, i);
        settle(d);
    }
    struct kv_disk_options o = options_of(100);
    char *path = store_path(&o);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = (rlim_t)(4096 + 1024 * 128 + 10 * SLOT_BYTES); /* writing beyond fails, as on a full disk */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    offer(d, &c, 10);
    settle(d);
    assert_int_equal(kv_disk_stats(d).errors, 1);
    assert_false(kv_disk_has(d, &c.keys[10]));
    offer(d, &c, 10); /* it is off: not even tried */
    settle(d);
    assert_int_equal(kv_disk_stats(d).errors, 1);
    setrlimit(RLIMIT_FSIZE, &before);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(comes_back(d, &c.keys[i]));
    }
    kv_disk_clear(d); /* what it held makes room: it tries again */
    settle(d);
    offer_all(d, &c);
    assert_int_equal(n_there(d, &c), 30);
    close_tier(d);
    free(path);
}

/* ---- who else is there ---- */

static void second_only_reads(void **state)
{
    (void)state;
    struct chain c, more;
    make_chain(&c, "a", 10);
    make_chain(&more, "b", 10);
    struct kv_disk *first = open_default(10);
    offer_all(first, &c);
    struct kv_disk *second = open_default(10);
    assert_int_equal(n_there(second, &c), 10);
    assert_true(comes_back(second, &c.keys[0]));
    offer_all(second, &more);
    assert_int_equal(n_there(second, &more), 0);
    kv_disk_forget(second, &c.keys[9]);
    assert_true(comes_back(first, &c.keys[9]));
    offer_all(first, &more); /* over the blocks that the second one knows */
    for (uint32_t i = 0; i < 9; i++) {
        assert_false(comes_back(second, &c.keys[i]));
    }
    kv_disk_clear(second);
    close_tier(second);
    assert_int_equal(n_there(first, &more), 10);
    close_tier(first);
    second = open_default(10); /* the lock is free again */
    assert_false(second->read_only);
    close_tier(second);
}

static void stores_share_a_folder(void **state)
{
    (void)state;
    struct kv_disk_options o = options_of(60), other = o, third = o;
    other.identity = sha256_of("other", 5);
    third.identity = sha256_of("third", 5);
    char *path = store_path(&o), *other_path = store_path(&other), *third_path = store_path(&third);
    struct chain c;
    make_chain(&c, "a", 20);
    struct kv_disk *d = open_tier(&o), *e;
    offer_all(d, &c);
    uint64_t first_size = size_of_file(path);
    e = open_tier(&other); /* beside one in use: what the limit leaves */
    offer_all(e, &c);
    assert_true(size_of_file(path) + size_of_file(other_path) <= o.max_size);
    assert_int_equal(size_of_file(path), first_size);
    close_tier(d);
    close_tier(e);
    assert_true(first_size > 0 && file_exists(path));
    d = open_tier(&third); /* nobody writes to the others any more: the oldest goes when there is need */
    make_chain(&c, "b", 60);
    offer_all(d, &c);
    assert_true(size_of_file(path) + size_of_file(other_path) + size_of_file(third_path) <= o.max_size);
    assert_false(file_exists(path));
    close_tier(d);
    free(path);
    free(other_path);
    free(third_path);
}

/* ---- folders ---- */

static void refused(const struct kv_disk_options *o, enum error_code code, const char *words)
{
    struct error err = {0};
    struct kv_disk *d = kv_disk_create(o, &err);
    assert_null(d);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, words)) {
        fail_msg("'%s' does not say '%s'", err.msg, words);
    }
}

static void bad_folders(void **state)
{
    (void)state;
    struct kv_disk_options o = options_of(10);
    char *file = temp_dir_file(&dir, "file"), *below = temp_dir_file(&dir, "file/below"), *path = store_path(&o);
    write_file(file, "x", 1);
    o.dir = file;
    refused(&o, ERR_IO, "Not a directory");
    o.dir = below;
    refused(&o, ERR_IO, "could not be made");
    o.dir = "";
    refused(&o, ERR_INVALID, "0 bytes");
    o.dir = dir.path;
    o.max_size = 4096 + 1024 * 128 + SLOT_BYTES - 1;
    refused(&o, ERR_INVALID, "too small");
    o = options_of(10);
    assert_int_equal(chmod(dir.path, 0777), 0);
    refused(&o, ERR_INVALID, "777");
    assert_int_equal(chmod(dir.path, 0700), 0);
    assert_int_equal(symlink(file, path), 0); /* not followed out of the folder */
    refused(&o, ERR_IO, "could not be opened");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(file, path), 0);
    refused(&o, ERR_IO, "could not be opened");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(&o, ERR_IO, "could not be opened");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(size_of_file(file), 1);
    free(file);
    free(below);
    free(path);
}

static void folders_are_made(void **state)
{
    (void)state;
    struct kv_disk_options o = options_of(10);
    char *parent = temp_dir_file(&dir, "parent"), *child = temp_dir_file(&dir, "parent/child/");
    struct stat st;
    o.dir = child;
    struct kv_disk *d = open_tier(&o);
    assert_int_equal(stat(child, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    char *path = store_path(&o), name[600];
    snprintf(name, sizeof name, "%s%s", child, strrchr(path, '/') + 1);
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close_tier(d);
    assert_int_equal(unlink(name), 0);
    snprintf(name, sizeof name, "%slock", child);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(child) | rmdir(parent), 0);
    free(parent);
    free(child);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(write_and_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(close_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(oldest_makes_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_chain_fills_it, set_up, tear_down),
        cmocka_unit_test(many_segments),
        cmocka_unit_test_setup_teardown(smaller_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(clear, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flip_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(moved_blocks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(twice_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_while_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_while_writing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_space, set_up, tear_down),
        cmocka_unit_test_setup_teardown(second_only_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stores_share_a_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(folders_are_made, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
