/* make_certificate NAME CERT KEY [DAYS [PASSPHRASE]]: a self-signed certificate for tests, see support/certificate.h.
 */
#include "tests/support/certificate.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: make_certificate NAME CERT KEY [DAYS [PASSPHRASE]]\n");
        return 2;
    }
    struct certificate c = {.name = argv[1],
                            .cert_path = argv[2],
                            .key_path = argv[3],
                            .days = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 2,
                            .passphrase = argc > 5 ? argv[5] : NULL};
    if (!certificate_write(&c)) {
        fprintf(stderr, "make_certificate: cannot write %s and %s\n", c.cert_path, c.key_path);
        return 1;
    }
    return 0;
}
