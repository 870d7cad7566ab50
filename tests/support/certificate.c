#include "tests/support/certificate.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DAY_S 86400L

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool fill(X509 *x, EVP_PKEY *key, const struct certificate *c)
{
    X509_NAME *name = X509_get_subject_name(x);
    long ends = c->days * DAY_S, begins = (c->days < 0 ? c->days - 1 : -1) * DAY_S;
    return X509_set_version(x, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), begins) && X509_gmtime_adj(X509_getm_notAfter(x), ends) &&
           X509_set_pubkey(x, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)c->name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, name) == 1 && add_extension(x, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1") && X509_sign(x, key, EVP_sha256()) > 0;
}

static FILE *create(const char *path, int mode)
{
    unlink(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
    return fd >= 0 ? fdopen(fd, "w") : NULL;
}

static bool write_key(EVP_PKEY *key, const struct certificate *c)
{
    FILE *file = create(c->key_path, 0600);
    const EVP_CIPHER *cipher = c->passphrase ? EVP_aes_256_cbc() : NULL;
    char *passphrase = (char *)c->passphrase;
    int n = passphrase ? (int)strlen(passphrase) : 0;
    bool ok = file && PEM_write_PKCS8PrivateKey(file, key, cipher, passphrase, n, NULL, NULL) == 1;
    return file ? (fclose(file) == 0 && ok) : false;
}

static bool write_certificate(X509 *x, const struct certificate *c)
{
    FILE *file = create(c->cert_path, 0644);
    bool ok = file && PEM_write_X509(file, x) == 1;
    return file ? (fclose(file) == 0 && ok) : false;
}

bool certificate_write(const struct certificate *c)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    bool ok = key && x && fill(x, key, c) && write_key(key, c) && write_certificate(x, c);
    EVP_PKEY_free(key);
    X509_free(x);
    return ok;
}
