#include <utility>

#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

class Renamed final : public ForwardingTensor {
 public:
  using ForwardingTensor::ForwardingTensor;
  bool has_raw() const noexcept override { return parent().has_raw(); }
  bool is_wide() const noexcept override { return parent().is_wide(); }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override { parent().read_raw(range, bytes); }
  void read_f32(RowRange range, std::span<float> values) const override { parent().read_f32(range, values); }
  void read_f64(RowRange range, std::span<double> values) const override { parent().read_f64(range, values); }
};

}  // namespace

TensorPtr renamed(TensorPtr parent, std::string name) {
  if (parent->name() == name) return parent;
  TensorInfo info = parent->info();
  info.name = std::move(name);
  return std::make_shared<Renamed>(std::move(info), std::move(parent));
}

}  // namespace ropewalk
