#include "tools/windows.h"

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::tools {

std::size_t default_windows(int context) {
  return static_cast<std::size_t>(context >= 4096 ? 1 : (4096 + context - 1) / context);
}

std::vector<verify::Window> cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context,
                                        std::optional<int> wanted, std::optional<std::int32_t> bos) {
  const auto count = wanted ? static_cast<std::size_t>(*wanted) : default_windows(context);
  const auto step = static_cast<std::size_t>(context - (bos ? 1 : 0));
  std::vector<verify::Window> windows;
  std::uint64_t tokens = 0;
  for (const auto& document : documents) {
    tokens += document.size();
    for (std::size_t begin = 0; begin + step <= document.size() && windows.size() < count; begin += step) {
      verify::Window& window = windows.emplace_back();
      if (bos) window.push_back(*bos);
      window.insert(window.end(), document.begin() + static_cast<std::ptrdiff_t>(begin),
                    document.begin() + static_cast<std::ptrdiff_t>(begin + step));
    }
  }
  const std::size_t needed = wanted ? count : 1;
  if (windows.size() < needed)
    throw Error(ErrorKind::bad_input, {},
                "the text has " + plural(tokens, "token") + ", " + plural(needed, "window") + " of " +
                    std::to_string(context) + (needed == 1 ? " needs " : " need ") + std::to_string(needed * step),
                "give a longer text with -f, a smaller -c or fewer --windows");
  return windows;
}

}  // namespace ropewalk::tools
