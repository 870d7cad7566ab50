/* The pre-scan of json.c: what json-c does not check or tell. Bounded, not recursive. */
#ifndef TANDEM_BASE_JSON_SCAN_H
#define TANDEM_BASE_JSON_SCAN_H

#include "base/buf.h"

struct json_scan {
    /* What json-c gets wrong is written differently for it: integers beyond 64 bits, which it saturates, have
     * JSON_WIDE_MARK behind them and so are read as doubles; escapes that it misreads are the characters themselves.
     * Empty where there is no such thing. Owned. */
    struct buf rewritten;
    /* What the tree must hold. json-c does not always notice when memory fails: strings come out shortened, and inner
     * values take the place of the root. */
    size_t n_values; /* also null */
    size_t n_bytes;  /* of all keys and strings, unescaped, and of the (marked) text of all doubles */
};

#define JSON_WIDE_MARK "e0"

/* Refuses depth beyond max_depth, more than max_values values, duplicate keys (compared after unescaping), lone
 * surrogates and control characters in strings, literals that are not JSON's, numbers beyond a double's range, and
 * anything behind the value. INVALID with line and column. *out is initialised in any case: json_scan_release. */
NODISCARD bool json_scan(struct str text, int max_depth, size_t max_values, struct json_scan *out, struct error *err);
void json_scan_release(struct json_scan *scan);

#endif
