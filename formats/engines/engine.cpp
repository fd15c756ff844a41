#include "formats/engines/engine.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/engines/llamacpp_convert.h"
#include "formats/engines/rules.h"
#include "lib/error.h"
#include "lib/nearest_word.h"

namespace ropewalk::formats {
namespace {

using Numbers = std::vector<int>;

constexpr std::array kEngines = {Engine::transformers, Engine::vllm,      Engine::sglang,
                                 Engine::llama_cpp,    Engine::exllamav2, Engine::exllamav3};

// llama.cpp counts its releases from 0.1 in 2026; before, builds (b4700) and dates. On one scale: {year, month} and
// {3000, release...}.
constexpr int kRelease = 3000;

const std::vector<EngineRange>& ranges() {
  using enum Engine;
  // clang-format off: a table
  static const std::vector<EngineRange> all = {
      {transformers, {4, 31}, "4.31", "4.32.1", "linear and dynamic of exactly two keys; rope_theta is not known"},
      {transformers,
       {4, 33},
       "4.33",
       "4.42.4",
       "rope_theta; mistral, qwen2 ignore rope_scaling; phi3 (4.41) has su and yarn"},
      {transformers,
       {4, 43},
       "4.43",
       "4.43.4",
       "rope_type for llama; yarn's original context is max_position_embeddings; head_dim is not read"},
      {transformers, {4, 44}, "4.44", "4.44.2", "head_dim is read, null is a TypeError"},
      {transformers, {4, 45}, "4.45", "4.47.1", "rope_type for qwen2; longrope on llama is always long"},
      {transformers, {4, 48}, "4.48", "4.50.3", "rope_type for mistral and phi3; longrope on llama is always short"},
      {transformers,
       {4, 51},
       "4.51",
       "4.51.3",
       "yarn: original_max_position_embeddings is read, then the factor is discarded for the ratio; mscale; longrope "
       "by length"},
      {transformers, {4, 52}, "4.52", "4.54.1", "mistral without head_dim: yarn, dynamic and longrope raise TypeError"},
      {transformers, {4, 55}, "4.55", "4.55.4", "truncate"},
      {transformers, {4, 56}, "4.56", "4.57.6", "yarn: the factor is used"},
      {transformers,
       {5, 0},
       "5.0",
       "5.0.0",
       "rope_parameters; the top-level original context wins; rope_type wins over type"},
      {transformers, {5, 1}, "5.1", "5.23.0", "dynamic comes back for short sequences; nested yarn; proportional"},
      {vllm,
       {0, 6},
       "0.6",
       "0.6.6.post1",
       "static dynamic; attn_factor; yarn serves original x factor; longrope by batch; partial_rotary_factor is not "
       "read"},
      {vllm, {0, 8}, "0.8", "0.8.5.post1", "partial_rotary_factor at the top level"},
      {vllm, {0, 10}, "0.10", "0.10.2", "ntk; dynamic with alpha"},
      {vllm,
       {0, 12},
       "0.12",
       "0.12.0",
       "rope_parameters, but theta from the top level; truncate; longrope once, by max_model_len"},
      {vllm,
       {0, 21},
       "0.21",
       "0.24.0",
       "transformers 5 dictionaries; dynamic does nothing; conflicting type and rope_type are an error"},
      {vllm,
       {0, 29},
       "0.29",
       "0.33.0",
       "attention_factor and mscale instead of attn_factor; yarn serves max_position_embeddings"},
      {sglang,
       {0, 4},
       "0.4",
       "0.4.6.post5",
       "static dynamic; attn_factor; original context missing: KeyError; longrope by batch"},
      {sglang, {0, 5}, "0.5", "0.5.3", "dynamic with alpha; mistral without head_dim: TypeError"},
      {sglang,
       {0, 5, 4},
       "0.5.4",
       "0.5.14",
       "transformers 5 dictionaries; truncate; original context defaults to max_position_embeddings"},
      {sglang, {0, 5, 15}, "0.5.15", "0.5.23", "mscale; proportional"},
      {llama_cpp,
       {2025, 2},
       "2025-02",
       "2025-02",
       "from source: yarn is written for qwen2 and deepseek2 only, `type` is read, not `rope_type`"},
      {llama_cpp,
       {2025, 12},
       "2025-12",
       "0.5.0",
       "rope_parameters and rope_scaling for every architecture; yarn_* keys are written, and read by few"},
      {exllamav2,
       {0, 2},
       "0.2",
       "0.3.2",
       "from source: yarn with max_seq_len for its original context and 32/1; no dynamic"},
      {exllamav3,
       {0, 0},
       "0.0",
       "1.6.5",
       "from source: yarn's factor is the ratio of the contexts; rope_scaling before rope_parameters"},
  };
  // clang-format on
  return all;
}

[[noreturn]] void usage(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

std::optional<int> whole(std::string_view text) {
  int value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || text.empty() || value < 0 || text[0] == '-')
    return std::nullopt;
  return value;
}

/// "4.51.3", "v0.6.6.post1" ({0, 6, 6, 1}), "5.0.0rc1" (as 5.0.0).
std::optional<Numbers> dotted(std::string_view text) {
  if (text.starts_with("v")) text.remove_prefix(1);
  Numbers out;
  while (!text.empty()) {
    std::string_view part = text.substr(0, text.find('.'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    if (part.starts_with("post")) part.remove_prefix(4);
    const std::size_t digits = std::min(part.size(), part.find_first_not_of("0123456789"));
    if (digits < part.size() && part.substr(digits).find_first_not_of("abcdefrv0123456789") != std::string_view::npos)
      return std::nullopt;
    const std::optional<int> number = whole(part.substr(0, digits));
    if (!number) return std::nullopt;
    out.push_back(*number);
    if (out.size() > 4) return std::nullopt;
  }
  if (out.empty()) return std::nullopt;
  return out;
}

/// A build's month, by its number: 4610 in early February 2025, 7380 in mid-December (GitHub's tags of llama.cpp);
/// linear between and beyond.
Numbers month_of_build(int build) {
  const double months = (build - 4610) / ((7380 - 4610) / 10.4);  // since 2025-02
  const int index = 2025 * 12 + 1 + int(months < 0 ? months - 1 : months);
  return {index / 12, index % 12 + 1};
}

std::optional<Numbers> llama_cpp_numbers(std::string_view text) {
  if (text.size() > 1 && text[0] == 'b') {
    const std::optional<int> build = whole(text.substr(1));
    if (!build || *build > 1'000'000) return std::nullopt;
    return month_of_build(*build);
  }
  if (text.size() == 7 && text[4] == '-') {
    const std::optional<int> year = whole(text.substr(0, 4)), month = whole(text.substr(5));
    if (!year || !month || *month < 1 || *month > 12) return std::nullopt;
    return Numbers{*year, *month};
  }
  std::optional<Numbers> release = dotted(text);
  if (release) release->insert(release->begin(), kRelease);
  return release;
}

std::optional<Numbers> numbers_of(Engine engine, std::string_view text) {
  return engine == Engine::llama_cpp ? llama_cpp_numbers(text) : dotted(text);
}

const EngineRange* find_range(Engine engine, const Numbers& numbers) {
  const EngineRange* found = nullptr;
  for (const EngineRange& range : ranges())
    if (range.engine == engine && range.first <= numbers) found = &range;
  return found;
}

std::string shown(std::string_view text) { return "'" + std::string(text.substr(0, 60)) + "'"; }

Engine engine_of(std::string_view name) {
  std::vector<std::string> known;
  for (const Engine engine : kEngines) {
    if (name == engine_name(engine)) return engine;
    known.push_back(engine_name(engine));
  }
  const std::optional<std::string> near = nearest_word(name, known);
  usage("engine " + shown(name) + " is not known" + (near ? ", did you mean '" + *near + "'" : ""),
        "known are transformers, vllm, sglang, llama.cpp, exllamav2, exllamav3");
}

/// Between two versions that were run the exact release of a change is known for some only.
std::string uncertainty(const EngineVersion& version) {
  struct Gap {
    Engine engine;
    Numbers after, before;
    const char* text;
  };
  // clang-format off: a table
  static const std::vector<Gap> gaps = {
      {Engine::vllm,
       {0, 20, 3},
       {0, 24},
       "vllm's change to transformers 5 dictionaries and to a dynamic rope that does nothing came between 0.20.2 and "
       "0.24.0"},
      {Engine::vllm,
       {0, 28, 1},
       {0, 31},
       "vllm's change from attn_factor to attention_factor came between 0.28.0 and 0.31.0"},
      {Engine::sglang,
       {0, 5, 4},
       {0, 5, 10},
       "sglang's change to transformers 5 dictionaries came between 0.5.3 and 0.5.10"},
      {Engine::sglang, {0, 5, 15}, {0, 5, 18}, "sglang's mscale came between 0.5.14 and 0.5.18"},
      {Engine::llama_cpp,
       {2025, 3},
       {kRelease, 0, 5},
       "of llama.cpp between 2025-02 and 0.5 nothing was run; its converter was rewritten in 2025-12"},
      {Engine::transformers, {5, 0, 1}, {5, 23}, "of transformers between 5.0.0 and 5.23.0 nothing was run"},
  };
  // clang-format on
  for (const Gap& gap : gaps)
    if (gap.engine == version.engine && !(version.numbers < gap.after) && version.numbers < gap.before) return gap.text;
  return "";
}

}  // namespace

const char* engine_name(Engine engine) {
  switch (engine) {
    case Engine::transformers: return "transformers";
    case Engine::vllm: return "vllm";
    case Engine::sglang: return "sglang";
    case Engine::llama_cpp: return "llama.cpp";
    case Engine::exllamav2: return "exllamav2";
    case Engine::exllamav3: return "exllamav3";
  }
  return "";
}

std::span<const EngineRange> engine_ranges() { return ranges(); }

bool EngineVersion::at_least(std::initializer_list<int> version) const {
  return !std::lexicographical_compare(numbers.begin(), numbers.end(), version.begin(), version.end());
}

const EngineRange& EngineVersion::range() const { return *find_range(engine, numbers); }

EngineVersion newest(Engine engine) {
  EngineVersion version{engine, {}, "", ""};
  for (const EngineRange& range : ranges())
    if (range.engine == engine) version.text = range.newest;
  version.numbers = *numbers_of(engine, version.text);
  return version;
}

std::vector<EngineVersion> newest_engines() {
  std::vector<EngineVersion> all;
  for (const Engine engine : kEngines) all.push_back(newest(engine));
  return all;
}

EngineVersion parse_engine(std::string_view text) {
  const std::size_t at = text.find('@');
  const Engine engine = engine_of(text.substr(0, at));
  const EngineVersion last = newest(engine);
  if (at == std::string_view::npos) return last;

  EngineVersion version{engine, {}, std::string(text.substr(at + 1)), ""};
  const std::optional<Numbers> numbers = numbers_of(engine, version.text);
  if (!numbers)
    usage(shown(version.text) + " is no version of " + engine_name(engine),
          engine == Engine::llama_cpp ? "write it like llama.cpp@0.5, llama.cpp@2025-02 or llama.cpp@b4700"
                                      : "write it like " + last.title());
  version.numbers = *numbers;
  const EngineRange* range = find_range(engine, version.numbers);
  if (!range) {
    const auto first =
        std::find_if(ranges().begin(), ranges().end(), [&](const EngineRange& one) { return one.engine == engine; });
    usage(version.title() + " is older than " + std::string(first->label) + ", the first whose rules are known",
          "see rope --list-engines");
  }
  // "5.23" has the rules of 5.23.0 and of every 5.23.x
  Numbers newest_of_its_kind = last.numbers;
  newest_of_its_kind.resize(std::min(newest_of_its_kind.size(), version.numbers.size()));
  if (newest_of_its_kind < version.numbers && last.numbers < version.numbers)
    version.notice =
        version.title() + " is newer than " + last.text + ", the newest whose rules are known: these are used";
  else version.notice = uncertainty(version);
  return version;
}

bool LlamaCppFlags::any() const {
  return scaling || factor || theta || original_context || beta_fast || beta_slow || ext_factor || attn_factor ||
         attn_factor_key;
}

EngineReading read_as(const EngineVersion& engine, const GgufFile& file, const std::string& path,
                      const EngineOptions& options) {
  EngineReading reading;
  reading.engine = engine;
  const Json nothing = Json::object();
  engines::Walk walk(reading.engine, nothing, options);
  if (!engine.notice.empty()) walk.notice(engine.notice);
  try {
    if (engine.engine != Engine::llama_cpp)
      engines::not_followed(engine.title() + " is given a config.json here, and this is a GGUF: llama.cpp reads it",
                            "");
    engines::read_as_llama_cpp_gguf(walk, reading, engines::rope_of_gguf(file, path));
  } catch (const engines::Raised& raised) {
    reading.ropes.clear();
    reading.error = raised.error;
  }
  reading.notices = std::move(walk.notices());
  return reading;
}

namespace {
void read_by_its_rule(engines::Walk& walk, EngineReading& reading) {
  if (engines::follows_chatglm(walk)) return engines::read_as_chatglm(walk, reading);
  switch (walk.engine.engine) {
    case Engine::transformers: return engines::read_as_transformers(walk, reading);
    case Engine::vllm: return engines::read_as_vllm(walk, reading);
    case Engine::sglang: return engines::read_as_sglang(walk, reading);
    case Engine::llama_cpp: return engines::read_as_llama_cpp(walk, reading);
    case Engine::exllamav2: return engines::read_as_exllamav2(walk, reading);
    case Engine::exllamav3: return engines::read_as_exllamav3(walk, reading);
  }
}
}  // namespace

EngineReading read_as(const EngineVersion& engine, const Json& config, const EngineOptions& options) {
  EngineReading reading;
  reading.engine = engine;
  engines::Walk walk(reading.engine, config, options);
  if (!engine.notice.empty()) walk.notice(engine.notice);
  try {
    engines::refuse_models(walk);
    engines::refuse_legacy_names(walk);
    read_by_its_rule(walk, reading);
  } catch (const engines::Raised& raised) {
    reading.ropes.clear();
    reading.error = raised.error;
  }
  if (!reading.error) walk.notice_unused();
  reading.notices = std::move(walk.notices());
  return reading;
}

bool compared_model_type(const Json& config) {
  const EngineVersion engine = newest(Engine::transformers);
  const EngineOptions options;
  return engines::family_of(engines::Walk(engine, config, options).model_type()).known;
}

}  // namespace ropewalk::formats
