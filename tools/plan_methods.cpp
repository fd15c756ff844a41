#include "tools/plan_methods.h"

#include <functional>

#include "formats/gguf_rope.h"
#include "formats/rope_base.h"
#include "formats/rope_config.h"
#include "formats/rope_rewrite.h"
#include "lib/error.h"
#include "lib/rope_bands.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

/// What llama.cpp would run of a GGUF under this rope.
formats::EngineVerdict gguf_verdict(const formats::RopeTarget& target, int head_dim) {
  formats::EngineVerdict verdict;
  verdict.reading.engine = formats::newest(formats::Engine::llama_cpp);
  verdict.reading.context = target.context;
  formats::EngineRope rope;
  rope.spec = target.spec;
  verdict.reading.ropes.push_back(std::move(rope));
  for (const formats::Loss& loss :
       formats::gguf_rope(target.spec, head_dim, target.context, formats::RopeEncoding::automatic).losses)
    if (loss.changes_logits) verdict.difference = loss.name + ": " + loss.reason;
  return verdict;
}

class Planner {
 public:
  Planner(const PlannedModel& model, const ExtendOptions& options, int original)
      : model_(model), options_(options), config_(model.config), context_(*options.context), original_(original) {
    factor_ = std::max(1.0, double(context_) / original);
    const bool plain = std::holds_alternative<RopeUnscaled>(config_.rope.scaling) &&
                       config_.rope.frequency_divisors.empty() && original == config_.context && !model.unread;
    suffix_ = plain ? "" : ",original=" + std::to_string(original);
    if (in_gguf()) return;
    for (const formats::RopeContradiction& one : formats::rope_contradictions(model.hf_config)) {
      const bool theta = one.field == formats::RopeContradiction::Field::theta;
      if (!theta && suffix_.find("original=") == std::string::npos) suffix_ += ",original=" + std::to_string(original);
      if (theta) suffix_ += ",rope_theta=" + number_text(config_.rope.theta, 9);
    }
  }

  std::vector<Planned> all() {
    const std::string to = ",to=" + std::to_string(context_);
    Planned current{"as it is", "", {config_.rope, context_}, 0, {}};
    judge_as_it_is(current);
    planned_.push_back(std::move(current));
    add("linear (PI)", "linear" + to);
    add("NTK-aware", "ntk,alpha=" + number_text(factor_, 6) + to);
    add("dynamic NTK", "dynamic" + to);
    add("NTK-by-parts", "ntk-by-parts" + to);
    add("YaRN", "yarn" + to);
    if (std::holds_alternative<RopeLlama3>(config_.rope.scaling)) add("llama3", "llama3" + to);
    if (config_.model_type == "mistral") add("YaRN, like yarn-mistral", "yarn" + to + ",like=yarn-mistral");
    for (Planned& row : planned_)
      row.coverage = rope_coverage(unscaled_rope(config_.rope), original_, row.target.spec, context_);
    return std::move(planned_);
  }

 private:
  void add(const std::string& method, const std::string& spec) {
    Planned row{method, spec + suffix_, {}, factor_, {}};
    if (model_.ropes) {
      add_other_class(std::move(row));
      return;
    }
    ModelConfig base = config_;
    const formats::RopeRequest request = formats::parse_rope_spec(row.spec, base);
    Json config = in_gguf() ? Json{{"rope_theta", config_.rope.theta}} : model_.hf_config;
    config = formats::config_with_rope(config, request, base);
    row.target = {request.spec, context_};
    judge(row, config);
    planned_.push_back(std::move(row));
  }

  /// By config.json alone.
  void add_other_class(Planned row) {
    if (model_.layered()) {
      const formats::WantedRope after = formats::parse_layer_ropes(row.spec, *model_.ropes, model_.hf_config);
      row.target = {config_.rope, after.context};
      for (const formats::WantedLayer& layer : after.layers)
        if (layer.layer_type == "full_attention") row.target.spec = layer.spec;
      judge(
          row, model_.hf_config,
          [&](const auto& asked) { return formats::emit_layer_ropes(model_.hf_config, after, asked); },
          [&](const formats::EngineReading& reading) { return formats::first_difference(after, reading); });
    } else {
      const formats::RewrittenRope rewritten = formats::rewrite_rope(model_.hf_config, *model_.ropes, row.spec);
      row.target = rewritten.target;
      judge(row, rewritten.config, [&](const auto& asked) {
        return formats::emit_rope(rewritten.config, rewritten.base, rewritten.target, asked);
      });
    }
    planned_.push_back(std::move(row));
  }

  void judge_as_it_is(Planned& row) const {
    if (in_gguf()) {
      row.verdicts = {gguf_verdict(row.target, config_.head_dim)};
      row.verdicts.front().reading.context = config_.context;  // its own keys
      row.verdicts.front().difference = formats::first_difference(row.target, row.verdicts.front().reading);
      return;
    }
    formats::WantedRope all;
    if (model_.layered()) all = *model_.ropes, all.context = context_;
    read_back(row, model_.hf_config, [&](const formats::EngineReading& reading) {
      return model_.layered() ? formats::first_difference(all, reading)
                              : formats::first_difference(row.target, reading);
    });
  }

  void judge(Planned& row, const Json& config) const {
    if (in_gguf()) row.verdicts = {gguf_verdict(row.target, config_.head_dim)};
    else judge(row, config, [&](const auto& asked) { return formats::emit_rope(config, config_, row.target, asked); });
  }
  using Difference = std::function<std::string(const formats::EngineReading&)>;
  /// What engines make of the file that `emit` chooses; where there is none, of `config`.
  template <class Emit>
  void judge(Planned& row, const Json& config, Emit emit, Difference difference = {}) const {
    if (!difference)
      difference = [&](const formats::EngineReading& reading) {
        return formats::first_difference(row.target, reading);
      };
    try {
      row.verdicts = emit(parse_engines(options_.engines)).verdicts;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      read_back(row, config, difference);
    }
  }
  void read_back(Planned& row, const Json& config, const Difference& difference) const {
    for (const formats::EngineVersion& engine : engines()) {
      formats::EngineVerdict verdict{formats::read_as(engine, config), ""};
      verdict.difference = difference(verdict.reading);
      if (verdict.right()) verdict.reading.context = context_;
      row.verdicts.push_back(std::move(verdict));
    }
  }
  std::vector<formats::EngineVersion> engines() const {
    std::vector<formats::EngineVersion> asked = parse_engines(options_.engines);
    return asked.empty() ? formats::newest_engines() : asked;
  }

  bool in_gguf() const { return model_.hf_config.is_null(); }

  const PlannedModel& model_;
  const ExtendOptions& options_;
  const ModelConfig& config_;
  int context_, original_;
  double factor_ = 1;
  std::string suffix_;
  std::vector<Planned> planned_;
};

}  // namespace

std::vector<Planned> plan_methods(const PlannedModel& model, const ExtendOptions& options, int original) {
  return Planner(model, options, original).all();
}

}  // namespace ropewalk::tools
