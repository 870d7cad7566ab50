/* The locale of a thread: numbers are read and written with a point inside, whatever the program has chosen for its
 * users. Without it printf and strtod of a program in German have a comma. */
#ifndef TANDEM_BASE_SYS_LOCALE_H
#define TANDEM_BASE_SYS_LOCALE_H

void *sys_locale_create(void); /* that of C; NULL: no memory */
void sys_locale_free(void *locale);

/* For the calling thread, until it uses another. Returns the one that it had, to be used again. NULL: changes nothing.
 */
void *sys_locale_use(void *locale);

#endif
