#include <charconv>
#include <cmath>

#include "formats/source.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

bool path_exists(std::string_view text) { return !text.empty() && is_there(std::filesystem::path(text)); }

std::optional<double> parse_scale(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// Longest part of `text` that ends at a '+' (or at its end) and satisfies `accept`; the part up to the first '+' if
/// none does.
template <typename Accept>
std::string_view longest_part(std::string_view text, Accept accept) {
  for (std::size_t end = text.size(); end != std::string_view::npos && end > 0; end = text.rfind('+', end - 1))
    if ((end == text.size() || text[end] == '+') && accept(text.substr(0, end))) return text.substr(0, end);
  return text.substr(0, text.find('+'));
}

/// "PATH" or "PATH:SCALE"; nullopt if the path is not there. A path with a colon in its name is itself.
std::optional<SourceSpec::Adapter> existing_adapter(std::string_view part) {
  if (path_exists(part)) return SourceSpec::Adapter{std::string(part), 1};
  const std::size_t colon = part.rfind(':');
  if (colon == std::string_view::npos || !path_exists(part.substr(0, colon))) return std::nullopt;
  const auto scale = parse_scale(part.substr(colon + 1));
  if (!scale) return std::nullopt;
  return SourceSpec::Adapter{std::string(part.substr(0, colon)), *scale};
}

[[noreturn]] void fail(std::string_view text, const std::string& problem) {
  throw Error(ErrorKind::usage, {}, "source '" + std::string(text) + "': " + problem,
              "expected MODEL[+ADAPTER[:SCALE]]...[+rope=SPEC]");
}

SourceSpec::Adapter parse_adapter(std::string_view text, std::string_view part) {
  if (auto adapter = existing_adapter(part)) return *adapter;
  const std::size_t colon = part.rfind(':');
  const std::string_view path = part.substr(0, colon);
  if (path.empty()) fail(text, "an adapter without a name");
  if (colon == std::string_view::npos) return {std::string(path), 1};
  const auto scale = parse_scale(part.substr(colon + 1));
  if (!scale)
    fail(text, "the scale '" + std::string(part.substr(colon + 1)) + "' of adapter '" + std::string(path) +
                   "' is no finite number");
  return {std::string(path), *scale};
}

}  // namespace

SourceSpec parse_source(std::string_view text) {
  SourceSpec spec;
  spec.text = text;
  const std::string_view model = longest_part(text, [](std::string_view part) {
    const auto config = synthetic_config(part);
    return path_exists(part) || (config && is_there(*config));
  });
  if (model.empty()) fail(text, "the model's name is missing");
  spec.model = model;
  std::string_view rest = text.substr(model.size());
  while (!rest.empty()) {
    rest.remove_prefix(1);  // '+'
    if (rest.starts_with("rope=")) {
      if (rest.size() == 5) fail(text, "rope= without a SPEC");
      if (rest.find("+rope=") != std::string_view::npos) fail(text, "two ropes, and a model has one");
      spec.rope = std::string(rest.substr(5));
      break;
    }
    const std::string_view part =
        longest_part(rest, [](std::string_view candidate) { return existing_adapter(candidate).has_value(); });
    spec.adapters.push_back(parse_adapter(text, part));
    rest.remove_prefix(part.size());
  }
  return spec;
}

}  // namespace ropewalk::formats
