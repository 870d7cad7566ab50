/* The delimiter begins with the only CR that it has, so where it does not go on, none of the bytes that were held back
 * can begin another one but the last that came. */
#include "http/multipart.h"

#include "base/array.h"
#include "http/percent.h"

#include <stdio.h>

void multipart_init(struct multipart *m, const char *boundary)
{
    *m = (struct multipart){.matched = 2, .n_before = 2}; /* the first boundary needs no line before it */
    int n = snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    m->n_delimiter = n > 0 && n < (int)sizeof m->delimiter ? (size_t)n : sizeof m->delimiter - 1;
    buf_init(&m->name, MULTIPART_NAME_MAX);
    buf_init(&m->filename, MULTIPART_NAME_MAX);
    buf_init(&m->line, MULTIPART_HEAD_MAX);
}

void multipart_release(struct multipart *m)
{
    buf_release(&m->name);
    buf_release(&m->filename);
    buf_release(&m->line);
}

bool multipart_ended(const struct multipart *m)
{
    return m->state == MULTIPART_EPILOGUE;
}

static void take(struct str *input, size_t n)
{
    *input = str_slice(*input, n, input->len);
}

static enum multipart_next fail(struct multipart *m)
{
    m->state = MULTIPART_FAILED;
    return MULTIPART_ERROR;
}

/* ---- parameters: ; name=token or ; name="quoted" ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str skip_blanks(struct str s)
{
    while (s.len && is_blank(s.ptr[0])) {
        s = str_slice(s, 1, s.len);
    }
    return s;
}

/* What browsers write for the characters that a quoted name cannot have. */
static bool take_escape(struct str *s, struct buf *out)
{
    static const struct {
        const char *text;
        char c;
    } escapes[] = {{"%22", '"'}, {"%0D", '\r'}, {"%0A", '\n'}, {"\\\"", '"'}, {"\\\\", '\\'}};
    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        struct str text = str_of(escapes[i].text);
        if (s->len >= text.len && str_eq_nocase(str_slice(*s, 0, text.len), text)) {
            buf_putc(out, escapes[i].c);
            take(s, text.len);
            return true;
        }
    }
    return false;
}

static bool take_quoted(struct str *s, struct buf *out)
{
    take(s, 1);
    while (s->len && s->ptr[0] != '"') {
        if (!take_escape(s, out)) {
            buf_putc(out, s->ptr[0]);
            take(s, 1);
        }
    }
    if (s->len == 0) {
        return false;
    }
    take(s, 1);
    return true;
}

static bool take_token(struct str *s, struct str *token)
{
    size_t n = 0;
    while (n < s->len && is_token_char(s->ptr[n])) {
        n++;
    }
    *token = str_slice(*s, 0, n);
    take(s, n);
    return n > 0;
}

/* The next parameter off *s, its value in out (cleared first). False: there is none, or *bad. */
static bool next_parameter(struct str *s, struct str *name, struct buf *out, bool *bad)
{
    buf_clear(out);
    *s = skip_blanks(*s);
    if (s->len == 0) {
        return false;
    }
    *bad = true;
    if (s->ptr[0] != ';') {
        return false;
    }
    take(s, 1);
    *s = skip_blanks(*s);
    if (s->len == 0) { /* a semicolon at the end does no harm */
        *bad = false;
        return false;
    }
    if (!take_token(s, name) || s->len == 0 || s->ptr[0] != '=') {
        return false;
    }
    take(s, 1);
    struct str token;
    if (s->len && s->ptr[0] == '"') {
        *bad = !take_quoted(s, out);
    } else {
        *bad = !take_token(s, &token);
        buf_append(out, token);
    }
    return !*bad;
}

/* ---- the type of the body ---- */

