#include "tools/verify_estimate.h"

#include <numeric>

#include "lib/executor.h"
#include "lib/plural.h"
#include "tools/units.h"
#include "tools/windows.h"
#include "verify/sweep_cost.h"

namespace ropewalk::tools {
namespace {

/// "65,536".
std::string grouped(std::uint64_t n) {
  std::string digits = std::to_string(n);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}
/// "8k", "1000".
std::string context_text(int context) {
  return context % 1024 == 0 ? std::to_string(context / 1024) + "k" : std::to_string(context);
}

}  // namespace

Output estimate(const std::vector<const Checkpoint*>& models, const std::vector<std::size_t>& lengths, int context,
                bool from_text, const CommonOptions& common) {
  const int threads = common.threads > 0 ? common.threads : available_threads();
  std::vector<verify::MeasuredRates> rates;
  for (const Checkpoint* model : models) rates.push_back(verify::measure_rates(*model, threads));
  const auto seconds = [&](const std::vector<std::size_t>& windows) {
    double sum = 0;
    for (std::size_t i = 0; i < models.size(); ++i) sum += verify::sweep_seconds(*models[i], windows, rates[i]);
    return sum;
  };
  const std::uint64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::uint64_t{0});
  const double whole = seconds(lengths);

  Output output{.command = "verify", .source = models.front()->label};
  std::string line = grouped(tokens) + " tokens x " + plural(models.size(), "model") + " on " +
                     plural(static_cast<std::uint64_t>(threads), "core") + ": about " + duration_text(whole);
  Json shorter = Json::array();
  for (int other = context / 8; from_text && other >= 1024 && shorter.size() < 2; other /= 8) {
    const std::vector<std::size_t> windows(default_windows(other), static_cast<std::size_t>(other));
    const double taken = seconds(windows);
    line += "; -c " + context_text(other) + ": " + duration_text(taken);
    shorter.push_back({{"context", other}, {"tokens", windows.size() * windows.front()}, {"seconds", taken}});
  }
  output.text("estimate   " + line);
  std::uint64_t kept = 0;
  for (const Checkpoint* model : models)
    kept += tokens * static_cast<std::uint64_t>(model->config.d_model) * sizeof(float);
  output.text("checkpoint " + bytes_text(kept) +
              " at most in a FILE of --checkpoint: what a kill then costs is a minute and a layer");
  Json each = Json::array();
  for (std::size_t i = 0; i < models.size(); ++i) {
    const verify::SweepOperations operations = verify::sweep_operations(*models[i], lengths);
    each.push_back({{"source", models[i]->label},
                    {"seconds", verify::sweep_seconds(*models[i], lengths, rates[i])},
                    {"linear_operations", operations.linear + operations.head},
                    {"attention_operations", operations.attention},
                    {"linear_rate", rates[i].linear},
                    {"attention_rate", rates[i].attention},
                    {"layer_read_seconds", rates[i].read_seconds}});
  }
  output.body = {{"estimate", whole},  {"context", context},        {"windows", lengths.size()},    {"tokens", tokens},
                 {"threads", threads}, {"models", std::move(each)}, {"shorter", std::move(shorter)}};
  return output;
}

}  // namespace ropewalk::tools
