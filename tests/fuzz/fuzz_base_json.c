/* JSON: whatever is accepted must be valid, print to text that is accepted again and prints the same, and be found by
 * its paths. */
#include "base/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_twice(const struct json *root)
{
    struct buf first, second;
    struct error err;
    buf_init(&first, (size_t)64 << 20);
    buf_init(&second, (size_t)64 << 20);
    json_print(&first, root);
    struct json *again = json_parse(buf_view(&first), 64, &err);
    if (!again) {
        abort();
    }
    json_print(&second, again);
    if (!str_eq(buf_view(&first), buf_view(&second))) {
        abort();
    }
    json_free(again);
    buf_release(&first);
    buf_release(&second);
}

static void read_all(const struct json *root)
{
    for (struct json_iter it = json_members(root); json_next(&it);) {
        if (json_get(root, it.key.ptr) != it.value) {
            abort();
        }
    }
    for (size_t i = 0; i < json_len(root); i++) {
        (void)json_at(root, i);
    }
    (void)json_str(root);
    (void)json_number_text(root);
    (void)json_double(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    char *copy = malloc(size ? size : 1); /* no NUL behind it */
    if (!copy) {
        return 0;
    }
    if (size) {
        memcpy(copy, data, size);
    }
    struct str text = {copy, size};
    struct json *root = json_parse(text, 0, &err);
    if (root) {
        read_all(root);
        print_twice(root);
        json_free(root);
    }
    (void)json_line_of(text, "a.b[1].c");
    (void)json_line_of(text, "[2][0]");
    free(copy);
    return 0;
}
