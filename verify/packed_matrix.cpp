#include "verify/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/convert.h"
#include "lib/error.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kGroup = 16;  // consecutive outputs that are consecutive columns in either layout

/// Columns of the depth that a part has.
struct DepthRange {
  std::size_t first, count;
};

/// Copies rows [first, first + rows) of a part, at `values`, to the columns that `column_of` names.
template <class ColumnOf>
void scatter(const float* values, std::size_t first, std::size_t rows, DepthRange depth, ColumnOf column_of,
             PackedMatrix& out) {
  for (std::size_t row = 0; row < rows;) {
    const std::size_t column = column_of(first + row), count = std::min(kGroup - column % kGroup, rows - row);
    float* to = out.data.data() + (column / kPanel * out.depth + depth.first) * kPanel + column % kPanel;
    const float* from = values + row * depth.count;
    for (std::size_t k = 0; k < depth.count; ++k, to += kPanel)
      for (std::size_t i = 0; i < count; ++i) to[i] = from[i * depth.count + k];
    row += count;
  }
}

template <class ColumnOf>
void read_into(const LazyTensor& tensor, std::size_t outputs, DepthRange depth, ColumnOf column_of,
               const Workers& workers, PackedMatrix& out) {
  require_shape(tensor, {outputs, depth.count});
  tensor.prepare();
  // Whole row units, at least two panels, about a quarter of a megabyte.
  const std::size_t unit = std::lcm(static_cast<std::size_t>(tensor.row_unit()), kGroup);
  const std::size_t block =
      (std::max<std::size_t>(2 * kPanel, (std::size_t{1} << 16) / depth.count) + unit - 1) / unit * unit;
  std::vector<std::vector<float>> scratch(static_cast<std::size_t>(workers.threads()));
  workers.for_each((outputs + block - 1) / block, [&](std::size_t index, std::size_t slot) {
    const std::size_t first = index * block, rows = std::min(block, outputs - first);
    std::vector<float>& values = scratch[slot];
    values.resize(rows * depth.count);
    tensor.read_f32({first, first + rows}, values);
    require_finite(tensor, first, values);
    scatter(values.data(), first, rows, depth, column_of, out);
  });
  tensor.release();
}

/// Room for the matrix, zero past the last output. A matrix of the same size leaves its zeros where they are.
void reset(PackedMatrix& out, std::size_t outputs, std::size_t depth) {
  if (out.outputs == outputs && out.depth == depth) return;
  out = {};
  out.outputs = outputs, out.depth = depth, out.panels = whole_panels(outputs) / kPanel;
  out.data.grow(out.panels * depth * kPanel);
}

/// Where row `row` of the gate (or of `up`) stands in two matrices interleaved by kGroup.
std::size_t interleaved_column(std::size_t row, bool is_up) {
  return row / kGroup * 2 * kGroup + (is_up ? kGroup : 0) + row % kGroup;
}
std::size_t interleaved_outputs(std::size_t outputs) { return 2 * ((outputs + kGroup - 1) / kGroup * kGroup); }

template <class ColumnOf>
void read_factor(const FactorPart& part, ColumnOf column_of, const Workers& workers, PackedMatrix& out) {
  if (part.tensor)
    read_into(*part.tensor, part.outputs, {part.first_column, std::size_t(part.tensor->info().columns())}, column_of,
              workers, out);
}

/// reset(), and zeros everywhere: a layer's adapters need not stand where another's stood.
void reset_to_zero(PackedMatrix& out, std::size_t outputs, std::size_t depth) {
  reset(out, outputs, depth);
  std::fill_n(out.data.data(), out.panels * depth * kPanel, 0.0f);
}

}  // namespace

void require_shape(const LazyTensor& tensor, const std::vector<std::uint64_t>& want) {
  if (tensor.info().shape == want) return;
  throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())},
              "'" + tensor.name() + "' has shape " + shape_text(tensor.info().shape) + ", " + shape_text(want) +
                  " was expected",
              "the configuration does not belong to these weights");
}

void require_finite(const LazyTensor& tensor, std::uint64_t first_row, std::span<const float> values) {
  const std::size_t at = first_not_finite(values);
  if (at == values.size()) return;
  throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())},
              "'" + tensor.name() + "' holds " + (std::isnan(values[at]) ? "NaN" : "an infinity") + " in " +
                  element_place(tensor.info(), first_row, at) + ", expected finite numbers",
              "the checkpoint is damaged or was written with an overflow: fetch or export it again");
}

void pack(std::span<const MatrixPart> parts, std::size_t depth, const Workers& workers, PackedMatrix& out) {
  std::size_t outputs = 0;
  for (const MatrixPart& part : parts) outputs += part.outputs;
  reset(out, outputs, depth);
  std::size_t first = 0;
  for (const MatrixPart& part : parts) {
    read_into(
        *part.tensor, part.outputs, {0, depth}, [first](std::size_t row) { return first + row; }, workers, out);
    first += part.outputs;
  }
}

void pack_interleaved(const TensorPtr& gate, const TensorPtr& up, std::size_t outputs, std::size_t depth,
                      const Workers& workers, PackedMatrix& out) {
  reset(out, interleaved_outputs(outputs), depth);
  for (const bool is_up : {false, true})
    read_into(
        is_up ? *up : *gate, outputs, {0, depth}, [is_up](std::size_t row) { return interleaved_column(row, is_up); },
        workers, out);
}

void pack_factors(std::span<const FactorPart> parts, std::size_t depth, const Workers& workers, PackedMatrix& out) {
  std::size_t outputs = 0;
  for (const FactorPart& part : parts) outputs += part.outputs;
  reset_to_zero(out, outputs, depth);
  std::size_t first = 0;
  for (const FactorPart& part : parts) {
    read_factor(
        part, [first](std::size_t row) { return first + row; }, workers, out);
    first += part.outputs;
  }
}

void pack_factors_interleaved(const FactorPart& gate, const FactorPart& up, std::size_t depth, const Workers& workers,
                              PackedMatrix& out) {
  reset_to_zero(out, interleaved_outputs(gate.outputs), depth);
  for (const bool is_up : {false, true})
    read_factor(
        is_up ? up : gate, [is_up](std::size_t row) { return interleaved_column(row, is_up); }, workers, out);
}

std::vector<float> read_vector(const TensorPtr& tensor, std::size_t size) {
  require_shape(*tensor, {size});
  std::vector<float> values(size);
  tensor->prepare();
  tensor->read_f32({0, 1}, values);
  tensor->release();
  require_finite(*tensor, 0, values);
  return values;
}

TensorPtr required(const Checkpoint& model, const std::string& name) {
  if (TensorPtr tensor = model.find(name)) return tensor;
  throw Error(ErrorKind::bad_input, {model.label}, "'" + name + "' is missing",
              "the checkpoint is incomplete: fetch it again");
}

}  // namespace ropewalk::verify
