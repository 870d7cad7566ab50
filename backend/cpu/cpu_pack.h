/* Packed weights: quantized rows in a layout for vectors of R rows (R: the table's pack_rows), with the same codes and
 * scales as in the file, so that values are exactly those of the file.
 *
 * A panel is R rows. It is a sequence of super-blocks of super_len columns (32; 256 for the K formats; the group's for
 * affine ones):
 *     head: f16 d[R], f16 dmin[R]; or f32 d[R]; or d[R], m[R] in the file's type of scales; or d[R] likewise, u8 z[R]
 *     super_len / 32 groups, each
 *         scales of the group (see enum pack_scales)
 *         low:  codes' low 2, 4 or 8 bits
 *         high: 1 or 2 more bits
 * Rows beyond the last of a matrix have zero scales. A chunk is 4 consecutive columns; a group has chunks 0 to 7. A
 * vector is [R][4] bytes: a chunk of each row, as 4-way integer dot products want it.
 *
 *     8 bits:      vector c    byte = code of chunk c
 *     low 4 bits:  vector c/2  low nibble: even chunk, high nibble: odd chunk
 *     2 bits:      vector c/4  bits 2(c%4) of each byte; also the high 2 bits
 *     high 1 bit:  one vector  bit c of each byte
 */
#ifndef TANDEM_BACKEND_CPU_CPU_PACK_H
#define TANDEM_BACKEND_CPU_CPU_PACK_H

#include "tensor/model_file.h"

/* What a kernel is for: codes and scales of panels. Types that differ only in the order of their files share one. */
enum pack_kind {
    PACK_Q4_0,
    PACK_Q4_1,
    PACK_Q5_0,
    PACK_Q5_1,
    PACK_Q8_0,
    PACK_Q2_K,
    PACK_Q3_K,
    PACK_Q4_K,
    PACK_Q5_K,
    PACK_Q6_K,
    PACK_Q8_K,
    PACK_IQ4_NL,
    PACK_IQ4_XS,
    PACK_MXFP4,
    PACK_NVFP4,
    PACK_AFFINE2, /* groups and types of scales are the format's */
    PACK_AFFINE3,
    PACK_AFFINE4,
    PACK_AFFINE5,
    PACK_AFFINE6,
    PACK_AFFINE8,
    PACK_KINDS
};

enum pack_scales {                /* per group, R rows each */
                   PACK_F16,      /* f16 d                        value = d code */
                   PACK_F16_MIN,  /* f16 d, f16 m                 value = d code + m */
                   PACK_E8M0,     /* u8 e                         value = 2^(e-128) code */
                   PACK_E4M3,     /* e4m3 d[2]                    value = d[half] / 2 code */
                   PACK_K32_MIN,  /* u8 sc, u8 mn; head d, dmin   value = d sc code - dmin mn */
                   PACK_K32,      /* i8 sc; head d                value = d sc code */
                   PACK_K16,      /* i8 sc[2]; head d             value = d sc[half] code */
                   PACK_K16_MIN,  /* u8 sc | mn << 4 [2]; head d, dmin */
                   PACK_F32_256,  /* none; head f32 d             value = d code */
                   PACK_HEAD_MIN, /* none; head d, m              value = d code + m; with zeros m = -(d (z + add)) */
};

struct pack_format {
    enum pack_kind kind;
    int low_bits, high_bits;
    int offset;         /* code = stored bits - offset, or, when it is a table: */
    const float *table; /* [16] code of the stored bits; NULL: none. 8 stored bits are two's complement */
    enum pack_scales scales;
    int super_len;        /* columns, a multiple of 32; 0: no format */
    enum dtype head_type; /* of PACK_HEAD_MIN: F16, BF16 or F32 */
    bool zeros;           /* of PACK_HEAD_MIN: the head has z, a byte each, where others have m */
    int zero_add;
};

/* False for matrices [n_rows, n_in] that are not packed: types that no kernel has, and groups of other programs whose
 * columns do not lie in the order of their groups (group_quant.columns can say how they would). */
bool pack_format_of(const struct tensor_view *matrix, struct pack_format *out);

/* Sizes for R = rows, in bytes. */
size_t pack_head_size(const struct pack_format *f, int rows);
size_t pack_scales_size(const struct pack_format *f, int rows);
size_t pack_group_size(const struct pack_format *f, int rows);
size_t pack_panel_size(const struct pack_format *f, int rows, int n_in);

/* Packs rows [first, first + rows) of a matrix of this format as panel first / rows. dst: pack_panel_size bytes. */
void pack_panel(const struct pack_format *f, const struct tensor_view *matrix, size_t first, int rows, uint8_t *dst);

/* Row `row` of a panel to f32: the same bits as tensor_row_to_f32 on the file's row. */
void pack_unpack_row(const struct pack_format *f, const uint8_t *panel, int rows, int row, int n_in, float *dst);

#endif
