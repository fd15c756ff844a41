#include "tools/losses.h"

#include <algorithm>

#include "formats/rope_emit.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/plural.h"

namespace ropewalk::tools {

void declare_losses(CommandLine& line, std::string& rope_encoding, std::vector<std::string>& allowed) {
  line.group("What a GGUF cannot say");
  line.option("--rope-encoding", rope_encoding, "auto|keys|freqs",
              "how the rope is written (auto: keys where llama.cpp reads them right, rope_freqs.weight where they "
              "cannot say it)");
  declare_allowed_losses(line, allowed);
}

void declare_allowed_losses(CommandLine& line, std::vector<std::string>& allowed) {
  line.option("--allow-loss", allowed, "NAME", "accept this loss, e.g. rope.dynamic. Repeatable");
}

formats::RopeEncoding parse_rope_encoding(const std::string& text) {
  if (text == "auto") return formats::RopeEncoding::automatic;
  if (text == "keys") return formats::RopeEncoding::keys;
  if (text == "freqs") return formats::RopeEncoding::freqs;
  throw Error(ErrorKind::usage, {}, "--rope-encoding is '" + text + "'", "give auto, keys or freqs");
}

void check_allowed_losses(const std::vector<std::string>& allowed) {
  const std::vector<std::string> known(formats::kLossNames.begin(), formats::kLossNames.end());
  for (const std::string& name : allowed) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string all;
    for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
    const auto near = nearest_word(name, known);
    throw Error(ErrorKind::usage, {}, "--allow-loss '" + name + "' is the name of no loss",
                near ? "did you mean " + *near + "?" : "known are " + all);
  }
}

void refuse_losses(const std::vector<formats::Loss>& losses, const std::vector<std::string>& allowed,
                   const Checkpoint& source) {
  for (const formats::Loss& loss : losses) {
    if (!loss.changes_logits || std::find(allowed.begin(), allowed.end(), loss.name) != allowed.end()) continue;
    std::string fix = "accept it with --allow-loss " + loss.name;
    if (loss.name.starts_with("rope.")) {
      const ModelConfig& config = source.config;
      const std::vector<std::string> able = formats::engines_that_run(config, {config.rope, config.context});
      fix = (able.empty() ? "no config.json says it to an engine known here either"
                          : "a folder (-o DIR) can say it to " + listed(able)) +
            "; or " + fix;
    }
    if (loss.safe_context)
      fix += ": up to a context of " + std::to_string(*loss.safe_context) + " tokens nothing is lost";
    throw Error(ErrorKind::unsupported, {.path = source.label}, loss.name + ": " + loss.reason, fix);
  }
}

std::string loss_line(const formats::Loss& loss) { return "loss: " + loss.name + ": " + loss.reason; }

Json losses_json(const std::vector<formats::Loss>& losses) {
  Json list = Json::array();
  for (const formats::Loss& loss : losses)
    list.push_back({{"name", loss.name},
                    {"reason", loss.reason},
                    {"safe_context", loss.safe_context ? Json(*loss.safe_context) : Json(nullptr)},
                    {"changes_logits", loss.changes_logits}});
  return list;
}

}  // namespace ropewalk::tools