static bool valid_boundary(struct str b)
{
    for (size_t i = 0; i < b.len; i++) {
        char c = b.ptr[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  (c && strchr("'()+_,-./:=? ", c));
        if (!ok) {
            return false;
        }
    }
    return b.len >= 1 && b.len <= MULTIPART_BOUNDARY_MAX && b.ptr[b.len - 1] != ' ';
}

bool multipart_boundary(struct str content_type, char out[MULTIPART_BOUNDARY_MAX + 1], struct error *err)
{
    size_t end = str_find_char(content_type, ';');
    struct str media = str_trim(str_slice(content_type, 0, end));
    struct str rest = str_slice(content_type, media.len ? end : content_type.len, content_type.len), name;
    struct buf value;
    bool bad = false, found = false;
    if (!str_eq_nocase(media, STR("multipart/form-data"))) {
        return error_set(err, ERR_BAD_MEDIA_TYPE, "The body must be multipart/form-data, not '" STR_FMT "'.",
                         STR_ARG(str_slice(media, 0, 100)));
    }
    buf_init(&value, MULTIPART_NAME_MAX);
    while (!found && next_parameter(&rest, &name, &value, &bad)) {
        found = str_eq_nocase(name, STR("boundary"));
    }
    found = found && !value.failed && valid_boundary(buf_view(&value));
    if (found) {
        snprintf(out, MULTIPART_BOUNDARY_MAX + 1, "%s", value.data);
    } else {
        error_set(err, ERR_INVALID, "The Content-Type multipart/form-data needs a 'boundary' of 1 to %d characters.",
                  MULTIPART_BOUNDARY_MAX);
    }
    buf_release(&value);
    return found;
}

/* ---- data up to the next delimiter ---- */

/* Bytes of *input that are data for sure become *data. True when the delimiter is complete. */
static bool scan(struct multipart *m, struct str *input, struct str *data)
{
    size_t n = 0;
    if (m->matched) {
        while (n < input->len && m->matched < m->n_delimiter && input->ptr[n] == m->delimiter[m->matched]) {
            n++;
            m->matched++;
        }
        take(input, n);
        if (m->matched == m->n_delimiter) {
            m->matched = m->n_before = 0;
            return true;
        }
        if (input->len) { /* it was none: what was held back is data */
            *data = (struct str){m->delimiter + m->n_before, m->matched - m->n_before};
            m->matched = m->n_before = 0;
        }
        return false;
    }
    size_t cr = str_find_char(*input, '\r');
    *data = str_slice(*input, 0, cr);
    take(input, data->len);
    if (input->len) {
        take(input, 1);
        m->matched = 1;
    }
    return false;
}

static enum multipart_next next_content(struct multipart *m, struct str *input, struct str *data)
{
    while (input->len) {
        *data = (struct str){0};
        if (scan(m, input, data)) {
            bool preamble = m->state == MULTIPART_PREAMBLE;
            m->state = MULTIPART_DELIMITED;
            buf_clear(&m->line);
            m->line_cr = false;
            return preamble ? MULTIPART_MORE : MULTIPART_PART_END;
        }
        if (data->len && m->state == MULTIPART_CONTENT) {
            return MULTIPART_DATA;
        }
    }
    return MULTIPART_MORE;
}

/* ---- lines ---- */

/* True: m->line has one, without its CR LF. False: *err is set, or there is no more input. */
static bool read_line(struct multipart *m, struct str *input, struct error *err)
{
    while (input->len) {
        char c = input->ptr[0];
        take(input, 1);
        if (m->line_cr) {
            m->line_cr = false;
            return c == '\n' || error_set(err, ERR_INVALID, "A line of a part's head must end with CR LF.");
        }
        if (c == '\r') {
            m->line_cr = true;
            continue;
        }
        if (c == '\n' || c == '\0') {
            return error_set(err, ERR_INVALID, "A line of a part's head must end with CR LF and have no NUL.");
        }
        if (++m->head_size > MULTIPART_HEAD_MAX) {
            return error_set(err, ERR_HEADERS_TOO_LARGE, "The header fields of a part must have at most %zu bytes.",
                             MULTIPART_HEAD_MAX);
        }
        buf_putc(&m->line, c);
        if (!buf_ok(&m->line, "a line of a part's head", err)) {
            return false;
        }
    }
    return false;
}

/* "--" ends the body; blanks may stand before the end of the line. */
static enum multipart_next next_delimited(struct multipart *m, struct str *input, struct error *err)
{
    while (input->len) {
        if (m->line.len == 2) {
            m->state = MULTIPART_EPILOGUE;
            return MULTIPART_MORE;
        }
        if (!m->line_cr && input->ptr[0] == '-') {
            buf_putc(&m->line, '-');
            take(input, 1);
            if (m->line.len == 2) {
                m->state = MULTIPART_EPILOGUE;
                return MULTIPART_MORE;
            }
            continue;
        }
        if (m->line.len == 0 && !m->line_cr && is_blank(input->ptr[0])) {
            take(input, 1);
            continue;
        }
        if (m->line.len == 0 && read_line(m, input, err)) {
            if (m->line.len == 0) {
                m->state = MULTIPART_FIELDS;
                return MULTIPART_MORE;
            }
        }
        if (err->code != ERR_NONE || m->line.len) {
            error_set(err, ERR_INVALID, "A boundary must be followed by CR LF, or by \"--\" at the end of the body.");
            return fail(m);
        }
    }
    return MULTIPART_MORE;
}

/* ---- the head of a part ---- */

static bool read_disposition(struct multipart *m, struct str value, struct error *err)
{
    struct str type, name;
    struct buf text;
    bool bad = false, has_name = false;
    struct str rest = skip_blanks(value);
    if (!take_token(&rest, &type) || !str_eq_nocase(type, STR("form-data"))) {
        return error_set(err, ERR_INVALID, "A part's Content-Disposition must be form-data.");
    }
    buf_init(&text, MULTIPART_NAME_MAX);
    while (next_parameter(&rest, &name, &text, &bad) && !text.failed) {
        struct buf *target = str_eq_nocase(name, STR("name"))       ? &m->name
                             : str_eq_nocase(name, STR("filename")) ? &m->filename
                                                                    : NULL;
        has_name = has_name || target == &m->name;
        m->has_filename = m->has_filename || target == &m->filename;
        if (target) {
            buf_clear(target);
            buf_append(target, buf_view(&text));
        }
    }
    bool failed = text.failed || m->name.failed || m->filename.failed;
    buf_release(&text);
    if (failed) {
        return error_set(err, ERR_TOO_LARGE, "The names of a part must have at most %zu bytes.", MULTIPART_NAME_MAX);
    }
    return (!bad && has_name) ||
           error_set(err, ERR_INVALID, "A part needs a Content-Disposition: form-data; name=\"...\".");
}

static bool read_field(struct multipart *m, struct error *err)
{
    static const char *const plain[] = {"7bit", "8bit", "binary"};
    struct str line = buf_view(&m->line);
    size_t colon = str_find_char(line, ':');
    struct str name = str_slice(line, 0, colon), value = str_trim(str_slice(line, colon + 1, line.len));
    bool valid = colon != STR_NPOS && name.len > 0;
    for (size_t i = 0; i < name.len; i++) {
        valid = valid && is_token_char(name.ptr[i]);
    }
    if (!valid) {
        return error_set(err, ERR_INVALID, "A header field of a part must be a name, a colon and a value.");
    }
    if (str_eq_nocase(name, STR("content-disposition"))) {
        if (m->has_disposition) {
            return error_set(err, ERR_INVALID, "A part must have one Content-Disposition.");
        }
        m->has_disposition = true;
        return read_disposition(m, value, err);
    }
    bool encoded = str_eq_nocase(name, STR("content-transfer-encoding"));
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        encoded = encoded && !str_eq_nocase(value, str_of(plain[i]));
    }
    return !encoded ||
           error_set(err, ERR_UNSUPPORTED, "A part's Content-Transfer-Encoding must be binary, not '" STR_FMT "'.",
                     STR_ARG(str_slice(value, 0, 60)));
}

