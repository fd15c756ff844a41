#include "tools/verdict.h"

#include <algorithm>
#include <cmath>

#include "tools/sarif.h"
#include "tools/units.h"
#include "tools/verify_charts.h"

namespace ropewalk::tools {
namespace {

using verify::Bound;
using verify::Gate;

Json gates_json(const std::vector<Gate>& gates) {
  Json list = Json::array();
  for (const Gate& gate : gates)
    list.push_back({{"name", gate.name},
                    {"from", gate.positions ? Json(gate.positions->from) : Json(nullptr)},
                    {"to", gate.positions && gate.positions->to ? Json(*gate.positions->to) : Json(nullptr)},
                    {"value", gate.value},
                    {"bound", verify::name(gate.bound)},
                    {"limit", gate.limit},
                    {"confident", gate.confident ? Json(*gate.confident) : Json(nullptr)},
                    {"inconclusive", gate.inconclusive()},
                    {"pass", gate.pass}});
  return list;
}

Json verify_structure_json(const verify::StructureReport& report) {
  Json list = structure_json(report.items);
  for (std::size_t i = 0; i < std::min<std::size_t>(report.problems.size(), 20); ++i)
    list.push_back({{"name", "tensor"}, {"pass", false}, {"detail", report.problems[i]}});
  return list;
}

Json worst_row_json(const std::optional<verify::WorstRow>& worst) {
  return worst ? Json{{"row", worst->row}, {"error", worst->error}} : Json(nullptr);
}

Json weights_json(const std::vector<verify::WeightDifference>& differences) {
  Json list = Json::array();
  for (const verify::WeightDifference& difference : differences)
    list.push_back({{"name", difference.name},
                    {"type", info(difference.type).name},
                    {"max_error", difference.max_error},
                    {"mean_error", difference.mean_error},
                    {"rms", difference.rms},
                    {"of_bound", difference.worst_of_bound},
                    {"worst_row", worst_row_json(difference.worst_row)},
                    {"flag", difference.flag.empty() ? Json(nullptr) : Json(difference.flag)},
                    {"pass", difference.pass}});
  return list;
}

Json logits_json(const verify::LogitsReport& report) {
  return {{"kl_mean", report.kl_mean},
          {"kl_median", report.kl_median},
          {"kl_p999", report.kl_p999},
          {"kl_max", report.kl_max},
          {"kl_growth", report.kl_growth ? Json(*report.kl_growth) : Json(nullptr)},
          {"top1", report.top1},
          {"ppl_ratio", report.ppl_ratio},
          {"perplexity_source", report.perplexity_source},
          {"perplexity_candidate", report.perplexity_candidate}};
}

Json positions_json(const verify::LogitsReport& report) {
  Json list = Json::array();
  for (const verify::PairBucket& bucket : report.positions)
    list.push_back({{"from", bucket.from},
                    {"to", bucket.to},
                    {"kl_mean", bucket.kl_mean},
                    {"top1", bucket.top1},
                    {"nll_difference", bucket.nll_difference ? Json(*bucket.nll_difference) : Json(nullptr)},
                    {"tokens", bucket.tokens}});
  return list;
}

Json layers_json(const verify::LogitsReport& report) {
  Json list = Json::array();
  for (std::size_t layer = 0; layer < report.layers.size(); ++layer)
    list.push_back({{"layer", layer}, {"distance", report.layers[layer]}});
  return list;
}

std::string range_text(const Gate& gate) {
  if (!gate.positions) return "all";
  const auto& [from, to] = *gate.positions;
  return std::to_string(from) + " to " + (to ? std::to_string(*to) : "end");
}

std::string structure_text(const verify::StructureReport& report) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const verify::StructureItem& item : report.items)
    lines.emplace_back("  " + item.name, (item.pass ? (*item.pass ? "pass  " : "FAIL  ") : "      ") + item.detail);
  return "structure\n" + aligned(lines);
}

