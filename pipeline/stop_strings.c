#include "pipeline/stop_strings.h"

bool stop_strings_find(const struct str *stops, size_t n_stops, struct str text, size_t from, size_t checked,
                       struct stop_match *match)
{
    for (size_t end = checked + 1; end <= text.len; end++) {
        bool found = false;
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = stops[i].len;
            if (len == 0 || len > end - (from < end ? from : end)) {
                continue;
            }
            if ((!found || end - len < match->begin) && memcmp(text.ptr + end - len, stops[i].ptr, len) == 0) {
                *match = (struct stop_match){.begin = end - len, .end = end, .which = i};
                found = true;
            }
        }
        if (found) {
            return true;
        }
    }
    return false;
}

size_t stop_strings_safe(const struct str *stops, size_t n_stops, struct str text, size_t from)
{
    size_t safe = text.len;
    for (size_t i = 0; i < n_stops; i++) {
        size_t tail = stops[i].len ? stops[i].len - 1 : 0;
        size_t room = text.len - (from < text.len ? from : text.len);
        for (tail = tail < room ? tail : room; tail > 0; tail--) {
            if (memcmp(text.ptr + text.len - tail, stops[i].ptr, tail) == 0) {
                safe = text.len - tail < safe ? text.len - tail : safe;
                break;
            }
        }
    }
    return safe;
}
