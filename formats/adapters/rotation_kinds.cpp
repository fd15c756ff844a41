// Kinds that turn the weight: OFT by blocks, BOFT by butterflies of them, HRA by reflections.

#include <array>

#include "formats/adapters/kinds.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/best_of_rank.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using Use = FieldUse;
using Type = FieldType;

constexpr std::array kOftFields = {
    AdapterField{"r", Type::any, Use::none},  // blocks per module, or 0: the file has them
    AdapterField{"oft_block_size", Type::any, Use::read},
    AdapterField{"block_share", Type::boolean, Use::read},
    AdapterField{"use_cayley_neumann", Type::boolean, Use::read},
    AdapterField{"num_cayley_neumann_terms", Type::any, Use::read},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"coft", Type::boolean, Use::read},  // projects Q when it is used: what is saved may be outside
    AdapterField{"eps", Type::any, Use::read},       // of coft
    AdapterField{"fan_in_fan_out", Type::boolean, Use::refused},
    AdapterField{"module_dropout", Type::any, Use::none},
    AdapterField{"init_weights", Type::any, Use::none},
};

/// The block size whose strict upper triangle has `elements` numbers; 0: none has.
std::uint64_t block_size_of(std::uint64_t elements) {
  std::uint64_t size = 1;
  while (size < (1 << 20) && size * (size - 1) / 2 < elements) ++size;
  return size * (size - 1) / 2 == elements ? size : 0;
}

/// The divisor of `width` that is nearest to the block size of the configuration, of two the smaller (PEFT 0.21.2,
/// adjust_oft_parameters).
std::uint64_t block_size_for(std::uint64_t width, std::uint64_t said) {
  if (said >= width) return width;
  std::uint64_t smaller = said, larger = said;
  while (width % smaller != 0) --smaller;
  while (larger - said < said - smaller && width % larger != 0) ++larger;  // no further away than the other
  return said - smaller <= larger - said ? smaller : larger;
}

void read_oft(AdapterReading& reading) {
  const JsonFields fields = reading.config.fields();
  std::optional<int> terms;
  // PEFT adds at least the last power, whatever is asked for
  if (reading.config.flag("use_cayley_neumann")) terms = int(fields.integer("num_cayley_neumann_terms", 1, 1000));
  const std::uint64_t said = std::uint64_t(fields.optional_integer("oft_block_size", 0, 1 << 20).value_or(0));
  const bool shared = reading.config.flag("block_share");
  std::optional<double> most;
  if (reading.config.flag("coft")) {
    if (!fields.find_set("eps")) fields.fail_unset("eps", "a number", "coft depends on it: save the adapter again");
    most = fields.optional_number("eps", 0, 1e9);
  }
  for (const std::string& module : reading.tensors.modules({"oft_R.weight", "oft_embedding_R.weight"})) {
    const TensorPtr of_linear = reading.tensors.take(module, "oft_R.weight");
    // an embedding's rows are turned as they are looked up, W R and not W R^T: R^T is R of -Q
    const TensorPtr skew = of_linear ? of_linear : scaled(reading.tensors.take(module, "oft_embedding_R.weight"), -1);
    require_axes(*skew, 2, reading.tensors.path());
    const std::uint64_t size = block_size_of(skew->info().shape[1]), blocks = skew->info().shape[0];
    const auto refuse = [=, path = reading.tensors.path()](std::uint64_t wanted) {
      throw Error(ErrorKind::bad_input, {.path = path},
                  "'" + skew->name() + "' has shape " + shape_text(skew->info().shape) +
                      ", expected the upper triangle of " + (shared ? "one block" : "each block") +
                      (wanted > 0 ? " of size " + std::to_string(wanted) : ""),
                  "take configuration and weights of the same adapter");
    };
    if (size == 0 || blocks == 0 || (shared && blocks != 1)) refuse(said);
    // one block for all places does not tell how wide the weight is
    if (const std::uint64_t wanted = said > 0 && !shared ? block_size_for(blocks * size, said) : size; wanted != size)
      refuse(wanted);
    const BlockRotation rotation{skew, size, terms, most};
    const bool one_place = !shared && blocks == 1;  // one block is the whole width then
    RewriteChange change{[=, path = reading.tensors.path()](TensorPtr weight) {
      if (one_place && weight->info().columns() != rotation.block_size)
        throw Error(ErrorKind::bad_input, {.path = path},
                    "'" + rotation.skew->name() + "' has one block of " + std::to_string(rotation.block_size) +
                        ", expected blocks for the " + std::to_string(weight->info().columns()) + " columns of '" +
                        weight->name() + "'",
                    "the adapter was trained on a model of another shape: use that one");
      if (said > 0)
        if (const std::uint64_t wanted = block_size_for(weight->info().columns(), said); wanted != size) refuse(wanted);
      return with_block_rotation(std::move(weight), rotation);
    }};
    reading.modules.push_back({module + ".weight", "oft", {skew}, 0, 1, std::move(change)});
  }
}

constexpr std::array kBoftFields = {
    AdapterField{"boft_block_size", Type::any, Use::none},  // the file has blocks, sizes and butterflies
    AdapterField{"boft_block_num", Type::any, Use::none},
    AdapterField{"boft_n_butterfly_factor", Type::any, Use::none},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"fan_in_fan_out", Type::boolean, Use::refused},
    AdapterField{"boft_dropout", Type::any, Use::none},
    AdapterField{"init_weights", Type::any, Use::none},
};

/// W M^T, then row r times s[r].
void read_boft(AdapterReading& reading) {
  AdapterTensors& tensors = reading.tensors;
  for (const std::string& module : tensors.modules({"boft_R", "boft_s"})) {
    const std::vector<TensorPtr> both = tensors.take_all(module, {"boft_R", "boft_s"});
    RewriteChange change{[blocks = both[0], s = both[1]](TensorPtr weight) {
      return with_factors(with_butterflies(std::move(weight), blocks), s, Axis::rows);
    }};
    reading.modules.push_back({module + ".weight", "boft", both, 0, 1, std::move(change)});
  }
}

constexpr std::array kHraFields = {
    AdapterField{"r", Type::any, Use::read},
    AdapterField{"apply_GS", Type::boolean, Use::read},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"init_weights", Type::any, Use::none},
};

void read_hra(AdapterReading& reading) {
  const std::uint64_t rank = std::uint64_t(reading.config.fields().integer("r", 1, 1 << 20));
  const bool orthogonalised = reading.config.flag("apply_GS");
  for (const std::string& module : reading.tensors.modules({"hra_u"})) {
    const TensorPtr u = reading.tensors.take(module, "hra_u");
    require_axes(*u, 2, reading.tensors.path());
    if (u->info().shape[1] != rank)
      reading.tensors.fail("'" + u->name() + "' has rank " + std::to_string(u->info().shape[1]) + ", expected " +
                               std::to_string(rank) + ", the r of adapter_config.json",
                           "take configuration and weights of the same adapter");
    RewriteChange change{
        [u, orthogonalised](TensorPtr weight) { return with_reflections(std::move(weight), u, orthogonalised); }};
    reading.modules.push_back({module + ".weight", "hra", {u}, rank, 1, std::move(change)});
  }
}

}  // namespace

constinit const AdapterKind kOft = {"OFT", "OFT", kOftFields, read_oft};
constinit const AdapterKind kBoft = {"BOFT", "BOFT", kBoftFields, read_boft};
constinit const AdapterKind kHra = {"HRA", "HRA", kHraFields, read_hra};

}  // namespace ropewalk::formats
