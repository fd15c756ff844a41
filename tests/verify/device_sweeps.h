#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "lib/convert.h"
#include "tests/verify/host_accelerator.h"
#include "tests/verify/random_model.h"
#include "verify/device_sweep.h"
#include "verify/sweep.h"

// What tests of sweeps on a device played on the host (host_accelerator.h) have in common.
namespace ropewalk::verify {

constexpr std::uint64_t kRoom = std::uint64_t{1} << 30;  // of a device on which everything fits

/// Small enough that everything is cut: several chunks of a window, pieces of a matrix, turns of the ring.
inline DeviceTuning small() {
  DeviceTuning out;
  out.chunk_rows = 32, out.head_rows = 24, out.piece_bytes = 3000, out.ring = 4, out.slots = 2, out.readers = 2;
  return out;
}

inline SweepOptions on_host(int threads = 1) {
  SweepOptions options;
  options.threads = threads;
  return options;
}
inline SweepOptions in(Precision precision, SweepReport* report = nullptr) {
  SweepOptions options = on_host();
  options.device = DeviceOptions{.precision = precision};
  options.report = report;
  return options;
}

/// Random windows of those lengths.
inline std::vector<Window> windows_of(std::initializer_list<std::size_t> lengths, int n_vocab) {
  std::vector<Window> out;
  for (const std::size_t length : lengths)
    out.push_back(random_ids(length, n_vocab, static_cast<unsigned>(7 * out.size() + length)));
  return out;
}

/// awkward_config() in widths that blocks of 32 divide, without biases, its head tied.
inline ModelConfig block_config() {
  ModelConfig c = awkward_config();
  c.d_model = 64, c.n_heads = 4, c.n_kv_heads = 2, c.head_dim = 16, c.d_ff = 96, c.n_vocab = 97;
  c.attention_bias = c.mlp_bias = false, c.tied_head = true;
  return c;
}

/// Every matrix stored as `dtype`, raw as a file has it; vectors stay f32. Those of gate and up times `mlp_scale`.
inline Checkpoint stored_as(Checkpoint model, DType dtype, double mlp_scale = 1) {
  for (TensorPtr& tensor : model.tensors) {
    if (tensor->info().shape.size() != 2) continue;
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    if (tensor->name().find("gate_proj") != std::string::npos || tensor->name().find("up_proj") != std::string::npos)
      for (float& x : values) x = float(double(x) * mlp_scale);
    TensorInfo info = tensor->info();
    info.dtype = dtype;
    std::vector<std::byte> bytes(info.bytes());
    encode_f32(dtype, values, bytes);
    tensor = memory_tensor(info, std::move(bytes));
  }
  return model;
}

/// Bit for bit.
inline bool same(const std::vector<std::vector<TokenScore>>& a, const std::vector<std::vector<TokenScore>>& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return std::ranges::equal(x, y, [](const TokenScore& p, const TokenScore& q) {
      return p.nll == q.nll && p.argmax == q.argmax && p.entropy == q.entropy;
    });
  });
}
inline bool same(const PairResult& a, const PairResult& b) {
  return a.layer_distance == b.layer_distance &&
         std::ranges::equal(a.scores, b.scores, [](const auto& x, const auto& y) {
           return std::ranges::equal(x, y, [](const PairScore& p, const PairScore& q) {
             return p.kl == q.kl && p.nll_a == q.nll_a && p.nll_b == q.nll_b && p.same_top1 == q.same_top1;
           });
         });
}

}  // namespace ropewalk::verify
