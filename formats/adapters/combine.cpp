#include "formats/adapters/combine.h"

#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "lib/adapters/best_of_rank.h"
#include "lib/error.h"
#include "lib/nearest_word.h"

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

PeftAdapter combine_adapters(const std::vector<ScaledAdapter>& adapters, const CombineOptions& options) {
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
    for (const Member& member : members) {
      const LowRankChange& change = low_rank_of(member);
      if (!std::isfinite(member.module->scale * member.weight))
        throw Error(ErrorKind::bad_input, {.path = member.adapter->folder.string()},
                    "its scale is past the largest number", "give a smaller scale");
      terms.push_back({{change.a, change.b, member.module->scale}, member.weight});
      made.factors.insert(made.factors.end(), member.module->factors.begin(), member.module->factors.end());
    }
    const LowRankTerm term = combined(target, std::move(terms), options);
    made.rank = term.a->info().rows();
    made.change = LowRankChange{term.a, term.b, low_rank_of(members.front()).transposed};
    out.modules.push_back(std::move(made));
  }
  return out;
}

}  // namespace ropewalk::formats
