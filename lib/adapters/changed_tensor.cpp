#include "lib/adapters/changed_tensor.h"

namespace ropewalk {

std::vector<double> read_whole(const LazyTensor& tensor) {
  std::vector<double> values(tensor.info().elements());
  tensor.prepare();
  tensor.read_f64({0, tensor.info().rows()}, values);
  tensor.release();
  return values;
}

void fail_shape(const LazyTensor& weight, const LazyTensor& part, const std::string& expected) {
  throw Error(ErrorKind::bad_input, {.path = std::string(part.file())},
              "'" + part.name() + "' has shape " + shape_text(part.info().shape) + ", expected " + expected + " for '" +
                  weight.name() + "' " + shape_text(weight.info().shape) + " of the base",
              "the adapter was trained on a model of another shape: use that one");
}

void refuse_created_infinities(const LazyTensor& tensor, const LazyTensor& parent, RowRange rows,
                               std::span<const double> values) {
  std::vector<double> base(values.size());
  parent.read_f64(rows, base);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) || !std::isfinite(base[i])) continue;
    throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())},
                "tensor '" + tensor.name() + "': " + element_place(tensor.info(), rows.begin, i) +
                    ": the merge makes " + (std::isnan(values[i]) ? "NaN" : "an infinity") + " of a finite value",
                "the adapter's scale is too large or its weights are damaged: give a smaller scale or another "
                "checkpoint of it");
  }
}

}  // namespace ropewalk
