#include "lib/version.h"

#include "build_id.h"

const char *tandem_version(void)
{
    return TANDEM_VERSION;
}

uint32_t tandem_api_version(void)
{
    return TANDEM_API_VERSION;
}

const char *tandem_build(void)
{
    return "tandem " TANDEM_VERSION " " TANDEM_BUILD_ID;
}
