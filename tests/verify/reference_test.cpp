#include "verify/reference.h"

#include <cmath>
#include <numeric>

#include "formats/tokenizers/tokenizer.h"
#include "lib/file.h"
#include "tests/verify/golden_models.h"
#include "verify/judge.h"

namespace ropewalk::verify {
namespace {

std::string model_path(const std::string& name) { return golden_dir() / "fixtures/models" / name; }

std::vector<Window> windows_of(const Checkpoint& model, std::size_t size, std::size_t count) {
  const std::string text = read_text_file(golden_dir() / "fixtures/goldens/perplexity/doc-1.txt", 1 << 20);
  const auto ids = formats::Tokenizer::create(*model.vocabulary)->encode(text);
  std::vector<Window> out;
  for (std::size_t w = 0; w < count; ++w)
    out.emplace_back(ids.begin() + std::ptrdiff_t(w * size), ids.begin() + std::ptrdiff_t((w + 1) * size));
  return out;
}

/// KL of two rows of logits, and KL with everything outside the 64 likeliest of `a` as one token. In long double.
struct Kl {
  long double whole = 0, least = 0;
};
Kl kl_of(std::span<const float> a, std::span<const float> b) {
  const auto shares = [](std::span<const float> x) {
    const long double max = *std::ranges::max_element(x);
    std::vector<long double> out;
    for (const float value : x) out.push_back(std::exp((long double)value - max));
    const long double sum = std::accumulate(out.begin(), out.end(), 0.0L);
    for (long double& share : out) share /= sum;
    return out;
  };
  const auto p = shares(a), q = shares(b);
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::size_t i, std::size_t j) { return a[i] > a[j]; });
  Kl out;
  long double rest_p = 0, rest_q = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const long double x = p[order[rank]], y = q[order[rank]], term = x * std::log(x / y);
    out.whole += term;
    if (rank < std::size_t(kReferenceTop)) out.least += term;
    else rest_p += x, rest_q += y;
  }
  out.least += rest_p * std::log(rest_p / rest_q);
  return out;
}

/// A source, a candidate that is near it (a merged adapter, q8_0-like rounding) or far (another rope).
struct Pair {
  const char *source, *candidate;
};

class Reference : public testing::TestWithParam<Pair> {};

TEST_P(Reference, AgreesWithTheWholeDistributions) {
  const auto source = open_golden(model_path(GetParam().source)), other = open_golden(model_path(GetParam().candidate));
  const auto windows = windows_of(source.checkpoint, 256, 2);
  const formats::SavedReference saved = make_reference(source.checkpoint, windows, 256, {.threads = 2});
  const ReferenceResult found = compare_with_reference(saved, other.checkpoint, {.threads = 2});
  const PairResult exact = compare(source.checkpoint, other.checkpoint, windows, {.threads = 2});

  long double whole = 0, least = 0;
  double estimate = 0;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const auto a = logits(source.checkpoint, windows[w], 0, {.threads = 2}).logits,
               b = logits(other.checkpoint, windows[w], 0, {.threads = 2}).logits;
    const auto n_vocab = std::size_t(source.checkpoint.config.n_vocab);
    for (std::size_t t = 0; t < windows[w].size(); ++t) {
      const Kl kl = kl_of(std::span(a).subspan(t * n_vocab, n_vocab), std::span(b).subspan(t * n_vocab, n_vocab));
      whole += kl.whole, least += kl.least;
      const PairScore &mine = found.pair.scores[w][t], &full = exact.scores[w][t];
      // what needs no estimate is the same to the bit
      EXPECT_EQ(mine.nll_a, full.nll_a) << t;
      EXPECT_EQ(mine.nll_b, full.nll_b) << t;
      EXPECT_EQ(mine.same_top1, full.same_top1) << t;
      EXPECT_GE(mine.kl, 0);
      estimate += mine.kl;
    }
  }
  const auto n = double(found.pair.scores.size() * 256);
  // 64 roundings of shares in double, against long double
  EXPECT_NEAR(found.kl_least, double(least) / n, 1e-12 + 1e-9 * double(least) / n);
  EXPECT_LE(found.kl_least, double(whole) / n);
  RecordProperty("kl", std::to_string(double(whole) / n));
  std::cout << GetParam().candidate << ": KL " << double(whole) / n << ", at least " << found.kl_least << ", estimate "
            << estimate / n << ", outside " << found.outside << "\n";
  EXPECT_NEAR(estimate / n, double(whole) / n, 0.01 * double(whole) / n) << "docs/protocols.md states the error";

  ASSERT_EQ(found.pair.layer_distance.size(), exact.layer_distance.size());
  for (std::size_t layer = 0; layer < exact.layer_distance.size(); ++layer)
    // 64 sketches of 8 numbers: 25 % each, 3 % of their mean; the rest is which positions are sketched
    EXPECT_NEAR(found.pair.layer_distance[layer], exact.layer_distance[layer], 0.15 * exact.layer_distance[layer])
        << layer;
}

