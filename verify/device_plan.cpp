#include <algorithm>

#include "verify/cuda/head_tile.h"
#include "verify/device_forward.h"

namespace ropewalk::verify {
namespace {

struct Shape {
  std::size_t total = 0, longest = 0;
};
Shape shape_of(std::span<const Window> windows) {
  Shape out;
  for (const Window& window : windows) out.total += window.size(), out.longest = std::max(out.longest, window.size());
  return out;
}

/// Sizes of DeviceActivations, for the larger of the models.
struct ActivationBytes {
  std::uint64_t normed = 0, projected = 0, activated = 0, wide = 0, terms = 0, thin = 0, thin_terms = 0, cache = 0,
                residual = 0, attended = 0;
};
std::uint64_t largest_rank(const DeviceModel& m) {
  std::size_t rank = 0;
  for (const DeviceWeights& weights : m.weights) rank = std::max(rank, weights.largest_rank());
  return rank;
}
ActivationBytes activation_bytes(std::span<const DeviceModel> models, const Shape& shape, const DevicePlan& plan) {
  ActivationBytes out;
  const auto grow = [](std::uint64_t& bytes, std::uint64_t needed) { bytes = std::max(bytes, needed); };
  const std::uint64_t rows = std::min(std::max(plan.chunk_rows, plan.head_rows), shape.total),
                      cache_rows = std::max<std::uint64_t>(shape.longest, std::min(plan.chunk_rows, shape.total));
  for (const DeviceModel& m : models) {
    const ModelConfig& c = m.model->config;
    const std::uint64_t element = element_bytes(m.type), d_model = std::uint64_t(c.d_model),
                        d_ff = std::uint64_t(c.d_ff), qkv = c.d_q() + 2 * c.d_kv();
    grow(out.normed, rows * std::max<std::uint64_t>(d_model, c.d_q()) * element);
    grow(out.projected, rows * std::max(qkv, 2 * d_ff) * element);
    grow(out.activated, rows * d_ff * element);
    const std::uint64_t rank = largest_rank(m), count = delta_terms(m.type);
    if (m.type == ElementType::f32 || (m.type == ElementType::f16 && rank > 0))
      grow(out.terms, count * rows * std::max<std::uint64_t>({d_model, c.d_q(), d_ff}) * sizeof(std::uint16_t));
    if (m.type != ElementType::f32 && (c.attention_bias || c.mlp_bias || rank > 0))
      grow(out.wide, rows * std::max(qkv, 2 * d_ff) * sizeof(float));
    grow(out.thin, rows * rank * sizeof(float));
    grow(out.thin_terms, count * rows * rank * sizeof(std::uint16_t));
    const std::vector<HeadGroup> groups = head_groups(c, plan.kv_groups);
    grow(out.cache, cache_rows * groups.front().n_kv * std::size_t(c.head_dim) * element);
    // of the groups before the last all at once, on their way back
    if (groups.size() > 1) grow(out.attended, 2 * rows * groups.back().first * std::size_t(c.head_dim) * element);
    if (plan.spilled) grow(out.residual, 2 * rows * d_model * sizeof(float));
  }
  return out;
}

/// Everything a sweep allocates while the layers run and while the head does; slots give way to the head.
std::pair<std::vector<PlannedBuffer>, std::vector<PlannedBuffer>> buffers(std::span<const DeviceModel> models,
                                                                          const Shape& shape, const DevicePlan& plan) {
  std::vector<PlannedBuffer> common;
  const ActivationBytes a = activation_bytes(models, shape, plan);
  for (const auto& [what, bytes] : {std::pair<const char*, std::uint64_t>{"normed rows", a.normed},
                                    {"projections", a.projected},
                                    {"MLP activations", a.activated},
                                    {"wide activations", a.wide},
                                    {"bf16 terms", a.terms},
                                    {"adapter activations", a.thin},
                                    {"bf16 terms of adapter activations", a.thin_terms},
                                    {"keys of a layer", a.cache},
                                    {"values of a layer", a.cache},
                                    {"residuals of two chunks", a.residual},
                                    {"attended rows of two chunks", a.attended}})
    if (bytes > 0) common.push_back({what, bytes});
  for (const DeviceModel& m : models) {
    if (!plan.spilled)
      common.push_back({"residual", shape.total * std::uint64_t(m.model->config.d_model) * sizeof(float)});
    common.push_back({"weights on their way", m.pieces.largest_bytes});
    const std::uint64_t positions = shape.longest, pairs = std::uint64_t(m.model->config.head_dim) / 2;
    // One table for all lengths, unless it depends on them: then at most one each, together no longer than all windows.
    common.push_back({"rotary tables",
                      2 * pairs * (depends_on_length(m.model->config.rope) ? shape.total : positions) * sizeof(float)});
  }
  std::vector<PlannedBuffer> layers = common, head = common;
  for (const DeviceModel& m : models) {
    for (std::size_t slot = 0; slot < plan.slots; ++slot)
      layers.push_back({"weights of a layer", largest_layer_bytes(m)});
    const HeadBytes own = head_bytes(m, plan, shape.total);
    for (std::size_t slot = 0; slot < plan.head_slots(std::size_t(m.model->config.n_vocab)); ++slot)
      head.push_back({"weights of the head", own.slot});
    head.push_back({"normed rows of the head", own.normed});
    head.push_back({"bf16 terms of the head", own.terms});
    head.push_back({"bf16 terms of the head's adapter activations", own.thin_terms});
    head.push_back({"logits of a chunk", std::min(plan.head_rows, shape.total) * kHeadTile * sizeof(float)});
  }
  layers.push_back({"distances", shape.total * sizeof(double)});
  head.push_back({"statistics", shape.total * sizeof(HeadRow)});
  head.push_back({"next tokens", shape.total * sizeof(std::int32_t)});
  return {layers, head};
}

/// How many tokens of the vocabulary may lie on the device at once: all, then ever smaller pieces of nearly one size.
std::vector<std::size_t> head_cuts(std::span<const DeviceModel> models, const DeviceTuning& tuning) {
  std::size_t tiles = 1;
  for (const DeviceModel& m : models)
    tiles = std::max(tiles, (std::size_t(m.model->config.n_vocab) + kHeadTile - 1) / kHeadTile);
  const std::size_t most =
      tuning.head_columns == 0 ? tiles : std::clamp(tuning.head_columns / kHeadTile, std::size_t{1}, tiles);
  std::vector<std::size_t> out = {most * kHeadTile};
  for (std::size_t pieces = 2; pieces <= tiles; ++pieces) {
    const std::size_t columns = (tiles + pieces - 1) / pieces * kHeadTile;
    if (columns < out.back()) out.push_back(columns);
  }
  return out;
}

std::uint64_t needed(std::span<const DeviceModel> models, const Shape& shape, const DevicePlan& plan) {
  const auto [layers, head] = buffers(models, shape, plan);
  return std::max(planned_bytes(layers), planned_bytes(head));
}

}  // namespace

HeadBytes head_bytes(const DeviceModel& m, const DevicePlan& plan, std::size_t all_rows) {
  const std::uint64_t rows = std::min(plan.head_rows, all_rows), d_model = std::uint64_t(m.model->config.d_model);
  const DeviceWeights& tile = m.weights[std::size_t(m.model->config.n_layers)];  // none is larger than the first
  const std::uint64_t rank = tile.largest_rank(), count = delta_terms(m.type),
                      tiles = std::min(plan.head_columns / kHeadTile,
                                       m.weights.size() - std::size_t(m.model->config.n_layers));
  const bool in_terms = m.type == ElementType::f32 || (m.type == ElementType::f16 && rank > 0);
  return {.tile = tile.bytes,
          .slot = tiles * tile.bytes,
          .normed = rows * d_model * element_bytes(m.type),
          .terms = in_terms ? count * rows * d_model * sizeof(std::uint16_t) : 0,
          .thin_terms = count * rows * rank * sizeof(std::uint16_t)};
}

std::vector<HeadGroup> head_groups(const ModelConfig& config, std::size_t groups) {
  const auto n_kv = std::size_t(config.n_kv_heads), share = std::size_t(config.n_heads) / n_kv,
             each = (n_kv + groups - 1) / groups;
  std::vector<HeadGroup> out;
  for (std::size_t first = 0; first < n_kv; first += each) {
    const std::size_t count = std::min(each, n_kv - first);
    out.push_back({first, count, first * share, count * share});
  }
  return out;
}

std::uint64_t largest_layer_bytes(const DeviceModel& m) {
  std::uint64_t bytes = 0;
  for (std::size_t layer = 0; layer < std::size_t(m.model->config.n_layers); ++layer)
    bytes = std::max(bytes, m.weights[layer].bytes);
  return bytes;
}

DevicePlan plan_device(std::span<const DeviceModel> models, std::span<const Window> windows, std::uint64_t limit,
                       std::uint64_t held, const DeviceTuning& tuning) {
  const Shape shape = shape_of(windows);
  constexpr std::size_t kFewestRows = 128;
  std::size_t layers = 2;
  for (const DeviceModel& m : models) layers = std::max(layers, std::size_t(m.model->config.n_layers));
  const std::vector<std::size_t> head_columns = head_cuts(models, tuning);
  std::size_t most_groups = 1;
  for (const DeviceModel& m : models) most_groups = std::max(most_groups, std::size_t(m.model->config.n_kv_heads));
  DevicePlan plan{}, least{};
  const auto fits = [&](std::size_t groups, bool spilled, std::size_t rows) {
    for (const std::size_t columns : head_columns) {
      plan = {std::min(tuning.chunk_rows, rows), std::min(tuning.head_rows, rows), 2, columns, groups, spilled, 0};
      plan.bytes = needed(models, shape, plan);
      if (least.bytes == 0 || plan.bytes < least.bytes) least = plan;
      if (plan.bytes <= limit) return true;
    }
    return false;
  };
  const auto search = [&](std::size_t groups, bool spilled) {
    const std::size_t most = std::max(tuning.chunk_rows, tuning.head_rows);
    for (std::size_t rows = most; rows > kFewestRows; rows /= 2)
      if (fits(groups, spilled, rows)) return true;
    return fits(groups, spilled, kFewestRows);
  };
  bool found = false;
  for (std::size_t groups = std::clamp<std::size_t>(tuning.kv_groups, 1, most_groups); !found && groups <= most_groups;
       ++groups)
    found = search(groups, false) || search(groups, true);
  if (!found) {
    const auto [layers_need, head_needs] = buffers(models, shape, least);
    throw memory_error(planned_bytes(layers_need) >= planned_bytes(head_needs) ? layers_need : head_needs, limit, held);
  }
  const std::size_t most_slots = tuning.slots == 0 ? layers : std::clamp<std::size_t>(tuning.slots, 2, layers);
  while (plan.slots < most_slots) {
    DevicePlan more = plan;
    ++more.slots;
    more.bytes = needed(models, shape, more);
    if (more.bytes > limit) break;
    plan = more;
  }
  return plan;
}

DeviceActivations::DeviceActivations(Accelerator& accelerator, std::span<const DeviceModel> models,
                                     std::span<const Window> windows, const DevicePlan& plan)
    : device(accelerator) {
  const ActivationBytes a = activation_bytes(models, shape_of(windows), plan);
  const auto make = [&](std::unique_ptr<Accelerator::Memory>& memory, const char* what, std::uint64_t bytes) {
    if (bytes > 0) memory = device.allocate(what, bytes);
  };
  make(normed, "normed rows", a.normed), make(projected, "projections", a.projected),
      make(activated, "MLP activations", a.activated), make(wide, "wide activations", a.wide);
  make(terms, "bf16 terms", a.terms), make(thin, "adapter activations", a.thin),
      make(thin_terms, "bf16 terms of adapter activations", a.thin_terms), make(keys, "keys of a layer", a.cache),
      make(values, "values of a layer", a.cache), make(residual, "residuals of two chunks", a.residual),
      make(attended, "attended rows of two chunks", a.attended);
  const auto make_places = [&](std::array<Place, 2>& two, const std::unique_ptr<Accelerator::Memory>& memory) {
    if (!memory) return;
    const std::size_t bytes = memory->bytes().size / two.size();
    for (std::size_t at = 0; at < two.size(); ++at)
      two[at] = {memory->bytes().subspan(at * bytes, bytes), device.event(), device.event()};
  };
  make_places(places, residual), make_places(attended_places, attended);
}

}  // namespace ropewalk::verify
