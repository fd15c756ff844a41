#include "lib/codecs/encode.h"

#include <cassert>

#include "lib/codecs/encoders.h"
#include "lib/codecs/q8_0.h"

namespace ropewalk {
namespace {

struct Encoder {
  DType dtype;
  Importances importances;
  codecs::RowEncoder* row;
  codecs::RowsEncoder* weighted_rows = nullptr;  // instead of `row` where there are importances
};

void encode_row_q8_0(const float* x, const float*, std::int64_t columns, std::byte* out) {
  const auto n = static_cast<std::size_t>(columns);
  encode_q8_0({x, n}, {out, n / 32 * 34});
}

// The seam for vector bodies: a type's encoder is chosen here and nowhere else.
constexpr Encoder kEncoders[] = {
    {DType::q4_0, Importances::used, codecs::encode_q4_0_vectors, codecs::encode_q4_0_weighted_rows},
    {DType::q4_1, Importances::used, codecs::encode_q4_1_vectors, codecs::encode_q4_1_weighted_rows},
    {DType::q5_0, Importances::used, codecs::encode_q5_0_vectors, codecs::encode_q5_0_weighted_rows},
    {DType::q5_1, Importances::used, codecs::encode_q5_1_vectors, codecs::encode_q5_1_weighted_rows},
    {DType::q8_0, Importances::ignored, encode_row_q8_0},
    {DType::q2_k, Importances::used, codecs::encode_q2_k_lanes},
    {DType::q3_k, Importances::used, codecs::encode_q3_k_lanes},
    {DType::q4_k, Importances::used, codecs::encode_q4_k_lanes},
    {DType::q5_k, Importances::used, codecs::encode_q5_k_lanes},
    {DType::q6_k, Importances::used, codecs::encode_q6_k_lanes},
    {DType::iq1_s, Importances::required, codecs::encode_iq1_s_lanes},
    {DType::iq1_m, Importances::used, codecs::encode_iq1_m_lanes},
    {DType::iq2_xxs, Importances::required, codecs::encode_iq2_xxs_lanes},
    {DType::iq2_xs, Importances::required, codecs::encode_iq2_xs_lanes},
    {DType::iq2_s, Importances::used, codecs::encode_iq2_s_lanes},
    {DType::iq3_xxs, Importances::used, codecs::encode_iq3_xxs_lanes},
    {DType::iq3_s, Importances::used, codecs::encode_iq3_s_lanes},
    {DType::iq4_nl, Importances::used, codecs::encode_iq4_nl_lanes},
    {DType::iq4_xs, Importances::used, codecs::encode_iq4_xs_lanes},
    {DType::tq1_0, Importances::ignored, codecs::encode_tq1_0_vectors},
    {DType::tq2_0, Importances::ignored, codecs::encode_tq2_0_vectors},
    {DType::mxfp4, Importances::ignored, codecs::encode_mxfp4_vectors},
    {DType::nvfp4, Importances::ignored, codecs::encode_nvfp4_vectors},
    {DType::q1_0, Importances::ignored, codecs::encode_q1_0},
    {DType::q2_0, Importances::ignored, codecs::encode_q2_0_vectors},
};

const Encoder* encoder_of(DType dtype) {
  for (const Encoder& encoder : kEncoders)
    if (encoder.dtype == dtype) return &encoder;
  return nullptr;
}

}  // namespace

bool has_block_encoder(DType dtype) { return encoder_of(dtype) != nullptr; }

Importances importances_of(DType dtype) {
  assert(has_block_encoder(dtype));
  return encoder_of(dtype)->importances;
}

void encode_blocks(DType dtype, std::span<const float> values, std::uint64_t columns,
                   std::span<const float> importances, std::span<std::byte> bytes) {
  assert(byte_size(dtype, values.size()) == bytes.size() && byte_size(dtype, columns));
  assert(columns > 0 && values.size() % columns == 0 && (importances.empty() || importances.size() == columns));
  const Encoder& encoder = *encoder_of(dtype);
  assert(encoder.importances != Importances::required || !importances.empty());
  const float* weights = importances.empty() ? nullptr : importances.data();
  const std::size_t row_bytes = *byte_size(dtype, columns);
  std::byte* out = bytes.data();
  if (weights != nullptr && encoder.weighted_rows != nullptr)
    return encoder.weighted_rows(values.data(), weights, static_cast<std::int64_t>(columns),
                                 static_cast<std::int64_t>(values.size() / columns), out);
  if (weights == nullptr) columns = values.size();  // blocks do not care where rows end
  for (const float* row = values.data(); row != values.data() + values.size(); row += columns, out += row_bytes)
    encoder.row(row, weights, static_cast<std::int64_t>(columns), out);
}

}  // namespace ropewalk
