/* Shared objects that are loaded while the program runs. */
#ifndef TANDEM_BASE_SYS_LIBRARY_H
#define TANDEM_BASE_SYS_LIBRARY_H

#include "base/error.h"

#include <stddef.h>

/* Loads a shared object with all that it needs, for as long as the process lives; its symbols are its own. NULL:
 * NOT_FOUND when there is no such file, UNSUPPORTED with the loader's words otherwise. Any thread. */
NODISCARD void *sys_library_open(const char *path, struct error *err);
/* The path of the program or shared object that this code is part of. False: the system does not say, or it is longer.
 */
bool sys_library_own_path(char *out, size_t size);
void *sys_library_symbol(void *library, const char *name); /* NULL when absent */

#endif
