// The forward pass in f32 on SmolLM2-135M's shape with random weights: every logit of every position with log-sum-exp,
// NLL, argmax and entropy.
//   forward_bench [TOKENS PER WINDOW = 2048] [WINDOWS = 4] [THREADS = 0: all]
// Prints tokens/s by wall clock and by CPU seconds (what an idle machine would give), and the rates of the matrix
// product alone, its floor, and of attention at the window's end. No windows: those rates alone.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "lib/executor.h"
#include "lib/recipes.h"
#include "verify/attention.h"
#include "verify/gemm.h"
#include "verify/sweep.h"

namespace {

using namespace ropewalk;

struct Clock {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double cpu_start = cpu();
  static double cpu() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  double wall_s() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
  double cpu_s() const { return cpu() - cpu_start; }
};

ModelConfig smollm2_135m() {
  ModelConfig c;
  c.model_type = "llama";
  c.n_layers = 30, c.d_model = 576, c.n_heads = 9, c.n_kv_heads = 3, c.head_dim = 64, c.d_ff = 1536, c.n_vocab = 49152,
  c.context = 8192;
  c.rms_eps = 1e-5, c.tied_head = true;
  c.rope.theta = 100000, c.rope.rotary_dim = 64;
  return c;
}

Checkpoint random_checkpoint(const ModelConfig& c) {
  Checkpoint model;
  model.label = "random weights", model.config = c;
  std::mt19937 random(1);
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, float centre, float spread) {
    std::uint64_t n = 1;
    for (const std::uint64_t d : shape) n *= d;
    std::vector<float> values(n);
    for (float& x : values) x = centre + spread * (float(random() >> 8) * 0x1p-23f - 1);
    model.tensors.push_back(memory_tensor(name, std::move(shape), values));
  };
  const auto u = [](int n) { return static_cast<std::uint64_t>(n); };
  const std::uint64_t d = u(c.d_model), d_q = u(c.n_heads * c.head_dim), d_kv = u(c.n_kv_heads * c.head_dim),
                      d_ff = u(c.d_ff);
  add("model.embed_tokens.weight", {u(c.n_vocab), d}, 0, 0.04f);
  add("model.norm.weight", {d}, 1, 0.1f);
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {d}, 1, 0.1f);
    add(prefix + "post_attention_layernorm.weight", {d}, 1, 0.1f);
    add(prefix + "self_attn.q_proj.weight", {d_q, d}, 0, 0.06f);
    add(prefix + "self_attn.k_proj.weight", {d_kv, d}, 0, 0.06f);
    add(prefix + "self_attn.v_proj.weight", {d_kv, d}, 0, 0.06f);
    add(prefix + "self_attn.o_proj.weight", {d, d_q}, 0, 0.06f);
    add(prefix + "mlp.gate_proj.weight", {d_ff, d}, 0, 0.06f);
    add(prefix + "mlp.up_proj.weight", {d_ff, d}, 0, 0.06f);
    add(prefix + "mlp.down_proj.weight", {d, d_ff}, 0, 0.04f);
  }
  return model;
}

/// Floating-point operations of one token at the end of `length`, averaged over the window.
struct Work {
  double linears, attention, head;
  double total() const { return linears + attention + head; }
};
Work work_of(const ModelConfig& c, double length) {
  const double d = c.d_model, d_q = c.n_heads * c.head_dim, d_kv = c.n_kv_heads * c.head_dim;
  return {2.0 * c.n_layers * (d * (2 * d_q + 2 * d_kv) + 3 * d * c.d_ff), 4.0 * c.n_layers * d_q * length / 2,
          2.0 * d * c.n_vocab};
}

/// GFLOP/s of one core by its CPU seconds, over a third of a second: as much of a busy machine's disturbance in each rate.
template <class Action>
double sustained(double flop, const Action& action) {
  action();
  const Clock clock;
  double done = 0;
  do {
    action();
    done += flop;
  } while (clock.cpu_s() < 0.3);
  return done / clock.cpu_s() * 1e-9;
}

