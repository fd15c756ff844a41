#include "verify/sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "tests/verify/random_model.h"
#include "verify/aligned_buffer.h"
#include "tests/verify/simd_targets_for_test.h"
#include "verify/batch.h"
#include "verify/endings.h"
#include "verify/judge.h"

namespace ropewalk::verify {
namespace {

/// Every double and float of a result as integers, so that == means the same bits.
std::vector<std::uint64_t> bits(const std::vector<TokenScore>& scores) {
  std::vector<std::uint64_t> out;
  for (const TokenScore& s : scores) {
    out.push_back(std::bit_cast<std::uint64_t>(s.nll));
    out.push_back(std::uint64_t(std::bit_cast<std::uint32_t>(s.entropy)) << 32 | std::uint32_t(s.argmax));
  }
  return out;
}
std::vector<std::uint64_t> bits(const std::vector<std::vector<TokenScore>>& windows) {
  std::vector<std::uint64_t> out;
  for (const auto& window : windows) std::ranges::copy(bits(window), std::back_inserter(out));
  return out;
}

std::vector<Window> some_windows(const ModelConfig& config) {
  std::vector<Window> out;
  unsigned seed = 100;
  for (const std::size_t length : {1, 2, 7, 96, 131, 600, 13})
    out.push_back(random_ids(length, config.n_vocab, seed++));
  return out;
}

std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> out(4, awkward_config());
  out[1].rotary_pairs = RotaryPairs::interleaved, out[1].sliding_window = 50, out[1].attention_bias = false;
  out[2].tied_head = true, out[2].n_kv_heads = 1, out[2].mlp_bias = false, out[2].rope.rotary_dim = 12;
  out[3].rope.scaling = RopeDynamic{.factor = 4, .original_context = 64};
  return out;
}

TEST(Sweep, SameBitsForAnyThreadCountBatchAndTarget) {
  for (const ModelConfig& config : configs()) {
    const Checkpoint model = random_model(config, 1);
    const std::vector<Window> windows = some_windows(config);
    const std::vector<std::uint64_t> want = bits(score(model, windows, {.threads = 1}));
    for (const int threads : {2, 3})
      EXPECT_EQ(bits(score(model, windows, {.threads = threads})), want) << threads << " threads";
    std::vector<std::uint64_t> alone;
    for (const Window& window : windows)
      std::ranges::copy(bits(score(model, {&window, 1}, {.threads = 2})[0]), std::back_inserter(alone));
    EXPECT_EQ(alone, want) << "one window at a time";
    ASSERT_GE(simd_targets().size(), 1u);
    for (const SimdTarget& target : simd_targets()) {
      const ForcedTarget forced(target);
      EXPECT_EQ(bits(score(model, windows, {.threads = 2})), want) << target.name;
    }
    EXPECT_NE(bits(score(random_model(config, 2), windows, {.threads = 1})), want)
        << "other weights must give other bits";
  }
}

// What comes later changes nothing: a window's scores begin with those of its prefix. 4500 tokens pass in two chunks.
TEST(Sweep, PrefixesAndChunks) {
  ModelConfig config = awkward_config();
  config.n_layers = 2;
  const Checkpoint model = random_model(config, 3);
  const Window window = random_ids(kChunkRows + 404, config.n_vocab, 5);
  const std::vector<Window> windows = {window, Window(window.begin(), window.begin() + kChunkRows + 3),
                                       Window(window.begin(), window.begin() + 700)};
  const auto scores = score(model, windows, {.threads = 2});
  const auto whole = bits(scores[0]);
  for (const std::size_t w : {1, 2}) {
    const auto prefix = bits(scores[w]);
    EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), whole.begin())) << windows[w].size();
  }
}

