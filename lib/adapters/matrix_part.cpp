#include <algorithm>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"

namespace ropewalk {
namespace {

class MatrixPart final : public ForwardingTensor {
 public:
  MatrixPart(TensorInfo info, TensorPtr parent, Slice rows, Slice columns)
      : ForwardingTensor(std::move(info), std::move(parent)), rows_(rows), columns_(columns) {}

  bool is_wide() const noexcept override { return parent().is_wide(); }
  void read_f32(RowRange range, std::span<float> values) const override {
    read(range, values, [&](RowRange rows, std::span<float> out) { parent().read_f32(rows, out); });
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    read(range, values, [&](RowRange rows, std::span<double> out) { parent().read_f64(rows, out); });
  }

 private:
  // Whole rows of the parent at a time: of a matrix that is much wider than its part, few of them.
  static constexpr std::uint64_t kChunk = std::uint64_t{32} << 10;

  template <class T, class Read>
  void read(RowRange range, std::span<T> values, Read read_rows) const {
    const std::uint64_t wide = parent().info().columns();
    const RowRange own{rows_.first + range.begin, rows_.first + range.end};
    if (columns_.count == wide) return read_rows(own, values);
    std::vector<T> whole;
    auto out = values.begin();
    for_each_chunk(parent(), own, kChunk, [&](RowRange chunk) {
      whole.resize(chunk.size() * wide);
      read_rows(chunk, whole);
      for (std::uint64_t row = 0; row < chunk.size(); ++row)
        for (std::uint64_t c = 0; c < columns_.count; ++c)
          *out++ = whole[row * wide + columns_.first + c * columns_.step];
    });
  }

  Slice rows_, columns_;
};

bool fits(const Slice& slice, std::uint64_t there) {
  return slice.count == 0 ||
         (slice.first < there && slice.step > 0 && (slice.count - 1) <= (there - 1 - slice.first) / slice.step);
}

}  // namespace

TensorPtr part_of(TensorPtr matrix, Slice rows, Slice columns) {
  TensorInfo info = matrix->info();
  if (info.shape.size() != 2 || rows.step != 1 || !fits(rows, info.shape[0]) || !fits(columns, info.shape[1]))
    throw Error(ErrorKind::bad_input, {.path = std::string(matrix->file())},
                "'" + info.name + "' has shape " + shape_text(info.shape) + ", expected [" +
                    std::to_string(rows.first + rows.count) + ", " +
                    std::to_string(columns.count == 0 ? 0 : columns.first + (columns.count - 1) * columns.step + 1) +
                    "] at least",
                "the adapter was trained on a model of another shape: use that one");
  if (info.shape[0] == rows.count && info.shape[1] == columns.count) return matrix;
  info.shape = {rows.count, columns.count};
  return std::make_shared<MatrixPart>(std::move(info), std::move(matrix), rows, columns);
}

TensorPtr upper_left(TensorPtr parent, std::uint64_t rows, std::uint64_t columns) {
  return part_of(std::move(parent), {0, rows}, {0, columns});
}

}  // namespace ropewalk
