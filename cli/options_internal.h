/* Shared by the files of the options only:
 *
 *     options_table.c  every option
 *     options_value.c  what its text means
 *     options.c        where texts come from: flags, environment, config file; and those again
 *     options_help.c   --help and docs/OPTIONS.md */
#ifndef TANDEM_CLI_OPTIONS_INTERNAL_H
#define TANDEM_CLI_OPTIONS_INTERNAL_H

#include "base/json.h"
#include "cli/options.h"

enum option_kind { OPTION_STR, OPTION_INT, OPTION_SIZE, OPTION_FLOAT, OPTION_I32, OPTION_BOOL, OPTION_LIST };

struct option {
    const char *name; /* without dashes */
    enum option_kind kind;
    int commands; /* enum command */
    size_t offset;
    double min, max;
    const char *fallback; /* as the user would write it; NULL: unset */
    const char *value;    /* name of the value in help */
    const char *help;
};

/* ---- options_table.c ---- */

extern const struct option options__table[]; /* ends with one without a name */
/* The option of this name of one of these commands; NULL: there is none. "top_k" is "top-k". */
const struct option *options__find(struct str name, int commands);
void options__flag(const struct option *o, char *out, size_t size); /* --top-k */
/* Whether SIGHUP reads it again. */
bool options__is_reloadable(const struct option *o);
/* Whether a model may have it for itself (cli/models_file.h). */
bool options__is_of_model(const struct option *o);

/* ---- options.c ---- */

/* The value of a config file's member. */
NODISCARD bool options__set_json(const struct option *o, const struct json *v, struct arena *arena, struct options *out,
                                 const char *where, struct error *err);
/* What a model's options say together. INVALID. */
NODISCARD bool options__check_model(const struct options *o, struct error *err);

/* ---- options_value.c ---- */

/* Puts the value of this text where out has it; a list gets one more. INVALID begins with `where`. */
NODISCARD bool options__set(const struct option *o, const char *text, struct options *out, const char *where,
                            struct error *err);
struct option_list *options__list(const struct option *o, struct options *out); /* of an OPTION_LIST */
bool options__equal(const struct option *o, const struct options *a, const struct options *b);
void options__copy(const struct option *o, const struct options *from, struct options *to);

#endif