/// One core's rate for one block of linears, GFLOP/s.
double gemm_rate() {
  const std::size_t rows = 96, depth = 576, panels = 96;
  verify::AlignedBuffer a(rows * verify::row_stride(depth)), b(panels * verify::kPanel * depth),
      c(rows * verify::row_stride(panels * verify::kPanel));
  return sustained(2.0 * double(rows * depth * panels * verify::kPanel), [&] {
    verify::gemm({.a = a.data(),
                  .a_stride = verify::row_stride(depth),
                  .rows = rows,
                  .b = b.data(),
                  .panel_stride = depth * verify::kPanel,
                  .panels = panels,
                  .depth = depth,
                  .c = c.data(),
                  .c_stride = verify::row_stride(panels * verify::kPanel)});
  });
}

/// One core's rate for one head's last queries of a window of `length` random positions, GFLOP/s.
double attention_rate(const ModelConfig& config, std::size_t length) {
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  const std::size_t rows = std::min(length, verify::kQueryTile);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  verify::KvCache cache;
  cache.reserve(1, head_dim, length);
  std::vector<float> key(head_dim), value(head_dim), q(rows * head_dim), out(q.size());
  for (std::size_t position = 0; position < length; ++position) {
    std::ranges::generate(key, [&] { return normal(random); });
    std::ranges::generate(value, [&] { return normal(random); });
    cache.store(0, position, key.data(), value.data());
  }
  std::ranges::generate(q, [&] { return normal(random); });
  return sustained(4.0 * double(rows * length * head_dim), [&] {
    verify::attention(cache, {.q = q.data(),
                              .out = out.data(),
                              .stride = head_dim,
                              .rows = rows,
                              .first_position = length - rows,
                              .kv_head = 0,
                              .scale = 1 / std::sqrt(float(head_dim)),
                              .sliding_window = {}});
  });
}

}  // namespace

int main(int argc, char** argv) {
  const int length = argc > 1 ? std::atoi(argv[1]) : 2048, windows = argc > 2 ? std::atoi(argv[2]) : 4,
            asked = argc > 3 ? std::atoi(argv[3]) : 0;
  const int threads = asked > 0 ? asked : available_threads();
  const ModelConfig config = smollm2_135m();
  std::mt19937 random(2);
  std::vector<verify::Window> ids(static_cast<std::size_t>(windows), verify::Window(static_cast<std::size_t>(length)));
  for (verify::Window& window : ids)
    for (std::int32_t& id : window) id = std::int32_t(random() % unsigned(config.n_vocab));

  const Work work = work_of(config, length);
  std::printf("SmolLM2-135M shape, f32, %d windows of %d tokens, %d threads\n", windows, length, threads);
  std::printf("work per token: %.0f MFLOP (linears %.0f, attention %.0f, head %.0f)\n", work.total() * 1e-6,
              work.linears * 1e-6, work.attention * 1e-6, work.head * 1e-6);
  const double product = gemm_rate(), attention = attention_rate(config, static_cast<std::size_t>(length));
  std::printf("matrix product alone: %.1f GFLOP/s per core\n", product);
  std::printf("attention alone, at the window's end: %.1f GFLOP/s per core, %.0f %% of that\n", attention,
              100 * attention / product);
  if (windows == 0) return 0;
  const Checkpoint model = random_checkpoint(config);
  const Clock clock;
  double layers_wall = 0, layers_cpu = 0;
  verify::score(model, ids, {.threads = threads, .progress = [&](int done) {
                               if (done == config.n_layers) layers_wall = clock.wall_s(), layers_cpu = clock.cpu_s();
                             }});
  const double wall = clock.wall_s(), cpu = clock.cpu_s(), tokens = double(length) * windows;
  const auto line = [&](const char* part, double flop, double wall_s, double cpu_s) {
    std::printf("%-8s %7.2f s wall %7.2f s CPU  %6.1f GFLOP/s wall  %6.1f GFLOP/s per core\n", part, wall_s, cpu_s,
                flop * tokens / wall_s * 1e-9, flop * tokens / cpu_s * 1e-9);
  };
  line("layers", work.linears + work.attention, layers_wall, layers_cpu);
  line("head", work.head, wall - layers_wall, cpu - layers_cpu);
  line("all", work.total(), wall, cpu);
  std::printf("%.1f tokens/s wall; %.1f tokens/s by CPU seconds on %d cores\n", tokens / wall, tokens / cpu * threads,
              threads);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("peak resident: %.0f MB (weights %.0f MB of it held by this program)\n", double(usage.ru_maxrss) / 1024,
              538.0);
  return 0;
}
