#include "mcp/policy.h"

#include "base/array.h"
#include "http/percent.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What programs need to find their files and to speak the user's language; nothing that is ever a secret. */
static const char *const inherited[] = {"HOME",  "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH",
                                        "SHELL", "TERM", "TMPDIR", "TZ",       "USER"};

/* Variables, or beginnings of them ('*'), that make a program run or load what the configuration does not name. */
static const char *const denied[] = {"LD_*",
                                     "DYLD_*",
                                     "GCONV_PATH",
                                     "NLSPATH",
                                     "LOCPATH",
                                     "MALLOC_*",
                                     "GLIBC_TUNABLES",
                                     "BASH_ENV",
                                     "BASH_FUNC_*",
                                     "ENV",
                                     "IFS",
                                     "SHELLOPTS",
                                     "BASHOPTS",
                                     "PS4",
                                     "PROMPT_COMMAND",
                                     "NODE_OPTIONS",
                                     "PYTHONSTARTUP",
                                     "PYTHONHOME",
                                     "PERL5OPT",
                                     "PERL5DB",
                                     "RUBYOPT",
                                     "JAVA_TOOL_OPTIONS",
                                     "_JAVA_OPTIONS",
                                     "JDK_JAVA_OPTIONS"};

static const char *const shells[] = {"sh",   "bash", "dash", "zsh",     "ksh",        "mksh", "csh",
                                     "tcsh", "fish", "ash",  "cmd.exe", "powershell", "pwsh"};

/* Which server it is, how long a message is, and what this client says of itself, are not for the configuration. */
static const char *const own_headers[] = {
    "host",    "content-length", "transfer-encoding",    "connection",    "content-type", "accept",  "expect",
    "upgrade", "mcp-session-id", "mcp-protocol-version", "last-event-id", "mcp-method",   "mcp-name"};

bool policy_check_command(const char *command, struct error *err)
{
    const char *slash = strrchr(command, '/'), *base = slash ? slash + 1 : command;
    if (!base[0] || (slash && command[0] != '/')) {
        return error_set(err, ERR_INVALID, "expected the absolute path of a program, or its name to be found on PATH.");
    }
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(base, shells[i]) == 0) {
            return error_set(err, ERR_INVALID, "'%s' is a shell: name the program itself, and its 'args'.", base);
        }
    }
    return true;
}

bool policy_check_variable(const char *name, struct error *err)
{
    struct str s = str_of(name);
    if (!s.len || s.len > 128 || strpbrk(name, "= \t\r\n")) {
        return error_set(err, ERR_INVALID, "'%.60s' is no name of a variable.", name);
    }
    for (size_t i = 0; i < ARRAY_LEN(denied); i++) {
        if (str_match(str_of(denied[i]), s)) {
            return error_set(err, ERR_INVALID, "the variable '%s' may not be set for a server.", name);
        }
    }
    return true;
}

bool policy_check_header(const char *name, const char *value, struct error *err)
{
    if (!is_token(str_of(name))) {
        return error_set(err, ERR_INVALID, "'%.60s' is no name of a header field.", name);
    }
    for (const char *c = value; *c; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
            return error_set(err, ERR_INVALID, "the value of '%.60s' has a character that no header field has.", name);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(own_headers); i++) {
        if (str_eq_nocase(str_of(name), str_of(own_headers[i]))) {
            return error_set(err, ERR_INVALID, "the header field '%s' is the client's own business.", name);
        }
    }
    return true;
}

/* ---- programs ---- */

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool policy_find_program(const char *command, const char *path, char *out, size_t size, struct error *err)
{
    struct str rest = str_of(path ? path : "/usr/local/bin:/usr/bin:/bin"), folder;
    if (!policy_check_command(command, err)) {
        return false;
    }
    if (command[0] == '/') {
        snprintf(out, size, "%s", command);
        return (strlen(command) < size && is_program(out)) ||
               error_set(err, ERR_NOT_FOUND, "'%.150s' is no program that can be started.", command);
    }
    while (str_split(&rest, ':', &folder)) {
        int n = snprintf(out, size, STR_FMT "/%s", STR_ARG(folder), command);
        if (folder.len && folder.ptr[0] == '/' && n > 0 && (size_t)n < size && is_program(out)) {
            return true;
        }
    }
    return error_set(err, ERR_NOT_FOUND, "there is no program '%.100s' in the folders of PATH.", command);
}

/* ---- environment ---- */

static struct str name_of(const char *entry)
{
    return str_slice(str_of(entry), 0, str_find_char(str_of(entry), '='));
}

static bool is_set(struct mcp_pairs env, struct str name)
{
    for (size_t i = 0; i < env.n; i++) {
        if (str_eq(name, str_of(env.items[i].name))) {
            return true;
        }
    }
    return false;
}

static bool is_inherited(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(inherited); i++) {
        if (str_eq(name, str_of(inherited[i]))) {
            return true;
        }
    }
    return false;
}

static char *join(struct arena *arena, const struct mcp_pair *pair)
{
    size_t size = strlen(pair->name) + strlen(pair->value) + 2;
    char *entry = arena_alloc(arena, size);
    if (entry) {
        snprintf(entry, size, "%s=%s", pair->name, pair->value);
    }
    return entry;
}

char **policy_environment(const char *const *environment, struct mcp_pairs env, struct arena *arena)
{
    size_t n = 0;
    char **out = arena_alloc_array(arena, ARRAY_LEN(inherited) + env.n + 1, sizeof *out);
    for (size_t i = 0; out && environment[i] && n < ARRAY_LEN(inherited); i++) {
        struct str name = name_of(environment[i]);
        if (is_inherited(name) && !is_set(env, name)) {
            out[n] = arena_strdup(arena, str_of(environment[i]));
            if (!out[n++]) {
                return NULL;
            }
        }
    }
    for (size_t i = 0; out && i < env.n; i++) {
        out[n] = join(arena, &env.items[i]);
        if (!out[n++]) {
            return NULL;
        }
    }
    return out;
}

/* ---- tools ---- */

static bool matches(struct mcp_words patterns, struct str name)
{
    for (size_t i = 0; i < patterns.n; i++) {
        if (str_match(str_of(patterns.items[i]), name)) {
            return true;
        }
    }
    return false;
}

bool policy_allows_tool(const struct mcp_server_config *server, struct str tool)
{
    return (server->allow.n == 0 || matches(server->allow, tool)) && !matches(server->deny, tool);
}
