#include "tools/served_context.h"

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::tools {

void check_context(int context) {
  if (context < 2)
    throw Error(ErrorKind::usage, {}, "a context of " + std::to_string(context) + " has nothing to predict",
                "give -c of at least 2");
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