static void begin_part(struct multipart *m)
{
    buf_clear(&m->name);
    buf_clear(&m->filename);
    m->has_filename = m->has_disposition = false;
}

static enum multipart_next next_fields(struct multipart *m, struct str *input, struct error *err)
{
    while (read_line(m, input, err)) {
        if (m->line.len == 0) {
            m->state = MULTIPART_CONTENT;
            m->matched = m->n_before = 2; /* a part may be empty: its boundary follows the blank line */
            m->head_size = 0;
            if (!m->has_disposition) {
                error_set(err, ERR_INVALID, "A part needs a Content-Disposition: form-data; name=\"...\".");
                return fail(m);
            }
            return MULTIPART_PART;
        }
        if (!read_field(m, err)) {
            return fail(m);
        }
        buf_clear(&m->line);
    }
    return err->code != ERR_NONE ? fail(m) : MULTIPART_MORE;
}

static enum multipart_next begin_fields(struct multipart *m, struct error *err)
{
    if (++m->n_parts > MULTIPART_PARTS_MAX) {
        error_set(err, ERR_TOO_LARGE, "The body must have at most %d parts.", MULTIPART_PARTS_MAX);
        return fail(m);
    }
    begin_part(m);
    buf_clear(&m->line);
    return MULTIPART_MORE;
}

static enum multipart_next step(struct multipart *m, struct str *input, struct str *data, struct error *err)
{
    enum multipart_next result;
    switch (m->state) {
    case MULTIPART_PREAMBLE:
    case MULTIPART_CONTENT:
        return next_content(m, input, data);
    case MULTIPART_DELIMITED:
        result = next_delimited(m, input, err);
        return m->state == MULTIPART_FIELDS ? begin_fields(m, err) : result;
    case MULTIPART_FIELDS:
        return next_fields(m, input, err);
    case MULTIPART_EPILOGUE:
        take(input, input->len);
        return MULTIPART_MORE;
    case MULTIPART_FAILED:
        break;
    }
    error_set(err, ERR_INTERNAL, "A reader of parts that has failed was called again.");
    return MULTIPART_ERROR;
}

enum multipart_next multipart_next(struct multipart *m, struct str *input, struct str *data, struct error *err)
{
    enum multipart_next result;
    do {
        result = step(m, input, data, err);
    } while (result == MULTIPART_MORE && input->len);
    return result;
}