std::string weights_text(const std::vector<verify::WeightDifference>& differences) {
  if (differences.empty()) return "weights    FAIL  no tensor could be compared";
  std::uint64_t failed = 0;
  const verify::WeightDifference* worst = &differences.front();
  for (const verify::WeightDifference& difference : differences) {
    failed += difference.pass ? 0 : 1;
    const bool worse = (worst->pass && !difference.pass) ||
                       (worst->pass == difference.pass && difference.worst_of_bound > worst->worst_of_bound);
    if (worse) worst = &difference;
  }
  if (failed > 0)
    return "weights    FAIL  " + std::to_string(failed) + " of " + plural(differences.size(), "tensor") +
           (failed == 1 ? " errs" : " err") + " by more than one rounding to its type may cost: '" + worst->name +
           "' by " + number_text(worst->max_error, 3);
  std::string text = "weights    pass  " + plural(differences.size(), "tensor");
  if (worst->worst_of_bound > 0)
    text += "; largest error is " + number_text(100 * worst->worst_of_bound, 3) + " % of what one rounding to " +
            std::string(info(worst->type).name) + " may cost";
  // Blocks that promise nothing: how far off they are as a whole.
  const auto relative = [](const verify::WeightDifference& one) {
    return one.worst_of_bound == 0 && one.rmse > 0 ? one.rmse / one.rms : 0;
  };
  const auto& farthest = *std::ranges::max_element(differences, {}, relative);
  if (relative(farthest) > 0)
    text += "; RMS error at most " + number_text(100 * relative(farthest), 3) + " % of a tensor's values (" +
            std::string(info(farthest.type).name) + " '" + farthest.name + "')";
  const bool equal = std::ranges::all_of(differences, [](const auto& one) { return one.max_error == 0; });
  return equal ? text + ", every value equal" : text;
}

/// Tensors that are pointed out, those that failed first.
std::string flags_text(const std::vector<verify::WeightDifference>& differences) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> lines;
  for (const bool pass : {false, true})
    for (const verify::WeightDifference& difference : differences)
      if (difference.pass == pass && !difference.flag.empty())
        lines.push_back(std::string(pass ? "flagged    '" : "FAIL       '") + difference.name +
                        "': " + difference.flag);
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) out += (i > 0 ? "\n" : "") + lines[i];
  return lines.size() > kShown ? out + "\n           and " + std::to_string(lines.size() - kShown) + " more" : out;
}

/// "layers     hidden states are 0.002 apart after the first of 32, 0.03 after the last; most is added by layer 7"
std::string layers_text(const std::vector<double>& layers) {
  std::size_t most = 0;
  double added = 0;
  for (std::size_t layer = 0; layer < layers.size(); ++layer)
    if (const double here = layers[layer] - (layer > 0 ? layers[layer - 1] : 0); here > added)
      added = here, most = layer;
  return "layers     hidden states are " + number_text(layers.front(), 3) + " of their size apart after the first of " +
         std::to_string(layers.size()) + ", " + number_text(layers.back(), 3) + " after the last" +
         (added > 0 ? "; layer " + std::to_string(most) + " adds most" : "");
}

std::string logits_text(const LogitsVerdict& logits, int context, bool unmerged, const SweepDevice& device) {
  const verify::LogitsReport& report = logits.report;
  return std::string("logits     ") + (verify::all_pass(logits.gates) ? "pass  " : "FAIL  ") +
         plural(logits.windows, "window") + " of " + std::to_string(context) + " tokens: mean KL " +
         number_text(report.kl_mean, 3) + ", same top token " + number_text(100 * report.top1, 4) + " %, perplexity " +
         fixed_text(report.perplexity_candidate, 3) + " for " + fixed_text(report.perplexity_source, 3) +
         on_device(device) + (unmerged ? "; the source's adapters not merged" : "");
}

std::string reference_text(const ReferenceFigures& reference) {
  return "reference  " + reference.path + ": KL is estimated from the source's " + std::to_string(reference.top) +
         " likeliest tokens, outside of which lies " + number_text(100 * reference.outside, 3) +
         " % of its probability; the mean is at least " + number_text(reference.kl_least, 3) + ". Weights not compared";
}
Json reference_json(const ReferenceFigures& reference) {
  return {{"path", reference.path},
          {"top", reference.top},
          {"kl_mean_at_least", reference.kl_least},
          {"outside", reference.outside}};
}

