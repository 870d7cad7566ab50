/* Validates for the parity checks. Standard input: one JSON object per line,
 *     {"documents": [{"uri": "...", "schema": {...}}]}         what later schemas may refer to; no answer
 *     {"schema": {...}, "data": [...], "format": false}
 * Standard output: per schema {"valid": [true, false], "why": [null, {"at", "keyword", "msg"}]}, with null in "valid"
 * where validation was given up, or {"error": "...", "code": "INVALID"}. */
#include "grammar/json_schema.h"

#include "base/limits.h"
#include "tests/support/read_line.h"

#include <stdio.h>

#define MAX_LINE ((size_t)64 << 20)

struct documents {
    struct json *root;
    struct json_schema_document items[LIMIT_SCHEMA_DOCUMENTS];
    size_t n;
};

static void take_documents(struct documents *d, struct json *root)
{
    const struct json *list = json_get(root, "documents");
    json_free(d->root);
    d->root = root;
    for (d->n = 0; d->n < json_len(list) && d->n < LIMIT_SCHEMA_DOCUMENTS; d->n++) {
        const struct json *item = json_at(list, d->n);
        d->items[d->n] = (struct json_schema_document){json_str(json_get(item, "uri")), json_get(item, "schema")};
    }
}

static void put_verdicts(struct json_writer *w, const struct json_schema *s, const struct json *data)
{
    struct buf why;
    buf_init(&why, MAX_LINE);
    struct json_writer reasons = json_writer(&why);
    json_begin_object(w);
    json_key(w, "valid");
    json_begin_array(w);
    json_begin_array(&reasons);
    for (size_t i = 0; i < json_len(data); i++) {
        struct json_schema_problem problem;
        bool valid = json_schema_validate(s, json_at(data, i), &problem);
        if (valid) {
            json_put_bool(w, true);
            json_put_null(&reasons);
            continue;
        }
        if (problem.code == ERR_INVALID) {
            json_put_bool(w, false);
        } else {
            json_put_null(w);
        }
        json_begin_object(&reasons);
        json_member_cstr(&reasons, "at", problem.at);
        json_member_cstr(&reasons, "keyword", problem.keyword);
        json_member_cstr(&reasons, "msg", problem.msg);
        json_end_object(&reasons);
    }
    json_end_array(w);
    json_end_array(&reasons);
    json_member_raw(w, "why", buf_view(&why));
    json_end_object(w);
    buf_release(&why);
}

static void answer(struct str line, struct documents *documents)
{
    struct error err = {0};
    struct buf reply;
    buf_init(&reply, 2 * MAX_LINE);
    struct json_writer w = json_writer(&reply);
    struct json *job = json_parse(line, 300, &err);
    if (job && json_get(job, "documents")) {
        take_documents(documents, job);
        return;
    }
    struct json_schema_options o = {.assert_format = json_bool(json_get(job, "format")),
                                    .documents = documents->items,
                                    .n_documents = documents->n};
    struct json_schema *s = job ? json_schema_compile(json_get(job, "schema"), &o, &err) : NULL;
    if (s) {
        put_verdicts(&w, s, json_get(job, "data"));
    } else {
        json_begin_object(&w);
        json_member_cstr(&w, "error", err.msg);
        json_member_cstr(&w, "code", error_info(err.code)->name);
        json_end_object(&w);
    }
    printf("%s\n", reply.data);
    fflush(stdout);
    json_schema_free(s);
    json_free(job);
    buf_release(&reply);
}

int main(void)
{
    struct buf line;
    struct documents documents = {0};
    buf_init(&line, MAX_LINE);
    while (read_line(stdin, &line)) {
        answer(buf_view(&line), &documents);
    }
    json_free(documents.root);
    buf_release(&line);
    return 0;
}