// One window for all that may end it has the bits of a window for each.
TEST(Sweep, EndingsAreScoredAsBehindTheirWindow) {
  const Checkpoint model = random_model(awkward_config(), 4);
  const int n_vocab = model.config.n_vocab;
  const std::vector<Window> windows = {random_ids(1, n_vocab, 1), random_ids(140, n_vocab, 2),
                                       random_ids(2, n_vocab, 3)};
  const std::vector<std::vector<std::int32_t>> endings = {{3, 0, n_vocab - 1, 3}, {}, {7, 8}};
  for (const int threads : {1, 3}) {
    const std::vector<EndedScore> found = score_endings(model, windows, endings, {.threads = threads});
    ASSERT_EQ(found.size(), windows.size());
    for (std::size_t w = 0; w < windows.size(); ++w) {
      ASSERT_EQ(found[w].within.size(), windows[w].size() - 1);
      ASSERT_EQ(found[w].endings.size(), endings[w].size());
      const auto own = score(model, {&windows[w], 1}, {.threads = 1})[0];
      for (std::size_t t = 0; t < own.size(); ++t) EXPECT_EQ(found[w].within[t], own[t].nll);
      for (std::size_t i = 0; i < endings[w].size(); ++i) {
        Window whole = windows[w];
        whole.push_back(endings[w][i]);
        EXPECT_EQ(found[w].endings[i], score(model, {&whole, 1}, {.threads = 1})[0].back().nll) << w << " " << i;
      }
    }
    EXPECT_NE(found[2].endings[0], found[2].endings[1]);
  }
  const auto refused = [&](const std::vector<Window>& of, const std::vector<std::vector<std::int32_t>>& by) {
    EXPECT_THROW(score_endings(model, of, by, {.threads = 1}), Error);
  };
  refused({{}}, {{1}});
  refused({{1}}, {{n_vocab}});
  refused({{1}}, {{-1}});
}

TEST(Sweep, ChunksCoverEveryRowOnce) {
  const std::vector<std::size_t> lengths = {5, 0, 3, 10, 11, 1, 1, 25, 2, 10};
  std::size_t row = 0;
  std::vector<std::size_t> seen(lengths.size());
  for (const Chunk& chunk : plan_chunks(lengths, 10)) {
    std::size_t rows = 0;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      EXPECT_EQ(chunk[i].first_row, row);
      EXPECT_EQ(chunk[i].first_position, seen[chunk[i].window]);
      EXPECT_EQ(chunk[i].cache, i);
      EXPECT_TRUE(chunk[i].first_position == 0 || chunk.size() == 1)
          << "a window that goes on must have the caches for itself";
      row += chunk[i].rows, rows += chunk[i].rows, seen[chunk[i].window] += chunk[i].rows;
    }
    EXPECT_LE(rows, 10u);
    EXPECT_GE(rows, 1u);
  }
  EXPECT_EQ(seen, lengths);
}

// Whoever computes one row by itself may round otherwise: which rows stand alone must not hang on the chunks' size.
TEST(Sweep, NoChunkLeavesOneRowOfAWindowBehind) {
  for (const std::size_t most : {3, 4, 10, 128})
    for (std::size_t length = 0; length <= 4 * most + 2; ++length) {
      std::size_t row = 0, chunks = 0;
      for (const Chunk& chunk : plan_chunks(std::vector<std::size_t>{length, 1, length}, most)) {
        ++chunks;
        std::size_t rows = 0;
        for (const Stretch& stretch : chunk) {
          EXPECT_EQ(stretch.first_row, row);
          const std::size_t whole = stretch.window == 1 ? 1 : length;
          EXPECT_TRUE(stretch.rows > 1 || whole == 1) << length << " rows in chunks of " << most;
          row += stretch.rows, rows += stretch.rows;
        }
        EXPECT_LE(rows, most);
      }
      EXPECT_EQ(row, 2 * length + 1);
      EXPECT_LE(chunks, 2 * ((length + most - 1) / most) + 1) << "no more chunks than before";
    }
  EXPECT_EQ(plan_chunks(std::vector<std::size_t>{4097}, 4096).front().front().rows, 4095u);
  EXPECT_EQ(plan_chunks(std::vector<std::size_t>{4097}, 2048)[1].front().rows, 2047u);
}

// --- An independent forward pass, all in double, as plain as can be.