Json not_judged_json(const std::vector<NotJudged>& not_judged) {
  Json list = Json::array();
  for (const NotJudged& one : not_judged) list.push_back({{"level", one.level}, {"why", one.why}});
  return list;
}
Json evidence_json(const verify::TextEvidence& evidence) {
  return {{"distinct_tokens", evidence.distinct_tokens},
          {"tokens_needed", evidence.tokens_needed},
          {"run_length", evidence.run_length},
          {"distinct_runs", evidence.distinct_share()},
          {"runs_needed", verify::TextEvidence::kRunsNeeded},
          {"enough", evidence.enough()}};
}
/// "812 distinct tokens (32 needed), 99.8 % of the runs of 8 tokens distinct (50 % needed)"
std::string evidence_text(const verify::TextEvidence& evidence) {
  return plural(evidence.distinct_tokens, "distinct token") + " (" + std::to_string(evidence.tokens_needed) +
         " needed), " + number_text(100 * evidence.distinct_share(), 3) + " % of the runs of " +
         plural(evidence.run_length, "token") + " distinct (" +
         number_text(100 * verify::TextEvidence::kRunsNeeded, 3) + " % needed)";
}

Table gate_table(const std::vector<Gate>& gates, const std::vector<NotJudged>& not_judged) {
  Table table{
      {{"gate"}, {"positions"}, {"value", true}, {"with 95 %", true}, {"", false}, {"limit", true}, {"verdict"}}, {}};
  for (const Gate& gate : gates)
    table.rows.push_back({gate.name, range_text(gate), number_text(gate.value, 4),
                          gate.confident ? number_text(*gate.confident, 4) : "-",
                          gate.bound == Bound::max ? "<=" : ">=", number_text(gate.limit, 4),
                          gate.pass             ? "pass"
                          : gate.inconclusive() ? "inconclusive"
                                                : "FAIL"});
  for (const NotJudged& one : not_judged) table.rows.push_back({one.level, "-", "-", "-", "", "-", "not judged"});
  return table;
}

Table position_table(const verify::LogitsReport& report) {
  Table table{{{"positions"}, {"mean KL", true}, {"same top token", true}, {"NLL difference", true}}, {}};
  for (const verify::PairBucket& bucket : report.positions)
    table.rows.push_back({std::to_string(bucket.from) + " to " + std::to_string(bucket.to),
                          number_text(bucket.kl_mean, 3), fixed_text(100 * bucket.top1, 2) + " %",
                          bucket.nll_difference ? number_text(*bucket.nll_difference, 3) : "-"});
  return table;
}

/// "parts at position 256: mean KL 0.0004 before, 0.93 from there on"
std::string parts_text(const verify::LogitsReport& report, int at) {
  const verify::PairPosition before = verify::sum_positions(report.by_position, 0, at),
                             after = verify::sum_positions(report.by_position, at, {});
  return "parts at position " + std::to_string(at) + ": mean KL " +
         (before.tokens > 0 ? number_text(before.kl_mean(), 2) + " before, " : "") + number_text(after.kl_mean(), 2) +
         " from there on";
}

/// "FAIL at level structure: rope, kl_mean": the first level of which a gate failed, and all that failed.
std::string failure_text(const Verdict& verdict) {
  std::vector<std::string> names;
  for (const Gate& gate : verdict.gates)
    if (!gate.pass && std::ranges::find(names, gate.name) == names.end()) names.push_back(gate.name);
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  const bool unsure =
      std::ranges::all_of(verdict.gates, [](const Gate& gate) { return gate.pass || gate.inconclusive(); });
  if (!names.empty() && unsure && verdict.logits && !verdict.logits->evidence.enough())
    return "FAIL at level " + verdict.failed_level.value_or(verdict.level) + ", inconclusive: " + text +
           " within the limit, on a text that repeats itself too much to show it: " +
           evidence_text(verdict.logits->evidence) + "; give another with -f";
  if (!names.empty() && unsure)
    return "FAIL at level " + verdict.failed_level.value_or(verdict.level) + ", inconclusive: " + text +
           " within the limit, and too few tokens to be sure; give more with -f, --windows or -c";
  return "FAIL at level " + verdict.failed_level.value_or(verdict.level) + ": " + (text.empty() ? "no gate ran" : text);
}

/// "; weights and logits not judged"
std::string not_judged_text(const std::vector<NotJudged>& not_judged) {
  std::string out;
  for (const NotJudged& one : not_judged) out += (out.empty() ? "; " : " and ") + one.level;
  return out.empty() ? "" : out + " not judged";
}

/// Defaults that are no gates of a text so short.
std::vector<std::string> left_out_text(const verify::LogitsReport& report) {
  const std::uint64_t compared = verify::sum_positions(report.by_position, 0, {}).tokens;
  std::vector<std::string> lines;
  for (const auto& [name, fewest] : report.left_out)
    lines.push_back("the default gate on " + std::string(name) + " is left out: no text of fewer than " +
                    number_text(fewest, 12) + " positions can pass it, and " + std::to_string(compared) +
                    " were compared; give more with -f, --windows or -c");
  return lines;
}

