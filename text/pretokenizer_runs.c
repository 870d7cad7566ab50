#include "text/pretokenizer_internal.h"

/* Stages that isolate runs of one class of characters. */

/* \p{L&} of an older Unicode version, as written out in DeepSeek LLM's pattern. */
const struct pre_range pre__deepseek_letters[PRE__N_DEEPSEEK_LETTERS] = {
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x376},     {0x377, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},
    {0x388, 0x38A},     {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},
    {0x48A, 0x52F},     {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943}};

static bool in_ranges(const struct pre_stage *stage, uint32_t code_point)
{
    size_t low = 0, high = stage->n_ranges;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (code_point > stage->ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < stage->n_ranges && code_point >= stage->ranges[low].first;
}

static bool in_class(const struct pre_stage *stage, struct pre__char c)
{
    return c.len && ((c.cls & stage->mask) || in_ranges(stage, c.code_point));
}

/* End of the match that starts at `at`, or `at`. */
static size_t match(const struct pre_stage *stage, struct str text, size_t at)
{
    struct pre__char c = pre__char_at(text, at);
    size_t run = at;
    if (stage->lead_space && (c.cls & UC_SPACE)) {
        struct pre__char after = pre__char_at(text, at + c.len);
        if (in_class(stage, after)) {
            run = at + c.len;
            c = after;
        }
    }
    for (size_t n = 0; in_class(stage, c) && (!stage->max || n < stage->max); n++) {
        run += c.len;
        c = pre__char_at(text, run);
    }
    return run;
}

size_t pre__class_runs(const struct pre_stage *stage, struct str text, size_t at)
{
    size_t end = match(stage, text, at);
    if (end > at)
        return end;
    do
        at += pre__char_at(text, at).len;
    while (at < text.len && match(stage, text, at) == at);
    return at;
}

/* What Digits sees when it runs behind ByteLevel: bytes as the letters that stand for them, six of which (superscripts
 * and fractions) count as numeric. Pieces may end inside a character. */
static bool is_byte_numeric(unsigned char c)
{
    return (c >= '0' && c <= '9') || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

static bool has_three_digits(struct str text, size_t at)
{
    if (text.len - at < 3)
        return false;
    for (size_t i = at; i < at + 3; i++)
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
    return true;
}

size_t pre__byte_digits(const struct pre_stage *stage, struct str text, size_t at)
{
    if (stage->max == 3) { /* [0-9][0-9][0-9] */
        if (has_three_digits(text, at))
            return at + 3;
        do
            at++;
        while (at < text.len && !has_three_digits(text, at));
        return at;
    }
    bool numeric = is_byte_numeric((unsigned char)text.ptr[at]);
    do
        at++;
    while (at < text.len && is_byte_numeric((unsigned char)text.ptr[at]) == numeric);
    return at;
}

size_t pre__final_space(const struct pre_stage *stage, struct str text, size_t at)
{
    (void)stage;
    size_t final = text.len; /* start of the white space at the end */
    while (final > at) {
        size_t before = final - 1;
        while (before > at && ((unsigned char)text.ptr[before] & 0xC0) == 0x80)
            before--;
        if (!(pre__char_at(text, before).cls & UC_SPACE))
            break;
        final = before;
    }
    return final > at ? final : text.len;
}
