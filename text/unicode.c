#include "text/unicode.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <utf8proc.h>

/* NFC as `tokenizers` does it knows fewer characters than utf8proc. The table marks those that it can change (SPECIAL)
 * and those that something after them can compose with (FIRST); every other character is inert: it neither moves nor
 * composes, so it separates the text into independent parts. utf8proc sees only runs of marked characters, and only
 * those runs that hold a SPECIAL one. */

static unsigned char_class(struct str text, size_t at, size_t *len)
{
    unsigned char c = (unsigned char)text.ptr[at];
    if (c < 0x80) {
        *len = 1;
        return unicode_class(c);
    }
    uint32_t code_point;
    *len = utf8_decode(str_slice(text, at, text.len), &code_point);
    return code_point == UTF8_INVALID ? 0 : unicode_class(code_point);
}

bool unicode_nfc_needed(struct str text)
{
    size_t len;
    for (size_t i = 0; i < text.len; i += len) {
        /* below U+0300 (lead bytes below 0xCC) nothing is special */
        if ((unsigned char)text.ptr[i] < 0xCC)
            len = (unsigned char)text.ptr[i] < 0x80 ? 1 : 2;
        else if (char_class(text, i, &len) & UC_NFC_SPECIAL)
            return true;
    }
    return false;
}

/* One run at a time, as code points. utf8proc decomposes characters and composes; the marks are put in order here,
 * because its own ordering is quadratic in the number of marks on one letter, which a client chooses. */
struct composer {
    utf8proc_int32_t *codes, *sorted; /* [n] */
    size_t n, cap, sorted_cap;
};

#define MAX_DECOMPOSED 8 /* canonical decompositions have at most 4 */

static bool decompose(struct composer *c, struct str run)
{
    struct error err;
    c->n = 0;
    for (size_t i = 0; i < run.len;) {
        uint32_t code_point;
        int boundary = 0;
        if (!array_reserve(&c->codes, &c->cap, c->n + MAX_DECOMPOSED, SIZE_MAX / 64, "characters", &err))
            return false;
        i += utf8_decode(str_slice(run, i, run.len), &code_point);
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code_point, c->codes + c->n, MAX_DECOMPOSED,
                                                     UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
        if (n < 0 || n > MAX_DECOMPOSED)
            return false;
        c->n += (size_t)n;
    }
    return true;
}

static unsigned combining_class(utf8proc_int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & 0xFF;
}

/* Stable counting sort of the marks [from, to) by combining class. */
static bool sort_marks(struct composer *c, size_t from, size_t to)
{
    struct error err;
    size_t start[257] = {0};
    if (!array_reserve(&c->sorted, &c->sorted_cap, to - from, SIZE_MAX / 64, "characters", &err))
        return false;
    for (size_t i = from; i < to; i++)
        start[combining_class(c->codes[i]) + 1]++;
    for (size_t k = 1; k < 257; k++)
        start[k] += start[k - 1];
    for (size_t i = from; i < to; i++)
        c->sorted[start[combining_class(c->codes[i])]++] = c->codes[i];
    memcpy(c->codes + from, c->sorted, (to - from) * sizeof *c->codes);
    return true;
}

static bool order_marks(struct composer *c)
{
    size_t from = 0; /* start of the marks so far */
    bool ordered = true;
    for (size_t i = 0; i <= c->n; i++) {
        unsigned cls = i < c->n ? combining_class(c->codes[i]) : 0;
        if (cls) {
            ordered = ordered && (i == from || combining_class(c->codes[i - 1]) <= cls);
            continue;
        }
        if (!ordered && !sort_marks(c, from, i))
            return false;
        ordered = true;
        from = i + 1;
    }
    return true;
}

static void compose_run(struct composer *c, struct str run, struct buf *out)
{
    if (!decompose(c, run) || !order_marks(c)) {
        out->failed = true; /* memory: runs are valid UTF-8 */
        return;
    }
    utf8proc_ssize_t n = utf8proc_normalize_utf32(c->codes, (utf8proc_ssize_t)c->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        buf_append_bytes(out, bytes, utf8_encode((uint32_t)c->codes[i], bytes));
    }
}

void unicode_nfc(struct str text, struct buf *out)
{
    struct composer composer = {0};
    size_t copied = 0; /* everything before it is in out */
    for (size_t i = 0; i < text.len;) {
        size_t len = 1, start = i;
        unsigned seen = 0, cls;
        while (i < text.len && ((cls = char_class(text, i, &len)) & (UC_NFC_SPECIAL | UC_NFC_FIRST))) {
            seen |= cls;
            i += len;
        }
        if (seen & UC_NFC_SPECIAL) {
            buf_append(out, str_slice(text, copied, start));
            compose_run(&composer, str_slice(text, start, i), out);
            copied = i;
        }
        if (i == start)
            i += len;
    }
    buf_append(out, str_slice(text, copied, text.len));
    free(composer.codes);
    free(composer.sorted);
}

/* NFD changes and moves nothing but these. ASCII does neither; Hangul syllables with a trailing consonant are not
 * marked, because NFC leaves them alone. */
static bool in_nfd_run(struct str text, size_t at, size_t *len)
{
    unsigned cls = char_class(text, at, len);
    bool ascii = (unsigned char)text.ptr[at] < 0x80;
    bool hangul = *len == 3 && memcmp(text.ptr + at, "\xEA\xB0\x80", 3) >= 0 &&
                  memcmp(text.ptr + at, "\xED\x9E\xA3", 3) <= 0; /* U+AC00 to U+D7A3 */
    return !ascii && (hangul || cls & (UC_NFC_SPECIAL | UC_NFC_FIRST));
}

static void decompose_run(struct composer *c, struct str run, struct buf *out)
{
    if (!decompose(c, run) || !order_marks(c)) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < c->n; i++) {
        char bytes[4];
        buf_append_bytes(out, bytes, utf8_encode((uint32_t)c->codes[i], bytes));
    }
}

void unicode_nfd(struct str text, struct buf *out)
{
    struct composer composer = {0};
    size_t copied = 0; /* everything before it is in out */
    for (size_t i = 0; i < text.len;) {
        size_t len = 1, start = i;
        while (i < text.len && in_nfd_run(text, i, &len))
            i += len;
        if (i == start) {
            i += len;
            continue;
        }
        buf_append(out, str_slice(text, copied, start));
        decompose_run(&composer, str_slice(text, start, i), out);
        copied = i;
    }
    buf_append(out, str_slice(text, copied, text.len));
    free(composer.codes);
    free(composer.sorted);
}

void unicode_sanitize(struct str text, struct buf *out)
{
    size_t copied = 0, i = 0;
    while (i < text.len) {
        uint32_t code_point = 0;
        size_t len = 1;
        if ((unsigned char)text.ptr[i] >= 0x80)
            len = utf8_decode(str_slice(text, i, text.len), &code_point);
        if (code_point == UTF8_INVALID) {
            buf_append(out, str_slice(text, copied, i));
            buf_puts(out, "\xEF\xBF\xBD");
            copied = i + len;
        }
        i += len;
    }
    buf_append(out, str_slice(text, copied, text.len));
}
