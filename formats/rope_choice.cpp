#include "formats/rope_choice.h"

#include <algorithm>
#include <array>
#include <optional>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

std::vector<EngineVerdict> verdicts(const Json& config, const WantedReading& wanted,
                                    std::span<const EngineVersion> engines) {
  std::vector<EngineVerdict> out;
  for (const EngineVersion& engine : engines) {
    EngineVerdict verdict{read_as(engine, config), ""};
    verdict.difference = wanted.difference(verdict.reading);
    if (verdict.right()) verdict.reading.context = wanted.context;  // transformers' of a dynamic rope is the formula's
    out.push_back(std::move(verdict));
  }
  return out;
}

long count_right(const std::vector<EngineVerdict>& all) {
  return std::count_if(all.begin(), all.end(), [](const EngineVerdict& one) { return one.right(); });
}

/// Why `engine` runs another rope: what it makes of the method where it reads a file that names it, else of lists that
/// stand for it, rather than at which spelling it stops or that it reads none of it.
std::string reason_of(const EngineVersion& engine, const std::vector<RopeCandidate>& candidates,
                      const WantedReading& wanted) {
  std::optional<std::string> unread;
  for (const bool named : {true, false})
    for (const RopeCandidate& one : candidates) {
      if (one.named != named) continue;
      const EngineReading reading = read_as(engine, one.config);
      if (!reading.starts()) continue;
      const bool plain = std::all_of(reading.ropes.begin(), reading.ropes.end(), [](const EngineRope& rope) {
        return std::holds_alternative<RopeUnscaled>(rope.spec.scaling) && rope.spec.frequency_divisors.empty();
      });
      if (!plain) return wanted.difference(reading);
      if (!unread) unread = wanted.difference(reading);
    }
  if (unread) return *unread;
  const bool named =
      std::any_of(candidates.begin(), candidates.end(), [](const RopeCandidate& one) { return one.named; });
  return (named ? "" : "it has no rope type of its own; said as longrope lists: ") +
         wanted.difference(read_as(engine, candidates.front().config));
}

/// ropewalk has no rule for the engine in this class, whatever is written.
bool unknown(const EngineVersion& engine, const std::vector<RopeCandidate>& candidates) {
  return std::all_of(candidates.begin(), candidates.end(), [&](const RopeCandidate& one) {
    const EngineReading reading = read_as(engine, one.config);
    return reading.error && reading.error->kind == kNotFollowed;
  });
}

/// The last release of each range of versions.
std::vector<EngineVersion> engines_of_every_range() {
  std::vector<EngineVersion> out;
  for (const EngineRange& range : engine_ranges())
    out.push_back(parse_engine(std::string(engine_name(range.engine)) + "@" + std::string(range.newest)));
  return out;
}

/// Why nothing suits all of `engines`, and what would. Empty `engines`: none of the newest.
[[noreturn]] void refuse(const std::vector<RopeCandidate>& candidates, const WantedReading& wanted,
                         std::span<const EngineVersion> engines) {
  std::vector<std::string> names, never, able;
  bool known = false;
  std::string reason;
  const std::vector<EngineVersion> newest = newest_engines();
  const bool nobody_asked = engines.empty();
  if (nobody_asked) engines = newest;
  const auto any = [&](const EngineVersion& engine) {
    return std::any_of(candidates.begin(), candidates.end(), [&](const RopeCandidate& one) {
      return wanted.difference(read_as(engine, one.config)).empty();
    });
  };
  for (const EngineVersion& engine : engines) {
    names.push_back(engine.title());
    if (any(engine)) continue;
    if (never.empty()) reason = reason_of(engine, candidates, wanted);
    never.push_back(engine.title());
    known = known || !unknown(engine, candidates);
  }
  if (never.empty())
    throw Error(
        ErrorKind::unsupported, {},
        "each of " + listed(names) + " can be told " + wanted.text + ", but no one config.json tells all of them",
        "write a folder for each");
  for (const std::vector<EngineVersion>& some : {newest, engines_of_every_range()}) {
    for (const EngineVersion& engine : some)
      if (any(engine)) able.push_back(engine.title());
    if (!able.empty()) break;
  }
  const bool llama_cpp = std::any_of(engines.begin(), engines.end(),
                                     [](const EngineVersion& engine) { return engine.engine == Engine::llama_cpp; });
  throw Error(
      ErrorKind::unsupported, {},
      (known ? "no config.json makes " : "no rule says which config.json makes ") +
          (nobody_asked ? "any of the newest engines" : listed(never)) + " run " + wanted.text + " (" +
          (never.size() > 1 ? never.front() + ": " : "") + reason + ")",
      (able.empty() ? std::string("no engine known here could; take another method")
                    : listed(able) + " could: " + (nobody_asked ? "name it with --engine" : "leave out the others") +
                          ", or take another method") +
          (llama_cpp && wanted.converts
               ? "; a GGUF can carry more than a config.json: ropewalk convert, with this --rope"
               : ""));
}

}  // namespace

EmittedRope choose_rope(const std::vector<RopeCandidate>& candidates, const WantedReading& wanted,
                        std::span<const EngineVersion> engines) {
  const std::vector<EngineVersion> others = newest_engines();
  const std::size_t named = engines.size();
  const RopeCandidate* best = nullptr;
  // right for those asked for, by its own name, right for the newest; where nobody is asked for: right for the newest,
  // loaded by transformers, whose file it is, by its own name
  std::array<long, 4> best_score = {-1, 0, 0, 0};
  for (const RopeCandidate& candidate : candidates) {
    const long asked = count_right(verdicts(candidate.config, wanted, engines));
    if (asked < best_score[0]) continue;
    if (named > 0 && asked == best_score[0] && long(candidate.named) < best_score[1]) continue;  // lists come second
    std::array<long, 4> score = {asked, 0, 0, 0};
    if (asked == long(named)) {
      const std::vector<EngineVerdict> all = verdicts(candidate.config, wanted, others);
      const long newest = count_right(all);
      if (named > 0) score = {asked, candidate.named, newest, 0};
      else score = {asked, newest, all.front().reading.starts(), candidate.named};
    }
    if (score > best_score) best = &candidate, best_score = score;
    const bool settled = named > 0 ? asked == long(named) : 2 * score[1] >= long(others.size());
    if (settled && best == &candidates.front()) break;
  }
  if (best_score[0] < long(named) || (named == 0 && best_score[1] == 0)) refuse(candidates, wanted, engines);
  return {best->config, best->dialect,
          verdicts(best->config, wanted, named > 0 ? engines : std::span<const EngineVersion>(others))};
}

}  // namespace ropewalk::formats