/// "0.31 > 0.25", or what of it is not known.
std::string found_text(const Gate& gate) {
  if (gate.inconclusive())
    return number_text(gate.value, 6) + ", inconclusive: " +
           (gate.unproven ? "the text repeats itself too much to show it"
            : gate.too_few()
                ? "no text of fewer than " + number_text(gate.fewest, 12) + " positions can show it, and " +
                      std::to_string(gate.positions_held) + " were compared"
            : std::isfinite(*gate.confident) ? "with 95 % confidence no better than " + number_text(*gate.confident, 6)
                                             : "too little was scored for a confidence bound") +
           ", limit " + number_text(gate.limit, 6);
  return number_text(gate.value, 6) + (gate.bound == Bound::max ? " > " : " < ") + number_text(gate.limit, 6);
}

/// What a failing gate of structure or weights found, as the text above says it: which tensor, id or frequency. Empty for
/// one of the logits.
std::string cause_of(const Gate& gate, const Verdict& verdict) {
  if (gate.pass) return "";
  if (gate.name == "weights" && verdict.weights) {
    static constexpr std::string_view kFailed = "FAIL  ";
    const std::string text = weights_text(*verdict.weights);
    const auto flagged =
        std::ranges::find_if(*verdict.weights, [](const auto& d) { return !d.pass && !d.flag.empty(); });
    return text.substr(text.find(kFailed) + kFailed.size()) +
           (flagged == verdict.weights->end() ? "" : "; '" + flagged->name + "': " + flagged->flag);
  }
  static constexpr std::string_view kOwn[] = {"tensors", "geometry", "rope", "context", "chat template"};
  std::string own = gate.name, out;
  std::ranges::replace(own, '_', ' ');
  for (const verify::StructureItem& item : verdict.structure.items) {
    // the tokenizer's gate is of every item that has none of its own
    const bool of_gate =
        gate.name == "tokenizer" ? std::ranges::find(kOwn, item.name) == std::end(kOwn) : item.name == own;
    if (of_gate && item.pass == false)
      out += (out.empty() ? "" : "; ") + (gate.name == "tokenizer" ? item.name + ": " : "") + item.detail;
  }
  if (gate.name == "tensors" && !verdict.structure.problems.empty()) out += ": " + verdict.structure.problems.front();
  return out;
}
/// found_text() and the cause.
std::string message_of(const Gate& gate, const Verdict& verdict) {
  const std::string cause = cause_of(gate, verdict);
  return found_text(gate) + (cause.empty() ? "" : ": " + cause);
}

/// A rule for each gate's name, a result for each gate that did not pass; where none ran, that.
Json verify_sarif(const Verdict& verdict) {
  std::vector<SarifRule> rules;
  std::vector<SarifResult> results;
  const auto rule = [&](const std::string& name) {
    if (std::ranges::find(rules, name, &SarifRule::id) == rules.end())
      rules.push_back({name, name, "An export is as its source is: " + name + ".",
                       "What it compares, and where its limit comes from, is in docs/protocols.md.", "error"});
  };
  for (const Gate& gate : verdict.gates) {
    rule(gate.name);
    if (gate.pass) continue;
    const std::string where = gate.positions ? " at positions " + range_text(gate) : "";
    results.push_back({gate.name, gate.inconclusive() ? "warning" : "error",
                       gate.name + where + " is " + message_of(gate, verdict), verdict.file});
  }
  std::vector<std::string> notes;
  for (const NotJudged& one : verdict.not_judged) notes.push_back(one.level + " not judged: " + one.why);
  if (verdict.gates.empty()) {
    rule("gates");
    results.push_back({"gates", "error", "no gate ran", verdict.file});
  }
  return sarif_log(rules, results, notes);
}

