#include "tools/windows.h"

#include <algorithm>
#include <set>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::tools {

std::size_t default_windows(int context) {
  return static_cast<std::size_t>(context >= 4096 ? 1 : (4096 + context - 1) / context);
}

CutWindows cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context, std::optional<int> wanted,
                       std::optional<std::int32_t> bos, Repeats repeats) {
  const auto count = wanted ? static_cast<std::size_t>(*wanted) : default_windows(context);
  const auto step = static_cast<std::size_t>(context - (bos ? 1 : 0));
  CutWindows cut{{}, {}, step};
  std::set<verify::Window> taken;  // empty where repeats are kept
  std::uint64_t tokens = 0;
  for (std::size_t index = 0; index < documents.size(); ++index) {
    const auto& document = documents[index];
    tokens += document.size();
    if (cut.windows.size() < count && document.size() < step) cut.too_short.push_back(index);
    for (std::size_t begin = 0; begin + step <= document.size() && cut.windows.size() < count; begin += step) {
      verify::Window window;
      if (bos) window.push_back(*bos);
      window.insert(window.end(), document.begin() + static_cast<std::ptrdiff_t>(begin),
                    document.begin() + static_cast<std::ptrdiff_t>(begin + step));
      if (repeats == Repeats::passed_over && !taken.insert(window).second) ++cut.repeated;
      else cut.windows.push_back(std::move(window));
    }
  }
  const std::size_t needed = wanted ? count : 1;
  if (cut.windows.size() < needed && cut.repeated > 0)
    throw Error(ErrorKind::bad_input, {},
                "the text has " + plural(cut.windows.size(), "distinct window") + " of " + std::to_string(context) +
                    " tokens, and " + std::to_string(needed) + " were asked for",
                "give another text with -f, or fewer --windows");
  if (cut.windows.size() < needed)
    throw Error(ErrorKind::bad_input, {},
                "the text has " + plural(tokens, "token") + ", " + plural(needed, "window") + " of " +
                    std::to_string(context) + (needed == 1 ? " needs " : " need ") + std::to_string(needed * step) +
                    (documents.size() > 1 ? ", and none goes on from one document to the next" : ""),
                "give a longer text with -f, a smaller -c or fewer --windows");
  return cut;
}

std::optional<std::string> repeats_passed_over(const CutWindows& cut) {
  if (cut.repeated == 0) return std::nullopt;
  return plural(cut.repeated, "window") + (cut.repeated == 1 ? " was" : " were") +
         " passed over: the same ids as one before, of which there is no more to learn";
}

std::optional<std::string> passed_over(const CutWindows& cut, const Corpus& corpus) {
  constexpr std::size_t kNamed = 3;
  if (cut.too_short.empty()) return std::nullopt;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(kNamed, cut.too_short.size()); ++i)
    names.push_back("'" + corpus.names.at(cut.too_short[i]) + "'");
  if (cut.too_short.size() > kNamed) names.push_back(std::to_string(cut.too_short.size() - kNamed) + " more");
  return "no window was taken of " + listed(names) + ": fewer tokens than the " + std::to_string(cut.needed) +
         " that one needs";
}

}  // namespace ropewalk::tools