std::vector<double> values_of(const Checkpoint& model, const std::string& name) {
  const TensorPtr tensor = model.find(name);
  if (!tensor) return {};
  std::vector<float> values(tensor->info().elements());
  tensor->read_f32({0, tensor->info().rows()}, values);
  return {values.begin(), values.end()};
}
using Rows = std::vector<std::vector<double>>;
Rows apply(const Checkpoint& model, const std::string& module, const Rows& x) {
  const std::vector<double> w = values_of(model, module + ".weight"), bias = values_of(model, module + ".bias");
  const std::size_t in = x[0].size(), out = w.size() / in;
  Rows y(x.size(), std::vector<double>(out));
  for (std::size_t r = 0; r < x.size(); ++r)
    for (std::size_t o = 0; o < out; ++o) {
      y[r][o] = bias.empty() ? 0 : bias[o];
      for (std::size_t i = 0; i < in; ++i) y[r][o] += w[o * in + i] * x[r][i];
    }
  return y;
}
Rows norm(const Checkpoint& model, const std::string& name, const Rows& x) {
  const std::vector<double> gain = values_of(model, name);
  Rows y = x;
  for (auto& row : y) {
    double sum = 0;
    for (const double v : row) sum += v * v;
    for (std::size_t c = 0; c < row.size(); ++c)
      row[c] *= gain[c] / std::sqrt(sum / double(row.size()) + model.config.rms_eps);
  }
  return y;
}
void turn(const ModelConfig& c, const RopeTable& table, Rows& x) {
  const std::size_t pairs = table.inv_freq.size(), head_dim = std::size_t(c.head_dim);
  const bool interleaved = c.rotary_pairs == RotaryPairs::interleaved;
  for (std::size_t t = 0; t < x.size(); ++t)
    for (std::size_t head = 0; head < x[t].size(); head += head_dim)
      for (std::size_t p = 0; p < pairs; ++p) {
        double &a = x[t][head + (interleaved ? 2 * p : p)], &b = x[t][head + (interleaved ? 2 * p + 1 : p + pairs)];
        const double angle = double(t) * double(float(table.inv_freq[p])),
                     cos = std::cos(angle) * table.attention_factor, sin = std::sin(angle) * table.attention_factor;
        const double rotated = a * cos - b * sin;
        b = b * cos + a * sin;
        a = rotated;
      }
}
Rows reference_logits(const Checkpoint& model, const Window& window) {
  const ModelConfig& c = model.config;
  const RopeTable table = rope_table(c.rope, int(window.size()));
  const std::vector<double> embedding = values_of(model, "model.embed_tokens.weight");
  const auto d = std::ptrdiff_t(c.d_model);
  const std::size_t head_dim = std::size_t(c.head_dim), group = std::size_t(c.n_heads / c.n_kv_heads);
  Rows x;
  for (const std::int32_t id : window) x.emplace_back(embedding.begin() + id * d, embedding.begin() + (id + 1) * d);
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const Rows h = norm(model, prefix + "input_layernorm.weight", x);
    Rows q = apply(model, prefix + "self_attn.q_proj", h), k = apply(model, prefix + "self_attn.k_proj", h);
    const Rows v = apply(model, prefix + "self_attn.v_proj", h);
    turn(c, table, q);
    turn(c, table, k);
    Rows mixed(x.size(), std::vector<double>(q[0].size()));
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t head = 0; head < std::size_t(c.n_heads); ++head) {
        const std::size_t first = c.sliding_window && t + 1 > std::size_t(*c.sliding_window)
                                      ? t + 1 - std::size_t(*c.sliding_window)
                                      : 0,
                          at = head / group * head_dim;
        std::vector<double> weights;
        double total = 0;
        for (std::size_t j = first; j <= t; ++j) {
          double dot = 0;
          for (std::size_t i = 0; i < head_dim; ++i) dot += q[t][head * head_dim + i] * k[j][at + i];
          weights.push_back(std::exp(dot / std::sqrt(double(head_dim))));
          total += weights.back();
        }
        for (std::size_t j = first; j <= t; ++j)
          for (std::size_t i = 0; i < head_dim; ++i)
            mixed[t][head * head_dim + i] += weights[j - first] / total * v[j][at + i];
      }
    const Rows attended = apply(model, prefix + "self_attn.o_proj", mixed);
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += attended[t][i];
    const Rows h2 = norm(model, prefix + "post_attention_layernorm.weight", x);
    Rows gate = apply(model, prefix + "mlp.gate_proj", h2);
    const Rows up = apply(model, prefix + "mlp.up_proj", h2);
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < gate[t].size(); ++i) gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
    const Rows down = apply(model, prefix + "mlp.down_proj", gate);
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += down[t][i];
  }
  Checkpoint head = model;
  if (c.tied_head) head.tensors.push_back(renamed(model.find("model.embed_tokens.weight"), "lm_head.weight"));
  return apply(head, "lm_head", norm(model, "model.norm.weight", x));
}