Json body_of(const Verdict& verdict, const Checkpoint& candidate, const Corpus& corpus, const SweepDevice& device) {
  const verify::LogitsReport* report = verdict.logits ? &verdict.logits->report : nullptr;
  return {
      {"candidate", candidate.label},
      {"candidate_read_as", candidate.read_as},
      {"context", verdict.context},
      {"corpus", report ? corpus_json(corpus, verdict.logits->tokens) : Json(nullptr)},
      {"pass", verdict.pass()},
      {"level", verdict.level},
      {"gates", gates_json(verdict.gates)},
      {"structure", verify_structure_json(verdict.structure)},
      {"weights", verdict.weights ? weights_json(*verdict.weights) : Json(nullptr)},
      {"logits", report ? logits_json(*report) : Json(nullptr)},
      {"positions", report ? positions_json(*report) : Json(nullptr)},
      {"layers", report ? layers_json(*report) : Json(nullptr)},
      {"device", report ? device_json(device) : Json(nullptr)},
      {"not_judged", not_judged_json(verdict.not_judged)},
      {"unmerged", verdict.unmerged},
      {"evidence", report ? evidence_json(verdict.logits->evidence) : Json(nullptr)},
      {"run", report ? verdict.run : Json(nullptr)},
      {"reference", report && verdict.logits->reference ? reference_json(*verdict.logits->reference) : Json(nullptr)},
      {"not_compared", verdict.logits_not_compared.empty() ? Json(nullptr) : Json(verdict.logits_not_compared)},
      {"parts_at", report && report->parts_at ? Json(*report->parts_at) : Json(nullptr)}};
}

}  // namespace

void Verdict::add(const std::string& of_level, const std::vector<Gate>& more) {
  level = of_level;
  gates.insert(gates.end(), more.begin(), more.end());
  if (!failed_level && !more.empty() && !verify::all_pass(more)) failed_level = of_level;
}

Json structure_json(const std::vector<verify::StructureItem>& items) {
  Json list = Json::array();
  for (const verify::StructureItem& item : items)
    list.push_back(
        {{"name", item.name}, {"pass", item.pass ? Json(*item.pass) : Json(nullptr)}, {"detail", item.detail}});
  return list;
}

Output verdict_output(const Verdict& verdict, const Checkpoint& source, const Checkpoint& candidate,
                      const Corpus& corpus, const SweepDevice& device, const std::vector<std::string>& beyond) {
  Output output{.command = "verify", .source = source.label, .about = candidate.label + " against " + source.label};
  for (const auto& warnings : {source.warnings, candidate.warnings, beyond})
    output.warnings.insert(output.warnings.end(), warnings.begin(), warnings.end());
  output.body = body_of(verdict, candidate, corpus, device);

  output.text(candidate.label + " (as " + candidate.read_as + " reads it) against " + source.label);
  for (const std::string& line : beyond) output.text("context    " + line);
  output.text(structure_text(verdict.structure));
  if (verdict.weights) {
    output.text(weights_text(*verdict.weights));
    if (std::string flags = flags_text(*verdict.weights); !flags.empty()) output.text(std::move(flags));
  }
  for (const NotJudged& one : verdict.not_judged)
    output.text(one.level + std::string(11 - one.level.size(), ' ') + "not judged: " + one.why);
  if (verdict.logits) {
    output.text(logits_text(*verdict.logits, verdict.context, verdict.unmerged, device));
    if (!verdict.logits->report.layers.empty()) output.text(layers_text(verdict.logits->report.layers));
    if (verdict.logits->reference) output.text(reference_text(*verdict.logits->reference));
    output.text("text       " + corpus.path + ", " + plural(verdict.logits->tokens, "token") + ", sha256 " +
                corpus.sha256);
    output.text("evidence   " + evidence_text(verdict.logits->evidence));
  }
  output.table(gate_table(verdict.gates, verdict.not_judged));
  if (verdict.logits) {
    std::vector<std::string> notices = left_out_text(verdict.logits->report);
    notices.insert(notices.end(), verdict.notices.begin(), verdict.notices.end());
    for (std::string& line : notices) {
      output.text("notice     " + line);
      output.warnings.push_back(std::move(line));
    }
    const verify::LogitsReport& report = verdict.logits->report;
    output.table(position_table(report));
    if (report.parts_at) output.text(parts_text(report, *report.parts_at));
  }
  output.text((verdict.pass() ? "PASS" : failure_text(verdict)) + not_judged_text(verdict.not_judged));
  output.drawings = verify_drawings(verdict);
  output.sarif = verify_sarif(verdict);
  for (const Gate& gate : verdict.gates)
    output.checks.push_back(
        {gate.name + (gate.positions ? "@" + range_text(gate) : ""), gate.pass, message_of(gate, verdict)});
  for (const NotJudged& one : verdict.not_judged)
    output.checks.push_back({.name = one.level, .pass = true, .message = "not judged: " + one.why, .skipped = true});
  return output;
}

}  // namespace ropewalk::tools
