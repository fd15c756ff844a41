#pragma once

#include <cstddef>
#include <cstdint>

// The scalar encoders: one row of `columns` elements, a whole number of blocks, into `out`. `importances` has one for
// each column, or is null for none; see encode.h for which types use them. They are the definition: vector bodies are
// chosen in encode.cpp, by type, and must give the same bytes.
namespace ropewalk::codecs {

using RowEncoder = void(const float* x, const float* importances, std::int64_t columns, std::byte* out);

RowEncoder encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1;                                // encode_plain.cpp
RowEncoder encode_q1_0, encode_q2_0, encode_tq1_0, encode_tq2_0, encode_mxfp4, encode_nvfp4;  // the same
RowEncoder encode_q2_k, encode_q3_k, encode_q4_k, encode_q5_k, encode_q6_k;                   // encode_k.cpp
RowEncoder encode_iq4_nl, encode_iq4_xs;                                                      // encode_iq4.cpp
RowEncoder encode_iq2_xxs, encode_iq2_xs, encode_iq2_s, encode_iq3_xxs, encode_iq3_s;         // encode_grid.cpp
RowEncoder encode_iq1_s, encode_iq1_m;                                                        // encode_iq1.cpp

// The same bytes, 32 groups side by side (lane_fits.h).
RowEncoder encode_q2_k_lanes, encode_q3_k_lanes, encode_q4_k_lanes, encode_q5_k_lanes, encode_q6_k_lanes;
RowEncoder encode_iq4_nl_lanes, encode_iq4_xs_lanes;
// Of n_rows rows with importances.
using RowsEncoder = void(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                         std::byte* out);
RowsEncoder encode_q4_0_weighted_rows, encode_q4_1_weighted_rows, encode_q5_0_weighted_rows, encode_q5_1_weighted_rows;
// The same bytes without importances, elements of a block side by side (plain_vectors.cpp).
RowEncoder encode_q4_0_vectors, encode_q4_1_vectors, encode_q5_0_vectors, encode_q5_1_vectors, encode_q2_0_vectors,
    encode_tq1_0_vectors, encode_tq2_0_vectors, encode_mxfp4_vectors, encode_nvfp4_vectors;
// Neighbours in a code book side by side (code_book.h).
RowEncoder encode_iq1_s_lanes, encode_iq1_m_lanes, encode_iq2_xxs_lanes, encode_iq2_xs_lanes, encode_iq2_s_lanes,
    encode_iq3_xxs_lanes, encode_iq3_s_lanes;

}  // namespace ropewalk::codecs