INSTANTIATE_TEST_SUITE_P(Pairs, Reference,
                         testing::Values(Pair{"tolstoy-4m-yarn-2k", "tolstoy-4m"},
                                         Pair{"tolstoy-4m", "tolstoy-4m+rope=linear,factor=1.05"},
                                         Pair{"tolstoy-4m", "tolstoy-4m+rope=linear,factor=4"}));

TEST(Reference, OfTheSameModelIsZero) {
  const auto source = open_golden(model_path("tolstoy-4m"));
  const auto windows = windows_of(source.checkpoint, 100, 2);
  const formats::SavedReference saved = make_reference(source.checkpoint, windows, 100, {.threads = 1});
  EXPECT_EQ(formats::reference_bytes(saved),
            formats::reference_bytes(make_reference(source.checkpoint, windows, 100, {.threads = 3})))
      << "the same bytes whatever the threads";
  const ReferenceResult found =
      compare_with_reference(formats::parse_reference(formats::reference_bytes(saved), "r"), source.checkpoint, {});
  EXPECT_EQ(found.kl_least, 0);
  EXPECT_GT(found.outside, 0);
  for (const auto& window : found.pair.scores)
    for (const PairScore& score : window) {
      EXPECT_EQ(score.kl, 0);
      EXPECT_TRUE(score.same_top1);
    }
  for (const double distance : found.pair.layer_distance) EXPECT_EQ(distance, 0);
}

TEST(Reference, ACandidateThatIsNoNumberHasNoKl) {
  const auto source = open_golden(model_path("stories260K"));
  const std::vector<Window> windows = {Window{1, 5, 9, 20, 33}};
  const formats::SavedReference saved = make_reference(source.checkpoint, windows, 5, {});
  Checkpoint bent = source.checkpoint;
  for (TensorPtr& tensor : bent.tensors)
    if (tensor->name() == "model.norm.weight")
      tensor = memory_tensor(tensor->name(), tensor->info().shape,
                             std::vector<float>(tensor->info().elements(), 3e38f));  // overflows in the head
  const ReferenceResult found = compare_with_reference(saved, bent, {});
  LogitsReport report = summarise_pair(found.pair, 0, 5);
  EXPECT_FALSE(all_pass(apply_gates({{Figure::kl_mean, Bound::max, 1e6}}, report)));
  EXPECT_THROW(make_reference(bent, windows, 5, {}), Error) << "nothing can be judged by such a source";
}

TEST(Reference, CarriesTheStructure) {
  const auto source = open_golden(model_path("tolstoy-4m-yarn-2k"));
  const auto windows = windows_of(source.checkpoint, 64, 1);
  Checkpoint with_template = source.checkpoint;
  with_template.vocabulary->chat_templates = {{"default", "{{ messages }}"}};
  formats::SavedReference saved = make_reference(with_template, windows, 64, {});
  saved = formats::parse_reference(formats::reference_bytes(saved), "r");
  const std::vector<std::string> text = {"Well, Prince, so Genoa and Lucca"};
  const std::vector<std::vector<std::int32_t>> ids = {
      formats::Tokenizer::create(*source.checkpoint.vocabulary)->encode(text[0])};
  saved.ids_sha256 = ids_sha256(ids);
  const auto failing = [&](const Checkpoint& candidate, const std::vector<std::string>& documents) {
    std::string names;
    for (const Gate& gate : compare_structure(saved, candidate, documents).gates)
      if (!gate.pass) names += (names.empty() ? "" : ",") + gate.name;
    return names;
  };
  EXPECT_EQ(failing(with_template, text), "");
  EXPECT_EQ(failing(with_template, {"another text"}), "tokenizer");
  EXPECT_EQ(failing(source.checkpoint, text), "chat_template") << "lost";
  Checkpoint bent = with_template;
  bent.config.rope.theta *= 1.01;
  EXPECT_EQ(failing(bent, text), "rope");
  bent = with_template;
  bent.tensors.pop_back();
  EXPECT_EQ(failing(bent, text), "tensors");
  bent = with_template;
  bent.vocabulary->pieces[300].text += "x";
  EXPECT_EQ(failing(bent, {}), "tokenizer");
  bent = with_template;
  bent.config.rms_eps *= 2;
  EXPECT_EQ(failing(bent, text), "geometry");
  bent = with_template;
  bent.config.context = 32;
  EXPECT_EQ(failing(bent, text), "context");
}

}  // namespace
}  // namespace ropewalk::verify
