/* Certificates for tests of TLS: self-signed, P-256, for "localhost" and 127.0.0.1. */
#ifndef TANDEM_TESTS_SUPPORT_CERTIFICATE_H
#define TANDEM_TESTS_SUPPORT_CERTIFICATE_H

#include <stdbool.h>

struct certificate {
    const char *cert_path, *key_path; /* PEM files to be written; the key with mode 0600 */
    const char *name;                 /* its common name */
    int days;                         /* of validity from now; negative: it has ended so many days ago */
    const char *passphrase;           /* of the key; NULL: none */
};

bool certificate_write(const struct certificate *c);

#endif