double distance_to_reference(const Checkpoint& model, const Checkpoint& reference, const Window& window) {
  const LogitsResult got = logits(model, window, 0, {});
  const Rows want = reference_logits(reference, window);
  double largest = 0;
  for (std::size_t t = 0; t < window.size(); ++t)
    for (std::size_t v = 0; v < want[t].size(); ++v)
      largest = max_or_nan(largest, std::abs(double(got.logits[t * want[t].size() + v]) - want[t][v]));
  return largest;
}

// Three layers of float roundings on numbers of size 1 to 5: the zoo's float32 models of this size are up to 3e-5 from
// float64.
constexpr double kTolerance = 6e-5;

TEST(Sweep, AgreesWithAPlainForwardPassInDouble) {
  for (const ModelConfig& config : configs()) {
    const Checkpoint model = random_model(config, 4);
    const Window window = random_ids(90, config.n_vocab, 6);
    EXPECT_TRUE(distance_to_reference(model, model, window) <= kTolerance)
        << distance_to_reference(model, model, window);
    Checkpoint other = model;
    other.config.rope.rotary_dim -= 2;
    EXPECT_FALSE(distance_to_reference(model, other, window) <= kTolerance) << "a pair that does not rotate";
    other = model;
    std::erase_if(other.tensors, [](const TensorPtr& t) {
      return t->name().ends_with("layers.2.self_attn.v_proj.bias") ||
             t->name().ends_with("layers.2.mlp.down_proj.bias");
    });
    if (config.attention_bias || config.mlp_bias) {
      EXPECT_FALSE(distance_to_reference(model, other, window) <= kTolerance) << "a missing bias";
    }
  }
}

TEST(Sweep, CompareIsExactlyZeroForTheSameBits) {
  for (const ModelConfig& config : configs()) {
    const Checkpoint a = random_model(config, 1), b = random_model(config, 1);
    const PairResult result = compare(a, b, some_windows(config), {.threads = 2});
    ASSERT_EQ(result.layer_distance.size(), 3u);
    for (const double d : result.layer_distance) EXPECT_EQ(d, 0.0);
    for (const auto& window : result.scores)
      for (const PairScore& s : window) {
        EXPECT_EQ(s.kl, 0.0);
        EXPECT_TRUE(s.same_top1);
        EXPECT_EQ(s.nll_a, s.nll_b);
      }
  }
}

// Another pair order of Q and K is another order of summation: the f32 floor, not 0.
TEST(Sweep, CompareAcrossLayoutsStaysAtTheFloor) {
  const ModelConfig config = configs()[0];
  const Checkpoint a = random_model(config, 1);
  Checkpoint b = a;
  b.config.rotary_pairs = RotaryPairs::interleaved;
  for (TensorPtr& tensor : b.tensors)
    for (const auto& [part, heads] : {std::pair{".q_proj.", 6u}, {".k_proj.", 2u}})
      if (tensor->name().find(part) != std::string::npos) {
        TensorInfo info = tensor->info();
        info.pairs = RotaryPairs::half_split;
        std::vector<std::byte> bytes(info.bytes());
        tensor->read_raw({0, info.rows()}, bytes);
        tensor = with_rotary_pairs(memory_tensor(info, bytes), RotaryPairs::interleaved, heads, 12, 8);
      }
  const PairResult result = compare(a, b, some_windows(config), {});
  double sum = 0, largest = 0;
  std::size_t n = 0;
  for (const auto& window : result.scores)
    for (const PairScore& s : window) sum += s.kl, largest = std::max(largest, s.kl), ++n;
  EXPECT_TRUE(sum / double(n) <= 1e-9) << sum / double(n);
  EXPECT_GT(largest, 0.0);
}

