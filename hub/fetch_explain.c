#include "hub/fetch_internal.h"

static bool error_code_is(const struct fetch_refusal *r, struct str code)
{
    return str_eq(http_reply_header(r->reply, "x-error-code"), code);
}

/* "owner/name" of "owner/name: file". */
static int repo_len(const char *what)
{
    size_t n = strcspn(what, ": @");
    return n < 120 ? (int)n : 120;
}

static void explain_gated(const struct fetch_refusal *r, struct error *err)
{
    const char *endpoint = r->settings->endpoint;
    int n = repo_len(r->what);
    if (r->settings->token[0]) {
        error_set(err, ERR_FORBIDDEN,
                  "%.*s is gated, and the account of your token has no access: ask for it at %.60s/%.*s.", n, r->what,
                  endpoint, n, r->what);
    } else {
        error_set(err, ERR_FORBIDDEN,
                  "%.*s is gated: ask for access at %.60s/%.*s, then set HF_TOKEN to a token of your account.", n,
                  r->what, endpoint, n, r->what);
    }
}

static void explain_401(const struct fetch_refusal *r, struct error *err)
{
    int n = repo_len(r->what);
    if (!r->settings->token[0]) {
        error_set(err, ERR_UNAUTHENTICATED,
                  "there is no repository %.*s, or it is private: check the name, or set HF_TOKEN to a token that may "
                  "read it (%.60s/settings/tokens).",
                  n, r->what, r->settings->endpoint);
    } else if (error_code_is(r, STR("RepoNotFound"))) {
        error_set(err, ERR_NOT_FOUND, "there is no repository %.*s, or your token may not see it.", n, r->what);
    } else {
        error_set(err, ERR_UNAUTHENTICATED,
                  "the Hub does not accept your token (HF_TOKEN, or the token file): make a new one at "
                  "%.60s/settings/tokens.",
                  r->settings->endpoint);
    }
}

static void explain_404(const struct fetch_refusal *r, struct error *err)
{
    if (error_code_is(r, STR("RevisionNotFound"))) {
        error_set(err, ERR_NOT_FOUND, "%.160s: there is no such branch, tag or commit.", r->what);
    } else if (error_code_is(r, STR("EntryNotFound"))) {
        error_set(err, ERR_NOT_FOUND, "%.160s: there is no such file.", r->what);
    } else {
        error_set(err, ERR_NOT_FOUND, "there is no repository %.*s on %.60s%s.", repo_len(r->what), r->what,
                  r->settings->endpoint, r->settings->token[0] ? ", or your token may not see it" : "");
    }
}

void fetch__explain(const struct fetch_refusal *r, struct error *err)
{
    int status = r->reply->status;
    if (r->at_hub && error_code_is(r, STR("GatedRepo"))) {
        explain_gated(r, err);
    } else if (status == 401 && r->at_hub) {
        explain_401(r, err);
    } else if (status == 403 && r->at_hub) {
        error_set(err, ERR_FORBIDDEN, "the Hub does not let %s read %.*s: the token needs the right to read it.",
                  r->settings->token[0] ? "your token" : "anybody without a token", repo_len(r->what), r->what);
    } else if (status == 404 && r->at_hub) {
        explain_404(r, err);
    } else if (status == 404) {
        error_set(err, ERR_NOT_FOUND, "%.120s: the storage of the Hub does not have it.", r->what);
    } else if (status == 401 || status == 403) {
        error_set(err, ERR_FORBIDDEN, "%.120s: the storage of the Hub refuses it with status %d.", r->what, status);
    } else if (status == 429) {
        error_set(err, ERR_RATE_LIMITED, "%.120s: the Hub has had too many requests; try again later%s.", r->what,
                  r->settings->token[0] ? "" : ", or with a token in HF_TOKEN, which is allowed more");
    } else if (status == 408 || status >= 500) {
        error_set(err, ERR_UNAVAILABLE, "%.120s: the Hub answers with status %d; try again later.", r->what, status);
    } else {
        error_set(err, ERR_UNSUPPORTED, "%.120s: the Hub answers with the unexpected status %d.", r->what, status);
    }
}
