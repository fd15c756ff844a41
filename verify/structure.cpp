#include "verify/structure.h"

#include <algorithm>
#include <cmath>

#include "formats/gguf_model.h"
#include "lib/number_text.h"
#include "lib/plural.h"
#include "verify/structure_tokenizer.h"

namespace ropewalk::verify {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

std::string short_number(double value) { return number_text(value, 3); }

/// Part of the decoder, rather than a buffer some checkpoints carry along (rotary_emb.inv_freq).
bool is_decoder_tensor(const std::string& name) { return formats::gguf_tensor_name(name).has_value(); }

void compare_tensors(const Checkpoint& source, const Checkpoint& candidate, const Sides& sides,
                     StructureReport& report) {
  std::size_t compared = 0, outside = 0;
  for (const TensorPtr& tensor : source.tensors) {
    if (!is_decoder_tensor(tensor->name())) {
      ++outside;
      continue;
    }
    const TensorPtr other = counterpart(candidate, tensor->name());
    if (!other) report.problems.push_back("'" + tensor->name() + "' is not in " + sides.candidate);
    else if (other->info().shape != tensor->info().shape)
      report.problems.push_back("'" + tensor->name() + "' is " + shape_text(other->info().shape) + " in " +
                                sides.candidate + ", " + shape_text(tensor->info().shape) + " in " + sides.source);
    else ++compared;
  }
  for (const TensorPtr& tensor : candidate.tensors) {
    if (!is_decoder_tensor(tensor->name()) || source.find(tensor->name())) continue;
    if (tensor->name() == kHead && source.config.tied_head) continue;  // weights are compared with the embedding
    report.problems.push_back("'" + tensor->name() + "' is not in " + sides.source);
  }
  std::string detail =
      plural(compared, "tensor") + (compared == 1 ? " with equal name and shape" : " with equal names and shapes");
  if (outside > 0) detail += ", " + std::to_string(outside) + " outside the decoder not compared";
  if (!report.problems.empty()) detail = differ_text(report.problems.size()) + ": " + report.problems.front();
  report.items.push_back({"tensors", report.problems.empty(), detail});
  report.gates.push_back(gate_on("tensors", static_cast<double>(report.problems.size()), Bound::max, 0));
}

/// A rope as it turns at the context compared, and in words.
struct Rotation {
  RopeTable table;
  std::string words;
};
Rotation rotation_of(const Checkpoint& model, int context) {
  return {rope_table(model.config.rope, context), describe(model.config.rope)};
}

void compare_ropes(const Rotation& source, const Rotation& candidate, int context, const Sides& sides,
                   StructureReport& report) {
  const RopeTable &a = source.table, &b = candidate.table;
  // A pair that turns by less than a millionth of a radian in the whole context stands still (proportional rope's 0).
  const double standing = 1e-6 / std::max(1, context);
  double worst = a.inv_freq.size() == b.inv_freq.size() ? 0 : INFINITY;
  std::size_t at = 0;
  for (std::size_t pair = 0; pair < std::min(a.inv_freq.size(), b.inv_freq.size()); ++pair) {
    const double difference =
        std::abs(b.inv_freq[pair] - a.inv_freq[pair]) / std::max(std::abs(a.inv_freq[pair]), standing);
    if (!(difference <= worst)) worst = difference, at = pair;
  }
  const double attention = std::abs(b.attention_factor / a.attention_factor - 1);
  // Keys are stored as float: 2^-24 per factor, a few factors per frequency.
  constexpr double kStored = 1e-6;
  report.gates.push_back(gate_on("rope", std::max(worst, attention), Bound::max, kStored));
  if (report.gates.back().pass) {
    report.items.push_back(
        {"rope", true, "the same " + std::to_string(a.inv_freq.size()) + " frequencies, both " + source.words});
    return;
  }
  std::string detail =
      sides.candidate + " computes " + candidate.words + ", " + sides.source + " " + source.words + "; ";
  if (a.inv_freq.size() != b.inv_freq.size())
    detail += std::to_string(b.inv_freq.size()) + " pairs of channels rotate in a head for " +
              std::to_string(a.inv_freq.size());
  else if (worst > 0)
    detail += "worst frequency off by " + short_number(100 * worst) + " % (pair " + std::to_string(at) + ")";
  else detail += "equal frequencies";
  if (attention != 0)
    detail += ", attention factor " + short_number(b.attention_factor) + " for " + short_number(a.attention_factor);
  report.items.push_back({"rope", false, detail});
}

/// Keys a query sees among `context`; a window that is never reached is none.
int window_in(const ModelConfig& config, int context) {
  return config.sliding_window && *config.sliding_window < context ? *config.sliding_window : 0;
}

void compare_geometry(const ModelConfig& a, const ModelConfig& b, int context, const Sides& sides,
                      StructureReport& report) {
  std::string detail;
  int differences = 0;
  const auto differ = [&](const char* name, const std::string& x, const std::string& y) {
    ++differences;
    detail += (detail.empty() ? "" : ", ") + std::string(name) + " " + y + " for " + x;
  };
  const auto compare = [&](const char* name, int x, int y) {
    const auto shown = [](int n) { return n == 0 ? std::string("none") : std::to_string(n); };
    if (x != y) differ(name, shown(x), shown(y));
  };
  compare("layers", a.n_layers, b.n_layers);
  compare("width", a.d_model, b.d_model);
  compare("heads", a.n_heads, b.n_heads);
  compare("kv heads", a.n_kv_heads, b.n_kv_heads);
  compare("head_dim", a.head_dim, b.head_dim);
  compare("sliding window", window_in(a, context), window_in(b, context));
  if (!(std::abs(a.rms_eps - b.rms_eps) <= 1e-6 * a.rms_eps))  // stored as float: 2^-24
    differ("rms_eps", short_number(a.rms_eps), short_number(b.rms_eps));
  report.gates.push_back(gate_on("geometry", differences, Bound::max, 0));
  report.items.push_back({"geometry", detail.empty(), detail.empty() ? "equal" : sides.candidate + " has " + detail});
}

}  // namespace

