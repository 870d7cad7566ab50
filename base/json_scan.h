/* The pre-scan of json.c: what json-c does not check or tell. Bounded, not recursive. */
#ifndef TANDEM_BASE_JSON_SCAN_H
#define TANDEM_BASE_JSON_SCAN_H

#include "base/buf.h"

/* Refuses depth beyond max_depth, duplicate keys (compared after unescaping), lone surrogates and control characters in
 * strings, literals that are not JSON's, numbers beyond a double's range, and anything behind the value. INVALID with
 * line and column.
 *
 * json-c saturates integers beyond 64 bits; *widened (initialised here, released by the caller) gets the text with
 * JSON_WIDE_MARK behind each of those, so that they are read as doubles. It stays empty where there are none. */
NODISCARD bool json_scan(struct str text, int max_depth, struct buf *widened, struct error *err);

#define JSON_WIDE_MARK "e0"

#endif
