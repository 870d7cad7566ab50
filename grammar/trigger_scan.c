#include "grammar/trigger_scan.h"

#include "base/limits.h"

#include <assert.h>
#include <stdlib.h>

struct node {
    uint16_t next[256]; /* where each byte leads */
    uint16_t fail;      /* the longest proper suffix that is a node */
    bool hit;           /* a text ends here */
};

struct trigger_scan {
    struct node *nodes; /* [n_nodes]; the first is the beginning */
    uint32_t n_nodes;
    struct str texts[LIMIT_TRIGGERS]; /* views into bytes */
    size_t n_texts;
    char *bytes;
};

static void add_text(struct trigger_scan *s, struct str text)
{
    uint32_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint16_t *next = &s->nodes[at].next[(uint8_t)text.ptr[i]];
        if (*next == 0) {
            *next = (uint16_t)s->n_nodes++;
        }
        at = *next;
    }
    s->nodes[at].hit = true;
}

/* Breadth first: the node that a failed byte leads to is nearer to the beginning, and so is finished already. */
static void link_nodes(struct trigger_scan *s, uint16_t *queue)
{
    uint32_t head = 0, tail = 0;
    for (int b = 0; b < 256; b++) {
        if (s->nodes[0].next[b]) {
            queue[tail++] = s->nodes[0].next[b];
        }
    }
    while (head < tail) {
        struct node *node = &s->nodes[queue[head++]];
        const struct node *fail = &s->nodes[node->fail];
        node->hit = node->hit || fail->hit;
        for (int b = 0; b < 256; b++) {
            if (node->next[b]) {
                s->nodes[node->next[b]].fail = fail->next[b];
                queue[tail++] = node->next[b];
            } else {
                node->next[b] = fail->next[b];
            }
        }
    }
}

static bool keep_texts(struct trigger_scan *s, const struct str *texts, size_t n, size_t total)
{
    char *at = s->bytes = malloc(total ? total : 1);
    for (size_t i = 0; at && i < n; i++) {
        memcpy(at, texts[i].ptr, texts[i].len);
        s->texts[s->n_texts++] = (struct str){at, texts[i].len};
        at += texts[i].len;
    }
    return s->bytes != NULL;
}

struct trigger_scan *trigger_scan_create(const struct str *texts, size_t n, struct error *err)
{
    size_t total = 0;
    assert(n <= LIMIT_TRIGGERS);
    for (size_t i = 0; i < n; i++) {
        assert(texts[i].len && texts[i].len <= LIMIT_TRIGGER_SIZE);
        total += texts[i].len;
    }
    struct trigger_scan *s = calloc(1, sizeof *s);
    uint16_t *queue = malloc((total + 1) * sizeof *queue);
    if (s) {
        s->nodes = calloc(total + 1, sizeof *s->nodes);
        s->n_nodes = 1;
    }
    if (!s || !queue || !s->nodes || !keep_texts(s, texts, n, total)) {
        free(queue);
        trigger_scan_free(s);
        error_set(err, ERR_NO_MEMORY, "There is no memory for the triggers of a constraint.");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        add_text(s, texts[i]);
    }
    link_nodes(s, queue);
    free(queue);
    return s;
}

void trigger_scan_free(struct trigger_scan *s)
{
    if (s) {
        free(s->nodes);
        free(s->bytes);
        free(s);
    }
}

size_t trigger_scan_feed(const struct trigger_scan *s, uint32_t *state, struct str bytes)
{
    uint32_t at = *state;
    for (size_t i = 0; i < bytes.len; i++) {
        at = s->nodes[at].next[(uint8_t)bytes.ptr[i]];
        if (s->nodes[at].hit) {
            *state = at;
            return i + 1;
        }
    }
    *state = at;
    return STR_NPOS;
}

bool trigger_scan_may_end(const struct trigger_scan *s, struct str bytes)
{
    for (size_t i = 0; i < s->n_texts; i++) {
        if (str_ends(s->texts[i], bytes) || str_ends(bytes, s->texts[i])) {
            return true;
        }
    }
    return false;
}
