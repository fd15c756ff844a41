#include "tools/served_context.h"

#include "formats/rope_config.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "tools/command_line.h"

namespace ropewalk::tools {

void check_context(int context) {
  if (context < 2)
    throw Error(ErrorKind::usage, {}, "a context of " + std::to_string(context) + " has nothing to predict",
                "give -c of at least 2");
}

std::vector<int> parse_contexts(const std::string& text) {
  std::vector<int> contexts;
  for (const std::string& part : split_list(text)) {
    const auto context = formats::parse_context(part);
    if (!context)
      throw Error(ErrorKind::usage, {}, "--context has '" + part + "'",
                  "give numbers of tokens such as 4096 or 64k, separated by commas");
    check_context(*context);
    add_once(contexts, *context, "--context", part);
  }
  return contexts;
}

int context_of(std::optional<int> asked, const Checkpoint& model) {
  if (!asked && model.config.context < 2)
    throw Error(ErrorKind::usage, {}, "'" + model.label + "' says nothing of its context", "give -c of at least 2");
  const int context = asked.value_or(model.config.context);
  check_context(context);
  return context;
}

std::optional<std::string> past_served(const Checkpoint& model, int context, const std::string& who) {
  const int served = model.config.context;
  if (served < 1 || context <= served) return std::nullopt;
  return who + " serves " + plural(static_cast<std::uint64_t>(served), "token") + ": positions past " +
         std::to_string(served) + ", up to " + std::to_string(context) + ", are beyond it";
}

}  // namespace ropewalk::tools
