/* What this build is. */
#ifndef TANDEM_LIB_VERSION_H
#define TANDEM_LIB_VERSION_H

#include "include/tandem.h" /* tandem_version */

const char *tandem_build(void); /* version and build id; part of the fingerprint */

#endif
