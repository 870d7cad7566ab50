/* The results of `tandem bench-serve` as one HTML page that needs nothing else: plots as SVG, no script, nothing loaded
 * (a content security policy in it says so), light and dark as the reader's system has it. All that comes from outside
 * (labels, models, messages, answers) is escaped. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_HTML_H
#define TANDEM_CLI_LOADGEN_HTML_H

#include "cli/loadgen_result.h"

void loadgen_html(const struct loadgen_result *r, struct buf *out);

#endif
