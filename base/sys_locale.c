#include "base/sys_locale.h"

#include <locale.h>
#include <stddef.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

void *sys_locale_create(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

void sys_locale_free(void *locale)
{
    if (locale) {
        freelocale((locale_t)locale);
    }
}

void *sys_locale_use(void *locale)
{
    return uselocale((locale_t)locale);
}
