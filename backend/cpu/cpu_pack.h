/* Packed weights: quantized rows in a layout for vectors of R rows (R: the table's pack_rows), with the same codes and
 * scales as in the file, so that values are exactly those of the file.
 *
 * A panel is R rows. It is a sequence of super-blocks of super_len columns (32, or 256 for the K formats):
 *     head: f16 d[R], f16 dmin[R]; or f32 d[R]                        (formats of 256 columns)
 *     super_len / 32 groups, each
 *         scales of the group (see enum pack_scales)
 *         low:  codes' low 2, 4 or 8 bits
 *         high: 1 or 2 more bits
 * Rows beyond the last of a matrix have zero scales. A chunk is 4 consecutive columns; a group has chunks 0 to 7. A
 * vector is [R][4] bytes: a chunk of each row, as 4-way integer dot products want it. 8 bits:      vector c    byte =
 * code of chunk c low 4 bits:  vector c/2  low nibble: even chunk, high nibble: odd chunk 2 bits:      vector c/4  bits
 * 2(c%4) of each byte; also the high 2 bits high 1 bit:  one vector  bit c of each byte
 */
#ifndef TANDEM_BACKEND_CPU_CPU_PACK_H
#define TANDEM_BACKEND_CPU_CPU_PACK_H

#include "tensor/dtype.h"

enum pack_scales {               /* per group, R rows each */
                   PACK_F16,     /* f16 d                        value = d code */
                   PACK_F16_MIN, /* f16 d, f16 m                 value = d code + m */
                   PACK_E8M0,    /* u8 e                         value = 2^(e-128) code */
                   PACK_K32_MIN, /* u8 sc, u8 mn; head d, dmin   value = d sc code - dmin mn */
                   PACK_K32,     /* i8 sc; head d                value = d sc code */
                   PACK_K16,     /* i8 sc[2]; head d             value = d sc[half] code */
                   PACK_K16_MIN, /* u8 sc | mn << 4 [2]; head d, dmin */
                   PACK_F32_256, /* none; head f32 d             value = d code */
};

struct pack_format {
    int low_bits, high_bits;
    int offset;          /* code = stored bits - offset, or, when it is a table: */
    const int8_t *table; /* [16] code of the stored bits; NULL: none. 8 stored bits are two's complement */
    enum pack_scales scales;
    int super_len; /* columns: 32 or 256 */
};

/* NULL for types that are not packed. */
const struct pack_format *pack_format(enum dtype type);

/* Sizes for R = rows, in bytes. pack_code_offset: of the low bits in a group. */
size_t pack_head_size(const struct pack_format *f, int rows);
size_t pack_scales_size(const struct pack_format *f, int rows);
size_t pack_group_size(const struct pack_format *f, int rows);
size_t pack_panel_size(const struct pack_format *f, int rows, int n_in);

/* Packs rows [first, first + rows) of a matrix [n_rows, n_in] as panel first / rows. dst: pack_panel_size bytes. */
void pack_panel(enum dtype type, const void *matrix, size_t n_rows, int n_in, size_t first, int rows, uint8_t *dst);

/* Row `row` of a panel to f32: the same bits as dtype_to_f32 on the file's row. */
void pack_unpack_row(enum dtype type, const uint8_t *panel, int rows, int row, int n_in, float *dst);

#endif