TensorPtr counterpart(const Checkpoint& candidate, const std::string& name) {
  if (TensorPtr tensor = candidate.find(name)) return tensor;
  return name == kHead && candidate.config.tied_head ? candidate.find(kEmbedding) : nullptr;
}

namespace {

StructureReport compare_all(const Checkpoint& source, const Rotation& rotation, const Checkpoint& candidate,
                            std::span<const std::string> documents, int context, const Sides& sides) {
  StructureReport report;
  compare_tensors(source, candidate, sides, report);
  compare_geometry(source.config, candidate.config, context, sides, report);
  compare_tokenizers(source, candidate, documents, sides, report);
  compare_ropes(rotation, rotation_of(candidate, context), context, sides, report);
  const int wanted = std::min(context, source.config.context);
  const bool serves = candidate.config.context >= wanted;
  report.items.push_back({"context", serves,
                          sides.candidate + " serves " + std::to_string(candidate.config.context) + " tokens, " +
                              sides.source + " " + std::to_string(source.config.context)});
  report.gates.push_back(gate_on("context", candidate.config.context, Bound::min, wanted));
  return report;
}

}  // namespace

StructureReport compare_structure(const Checkpoint& source, const Checkpoint& candidate,
                                  std::span<const std::string> documents, int context, const Sides& sides) {
  return compare_all(source, rotation_of(source, context), candidate, documents, context, sides);
}

StructureReport compare_structure(const Checkpoint& source, const RopeTable& rope, const std::string& rope_words,
                                  const Checkpoint& candidate, int context) {
  return compare_all(source, {rope, rope_words}, candidate, {}, context, {});
}

}  // namespace ropewalk::verify