TEST(Sweep, CompareNamesTheLayerWhereModelsPart) {
  const ModelConfig config = configs()[0];
  const Checkpoint a = random_model(config, 1), other = random_model(config, 2);
  Checkpoint b = a;
  for (TensorPtr& tensor : b.tensors)
    if (tensor->name() == "model.layers.1.mlp.up_proj.weight") tensor = other.find(tensor->name());
  const PairResult result = compare(a, b, some_windows(config), {});
  EXPECT_EQ(result.layer_distance[0], 0.0);
  EXPECT_GT(result.layer_distance[1], 0.01);
  EXPECT_GT(result.layer_distance[2], 0.01);
  const auto alone = score(b, some_windows(config), {});
  for (std::size_t w = 0; w < alone.size(); ++w)
    for (std::size_t t = 0; t < alone[w].size(); ++t)
      EXPECT_EQ(result.scores[w][t].nll_b, alone[w][t].nll) << "side by side or alone";
}

TEST(Generate, IsTheArgmaxStepByStep) {
  for (const ModelConfig& config : configs()) {
    const Checkpoint model = random_model(config, 8);
    const Window prompt = random_ids(60, config.n_vocab, 9);
    const auto [got, ran_into_stop] = generate(model, prompt, 12, std::nullopt, {.threads = 2});
    EXPECT_FALSE(ran_into_stop);
    ASSERT_EQ(got.size(), 12u);
    Window window = prompt;
    for (const std::int32_t id : got) {
      const LogitsResult last = logits(model, window, 1, {});
      EXPECT_EQ(id, std::ranges::max_element(last.logits) - last.logits.begin()) << window.size();
      window.push_back(id);
    }
    const auto stop = std::ranges::find(got, got[5]) - got.begin();
    const Generated stopped = generate(model, prompt, 12, got[5], {});
    EXPECT_EQ(stopped.ids.size(), std::size_t(stop)) << "the stop token is not part of the answer";
    EXPECT_TRUE(stopped.stopped);
    EXPECT_FALSE(generate(model, prompt, int(stop), got[5], {}).stopped) << "one token short of it";
  }
}

/// Counts reads of the tensor it stands for.
class CountedTensor final : public ForwardingTensor {
 public:
  CountedTensor(TensorPtr parent, std::atomic<int>& reads) : ForwardingTensor(parent->info(), parent), reads_(reads) {}
  void read_f32(RowRange range, std::span<float> values) const override {
    ++reads_;
    parent().read_f32(range, values);
  }

 private:
  std::atomic<int>& reads_;
};

// Angles that change with the length cost the keys and values, not the weights.
TEST(Generate, ReadsWeightsOnceWhateverTheRope) {
  for (const ModelConfig& config : configs()) {
    Checkpoint model = random_model(config, 8);
    std::atomic<int> reads = 0;
    for (TensorPtr& tensor : model.tensors)
      if (tensor->name() != "model.embed_tokens.weight") tensor = std::make_shared<CountedTensor>(tensor, reads);
    const auto reads_of = [&](int n_tokens) {
      reads = 0;
      generate(model, random_ids(70, config.n_vocab, 9), n_tokens, std::nullopt, {.threads = 2});
      return reads.load();
    };
    const int one = reads_of(1);
    EXPECT_GT(one, 0);
    EXPECT_EQ(reads_of(5), one);
  }
}

// A last norm of 3e38 overflows in the head. Control: the same model without it goes on.
TEST(Generate, LogitsThatAreNotFiniteAreAnError) {
  const ModelConfig config = awkward_config();
  Checkpoint model = random_model(config, 8);
  const Window prompt = random_ids(60, config.n_vocab, 9);
  EXPECT_EQ(generate(model, prompt, 3, std::nullopt, {}).ids.size(), 3u);
  for (TensorPtr& tensor : model.tensors)
    if (tensor->name() == "model.norm.weight")
      tensor = memory_tensor(tensor->name(), tensor->info().shape,
                             std::vector<float>(static_cast<std::size_t>(config.d_model), 3e38f));
  try {
    generate(model, prompt, 3, std::nullopt, {});
    FAIL() << "some token was taken for the likeliest";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_NE(error.problem().find("the logits at position 59 are not finite"), std::string::npos) << error.what();
  }
  const std::vector<Window> windows = {prompt};
  const PairResult pair = compare(model, model, windows, {});
  EXPECT_TRUE(std::ranges::any_of(pair.scores[0], [](const PairScore& s) { return std::isnan(s.kl); }));
}

