/* What begins a line at the top of a system prompt that differs in every request and says nothing to a model: X(text).
 * Claude Code puts a checksum of the request there, behind which no cached prefix would be found. --help names them. */
#ifndef TANDEM_API_VOLATILE_LINES_H
#define TANDEM_API_VOLATILE_LINES_H

#define VOLATILE_LINES(X) X("x-anthropic-billing-header:")

#endif
