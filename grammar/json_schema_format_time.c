/* `format` of dates, times and durations: RFC 3339, section 5.6 and appendix A. */
#include "grammar/json_schema_internal.h"

/* n digits off the front as a number; -1 when they are not there. */
static int take_digits(struct str *s, size_t n)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (i >= s->len || s->ptr[i] < '0' || s->ptr[i] > '9') {
            return -1;
        }
        value = value * 10 + (s->ptr[i] - '0');
    }
    *s = str_slice(*s, n, s->len);
    return value;
}

static bool take(struct str *s, const char *any_of)
{
    bool here = s->len && s->ptr[0] && strchr(any_of, s->ptr[0]);
    *s = str_slice(*s, here, s->len);
    return here;
}

static size_t take_run(struct str *s)
{
    size_t n = 0;
    while (take_digits(s, 1) >= 0) {
        n++;
    }
    return n;
}

static bool take_date(struct str *s)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = take_digits(s, 4);
    bool ok = year >= 0 && take(s, "-");
    int month = ok ? take_digits(s, 2) : -1;
    ok = month >= 1 && month <= 12 && take(s, "-");
    int day = ok ? take_digits(s, 2) : -1;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day >= 1 && day <= days[month - 1] + (month == 2 && leap);
}

/* "hh:mm" in minutes; -1 when it is none. */
static int take_minutes(struct str *s)
{
    int hour = take_digits(s, 2);
    bool ok = hour >= 0 && hour <= 23 && take(s, ":");
    int minute = ok ? take_digits(s, 2) : -1;
    return minute >= 0 && minute <= 59 ? hour * 60 + minute : -1;
}

/* A leap second is the last one of a day, in UTC. */
static bool take_time(struct str *s)
{
    int at = take_minutes(s);
    bool ok = at >= 0 && take(s, ":");
    int second = ok ? take_digits(s, 2) : -1;
    if (second < 0 || second > 60 || (take(s, ".") && !take_run(s))) {
        return false;
    }
    int offset = 0, sign = 0;
    if (!take(s, "zZ")) {
        sign = s->len && s->ptr[0] == '-' ? 1 : -1;
        offset = take(s, "+-") ? take_minutes(s) : -1;
    }
    int utc = (at + sign * offset + 48 * 60) % (24 * 60);
    return offset >= 0 && (second < 60 || utc == 23 * 60 + 59);
}

bool json_schema__is_date(struct str s)
{
    return take_date(&s) && !s.len;
}

bool json_schema__is_time(struct str s)
{
    return take_time(&s) && !s.len;
}

bool json_schema__is_date_time(struct str s)
{
    return take_date(&s) && take(&s, "tT") && take_time(&s) && !s.len;
}

/* Numbers with units in their order, each right behind the one before: P1Y1D is none. False when there is none. */
static bool take_units(struct str *s, const char *units)
{
    bool first = true;
    while (s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9') {
        take_run(s);
        const char *found = s->len && s->ptr[0] ? strchr(units, s->ptr[0]) : NULL;
        if (!found || (!first && found != units)) {
            return false;
        }
        units = found + 1;
        first = false;
        *s = str_slice(*s, 1, s->len);
    }
    return !first;
}

bool json_schema__is_duration(struct str s)
{
    if (!take(&s, "P") || !s.len) {
        return false;
    }
    if (s.ptr[s.len - 1] == 'W') {
        return take_units(&s, "W") && !s.len;
    }
    bool timed = s.ptr[0] == 'T';
    if (!timed && !take_units(&s, "YMD")) {
        return false;
    }
    return !s.len || (take(&s, "T") && take_units(&s, "HMS") && !s.len);
}