// Many windows need not be held at once: part by part, the same bits.
TEST(Sweep, PartsOfABudgetGiveTheSameBits) {
  const Checkpoint model = random_model(awkward_config(), 8);
  std::vector<Window> windows;
  for (const std::size_t length : {50, 3, 120, 7, 7, 90, 1, 64})
    windows.push_back(random_ids(length, model.config.n_vocab, unsigned(length)));
  const std::uint64_t token = row_stride(std::size_t(model.config.d_model)) * sizeof(float);
  const auto whole = score(model, windows, {});
  std::vector<std::size_t> lengths;
  for (const Window& window : windows) lengths.push_back(window.size());
  EXPECT_EQ(split_windows(model.config, lengths, std::uint64_t{1} << 30).size(), 1u);
  EXPECT_EQ(split_windows(model.config, lengths, 0).size(), windows.size()) << "one window is always taken";
  EXPECT_TRUE(split_windows(model.config, {}, 0).empty());
  for (const std::uint64_t budget : {std::uint64_t{0}, 60 * token, 200 * token, ~std::uint64_t{0}}) {
    std::size_t at = 0;
    for (const std::size_t count : split_windows(model.config, lengths, budget)) {
      ASSERT_GT(count, 0u);
      ASSERT_LE(at + count, windows.size());
      const auto part = std::span<const Window>(windows).subspan(at, count);
      std::size_t tokens = 0;
      for (const Window& window : part) tokens += window.size();
      EXPECT_TRUE(part.size() == 1 || tokens <= budget / token) << budget;
      for (const auto& scores : score(model, part, {})) {
        ASSERT_EQ(scores.size(), whole[at].size());
        for (std::size_t t = 0; t < scores.size(); ++t) ASSERT_EQ(scores[t].nll, whole[at][t].nll) << at << " " << t;
        ++at;
      }
    }
    EXPECT_EQ(at, windows.size());
  }
}

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Sweep, ReportsProgress) {
  const Checkpoint model = random_model(configs()[0], 1);
  const std::vector<Window> windows = some_windows(model.config);
  std::vector<int> done;
  score(model, windows, {.threads = 2, .progress = [&](int layers) { done.push_back(layers); }});
  EXPECT_EQ(done, (std::vector<int>{0, 1, 2, 3}));
}

TEST(Sweep, RefusesWhatItCannotJudge) {
  const Checkpoint good = random_model(configs()[0], 1);
  const Window window = random_ids(5, 333, 1);
  const auto run = [&](const Checkpoint& model) { return [&] { score(model, {&window, 1}, {.threads = 3}); }; };
  const auto replace = [&](const std::string& name, TensorPtr by) {
    Checkpoint bad = good;
    std::erase_if(bad.tensors, [&](const TensorPtr& t) { return t->name() == name; });
    if (by) bad.tensors.push_back(std::move(by));
    return bad;
  };
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  std::vector<float> values(40 * 52);
  values[52 * 39 + 7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message_of(run(replace(down, memory_tensor(down, {40, 52}, values)))),
            "'model.layers.1.mlp.down_proj.weight' holds NaN in row 39, column 7, expected finite numbers; the "
            "checkpoint is damaged or was written with an overflow: fetch or export it again");
  EXPECT_EQ(
      message_of(run(replace(down, nullptr))),
      "random model: 'model.layers.1.mlp.down_proj.weight' is missing; the checkpoint is incomplete: fetch it again");
  EXPECT_EQ(message_of(run(replace(down, memory_tensor(down, {52, 40}, values)))),
            "'model.layers.1.mlp.down_proj.weight' has shape [52, 40], [40, 52] was expected; the configuration does "
            "not belong to these weights");
  for (const std::int32_t id : {333, -1}) {
    const std::vector<Window> windows = {{1}, {1, 2, id}};
    EXPECT_EQ(
        message_of([&] { score(good, windows, {}); }),
        "random model: id " + std::to_string(id) +
            " at position 2 of window 1 is outside the vocabulary of 333; use the tokenizer that belongs to the model");
  }
  ModelConfig larger = configs()[0];
  larger.n_vocab = 334;
  EXPECT_EQ(message_of([&] {
              compare(good, random_model(larger, 1), {&window, 1}, {});
            }),
            "random model: vocabulary of 334, 333 in random model; compare models with the same vocabulary");
}

}  // namespace
}  // namespace ropewalk::verify
