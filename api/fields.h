/* Typed request fields: one table per API says for each field its type, bounds and where it goes. What a table does not
 * name is an unknown field: accepted and reported, or refused with --strict-fields. A documented field that Tandem does
 * not support is in the table too, with the values that mean its default; any other is refused by name. */
#ifndef TANDEM_API_FIELDS_H
#define TANDEM_API_FIELDS_H

#include "base/arena.h"
#include "base/json.h"
#include "pipeline/gen_request.h"
#include "pipeline/request_check.h"

enum field_kind {
    FIELD_BOOL,    /* bool */
    FIELD_I32,     /* int32_t, within min..max */
    FIELD_U32,     /* uint32_t */
    FIELD_I64,     /* int64_t */
    FIELD_SECONDS, /* number of seconds, kept as int64_t milliseconds */
    FIELD_FLOAT,   /* float; integers accepted */
    FIELD_STR,     /* struct str */
    FIELD_CUSTOM,  /* parse */
    FIELD_HINT,    /* any value of the right JSON type is fine: it asks for nothing that could be refused */
    FIELD_DEFAULT  /* only the values of `accepts` are fine */
};

struct decoding { /* state of one request's decoding */
    struct arena *arena;
    void *target;        /* the struct that offsets are into */
    struct buf *ignored; /* comma-separated names of unknown fields */
    bool strict;
    struct gen_request *request; /* whose sampling_given is noted; NULL: of none */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    double min, max; /* inclusive; numbers, and lengths of strings (0, 0: any) */
    bool (*parse)(struct decoding *d, const struct json *value, const char *name, struct error *err);
    const char *accepts; /* FIELD_DEFAULT: JSON texts separated by blanks; null always is */
    const char *type;    /* FIELD_CUSTOM, FIELD_HINT: for documents */
    const char *help;
};

/* Decodes every member of `object` by the tables (first match wins). null means that the field is absent. INVALID names
 * the field, what was expected and what came. */
NODISCARD bool fields_decode(struct decoding *d, const struct json *object, const struct field *const *tables,
                             int n_tables, struct error *err);

/* The members of an object that is the value of the field `name`; an error's param gets "name." before it. */
NODISCARD bool fields_decode_members(struct decoding *d, const struct json *v, const char *name,
                                     const struct field *members, struct error *err);

#endif
