#include "formats/adapters/combine.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "formats/adapters/kinds.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/best_of_rank.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/number_text.h"

namespace ropewalk::formats {
namespace {

[[noreturn]] void fail_usage(std::string_view text, const std::string& problem) {
  std::string names;
  for (const std::string& name : combination_names()) names += (names.empty() ? "" : ", ") + name;
  throw Error(ErrorKind::usage, {}, "--combine '" + std::string(text) + "': " + problem,
              "expected TYPE[,density=D][,rank=R][,sign=total|frequency][,clamp=Q], TYPE one of " + names);
}

double number_in(std::string_view text, std::string_view key, std::string_view value, double min, double max) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || !(number >= min && number <= max))
    fail_usage(text, std::string(key) + " is '" + std::string(value) + "', no number from " + std::to_string(int(min)) +
                         " to " + std::to_string(int(max)));
  return number;
}

/// What all adapters do to one tensor.
struct Member {
  const PeftAdapter* adapter;
  const AdapterModule* module;
  double weight;
};

const LowRankChange& low_rank_of(const Member& member) {
  const auto* change = std::get_if<LowRankChange>(&member.module->change);
  if (change) return *change;
  throw Error(ErrorKind::unsupported, {.path = member.adapter->folder.string()},
              "its change of '" + member.module->target + "' is of kind " + member.module->kind +
                  ", and only LoRA deltas are combined",
              "leave --combine out: changes apply one after the other then");
}

std::string name_of(Combination type) {
  for (const std::string& name : combination_names())
    if (combination_from_name(name) == type) return name;
  return {};
}

/// As PEFT 0.21.2 sizes its factors: r and every value of rank_pattern, whether a module meets them or not.
std::uint64_t largest_rank(const PeftAdapter& adapter) {
  std::uint64_t rank = 0;
  for (const AdapterModule& module : adapter.modules) rank = std::max(rank, module.rank);
  if (!adapter.config.is_object() || adapter.config.value("peft_type", "") != "LORA") return rank;
  rank = std::max(rank, adapter.config.at("r").get<std::uint64_t>());
  if (const Json pattern = adapter.config.value("rank_pattern", Json()); pattern.is_object())
    for (const Json& value : pattern) rank = std::max(rank, value.get<std::uint64_t>());
  return rank;
}

/// `options` as PEFT 0.21.2 completes them for these adapters; notes say what is not as asked for, and where PEFT's result
/// is wrong.
CombineOptions completed(const std::vector<ScaledAdapter>& adapters, CombineOptions options,
                         std::vector<std::string>& notes) {
  if (adapters.size() == 1) {
    if (options.type != Combination::linear && options.type != Combination::cat)
      notes.push_back("--combine " + name_of(options.type) +
                      " of one adapter alone is linear, as in PEFT 0.21.2: nothing of it is pruned, dropped or cut");
    options.type = Combination::linear;
  }
  std::uint64_t most = 0, sum = 0;
  for (const ScaledAdapter& scaled : adapters) {
    const std::uint64_t rank = largest_rank(*scaled.adapter);
    most = std::max(most, rank), sum += rank;
  }
  const bool cut = name_of(options.type).ends_with("svd");
  const std::uint64_t rank = options.type == Combination::cat ? sum : cut ? options.rank.value_or(most) : most;
  options.rank = rank;
  const PeftAdapter& first = *adapters.front().adapter;
  if (rank > 1 && first.config.is_object() && first.config.value("use_rslora", Json()) == true)
    notes.push_back("'" + first.folder.string() + "', the first of the adapters, is rsLoRA: PEFT 0.21.2 takes the " +
                    "combination of rank " + std::to_string(rank) + " for rsLoRA too, and merges every delta of it " +
                    "sqrt(" + std::to_string(rank) + ") = " + number_text(std::sqrt(double(rank)), 4) +
                    " times too large; here it is what the weights say");
  return options;
}

}  // namespace

CombineOptions parse_combination(std::string_view text) {
  CombineOptions options;
  std::string_view rest = text;
  const auto next = [&] {
    const std::string_view part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    return part;
  };
  const std::string_view name = next();
  const auto type = combination_from_name(name);
  if (!type) {
    const auto near = nearest_word(name, combination_names());
    fail_usage(text, "'" + std::string(name) + "' is no combination" + (near ? "; did you mean " + *near + "?" : ""));
  }
  options.type = *type;
  while (!rest.empty()) {
    const std::string_view part = next();
    const std::string_view key = part.substr(0, part.find('='));
    const std::string_view value = part.size() > key.size() ? part.substr(key.size() + 1) : std::string_view();
    if (key == "density") options.density = number_in(text, key, value, 0, 1);
    else if (key == "clamp") options.clamp = number_in(text, key, value, 0, 1);
    else if (key == "rank") {
      const double rank = number_in(text, key, value, 1, 1 << 20);
      if (rank != std::floor(rank)) fail_usage(text, "rank is '" + std::string(value) + "', no whole number");
      options.rank = std::uint64_t(rank);
    } else if (key == "sign" && (value == "total" || value == "frequency"))
      options.sign_by_count = value == "frequency";
    else fail_usage(text, "'" + std::string(part) + "' is not known");
  }
  return options;
}

PeftAdapter combine_adapters(const std::vector<ScaledAdapter>& adapters, const CombineOptions& asked,
                             std::vector<std::string>& notes) {
  const CombineOptions options = completed(adapters, asked, notes);
  PeftAdapter out;
  out.kind = "combination";
  out.folder = adapters.front().adapter->folder;
  out.weights = adapters.front().adapter->weights;
  std::map<std::string, std::vector<Member>> by_target;
  for (const ScaledAdapter& scaled : adapters)
    for (const AdapterModule& module : scaled.adapter->modules) {
      if (module.base_copy) out.modules.push_back(module);  // the merge compares it with the base
      else by_target[module.target].push_back({scaled.adapter, &module, scaled.scale});
    }
  for (const auto& [target, members] : by_target) {
    std::vector<WeightedTerm> terms;
    AdapterModule made{target, "combined", {}, 0, 1, LowRankChange{}};
    // the factors as they were trained: which of them is A decides where signs go and what is pruned
    const bool turned = std::ranges::any_of(members, [](const Member& member) { return of_embedding(*member.module); });
    const auto turn = [&](TensorPtr& a, TensorPtr& b) {
      if (turned) std::tie(a, b) = std::pair(transposed(b), transposed(a));
    };
    for (const Member& member : members) {
      const LowRankChange& change = low_rank_of(member);
      if (!std::isfinite(member.module->scale * member.weight))
        throw Error(ErrorKind::bad_input, {.path = member.adapter->folder.string()},
                    "its scale is past the largest number", "give a smaller scale");
      terms.push_back({{change.a, change.b, member.module->scale}, member.weight});
      turn(terms.back().term.a, terms.back().term.b);
      made.factors.insert(made.factors.end(), member.module->factors.begin(), member.module->factors.end());
    }
    LowRankTerm term = combined(target, std::move(terms), options);
    made.rank = term.a->info().rows();
    turn(term.a, term.b);
    made.change = LowRankChange{term.a, term.b, low_rank_of(members.front()).transposed};
    out.modules.push_back(std::move(made));
  }
  return out;
}

}  // namespace ropewalk::formats
