#include "tools/adapter.h"

#include <algorithm>
#include <array>

#include "lib/error.h"
#include "lib/nearest_word.h"
#include "tools/commands.h"

namespace ropewalk::tools {
namespace {

constexpr const char* kName = "adapter";
constexpr const char* kSummary = "make adapters: extract from a tuned model, another rank or scale, GGUF and back";

std::vector<Command> parts() {
  return {adapter_extract_command(), adapter_rerank_command(), adapter_rescale_command(), adapter_convert_command()};
}

/// "extract" of "adapter extract".
std::string word_of(const Command& part) { return part.name.substr(part.name.find(' ') + 1); }

std::string overview() {
  std::string out = "usage: ropewalk adapter WHAT [options]\nMakes adapters.\n\n";
  for (const Command& part : parts())
    out += "  " + word_of(part) + std::string(10 - word_of(part).size(), ' ') + part.summary + "\n";
  return out + "\nropewalk adapter WHAT -h shows its options, --help more with examples.\n";
}

/// What the first word names.
Command part_of(std::span<const std::string> arguments) {
  if (arguments.empty())
    throw Error(ErrorKind::usage, {}, "adapter is given without what to do",
                "give extract, rerank, rescale or convert: see ropewalk adapter -h");
  const std::string& word = arguments.front();
  if (word == "-h" || word == "--help") throw HelpRequested{overview()};
  std::vector<std::string> words;
  for (const Command& part : parts()) {
    if (word_of(part) == word) return part;
    words.push_back(word_of(part));
  }
  const auto near = nearest_word(word, words);
  throw Error(ErrorKind::usage, {}, "adapter has no '" + word + "'",
              near ? "did you mean adapter " + *near + "?" : "see ropewalk adapter -h");
}

}  // namespace

Command adapter_command() {
  const auto run = [](std::span<const std::string> arguments, Io& io) {
    return part_of(arguments).run(arguments.subspan(1), io);
  };
  const auto plan = [](std::span<const std::string> arguments) {
    return part_of(arguments).plan(arguments.subspan(1));
  };
  const auto option_names = [] {
    std::vector<std::string> names;
    for (const Command& part : parts())
      for (std::string& name : part.option_names())
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
    return names;
  };
  return {kName, kSummary, run, option_names, plan};
}

}  // namespace ropewalk::tools
