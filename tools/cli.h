#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tools/command_line.h"
#include "tools/io.h"
#include "tools/named_files.h"

namespace ropewalk::tools {

/// What a command would do, as far as its words say.
struct CommandPlan {
  std::vector<NamedFile> files;
  std::string no_verdict;  // "verify with --estimate": its exit code judges nothing; empty: it does
};

/// One command of the program.
struct Command {
  std::string name, summary;
  std::function<int(std::span<const std::string>, Io&)> run;      // arguments after the name -> exit code
  std::function<std::vector<std::string>()> option_names;         // for completions
  std::function<CommandPlan(std::span<const std::string>)> plan;  // throws what run() throws of the words alone
};

struct CommonOptions;
/// work(), and what it throws: before it goes on its way, the --report files have it, unless it is Error(usage).
int reporting_errors(const std::string& command, const CommonOptions& common, const std::function<int()>& work);

/// What the grammar does not say of a command's options.
template <class Options>
struct CommandFacts {
  std::string (*no_verdict)(const Options&) = nullptr;  // CommandPlan's; none: the command never judges
  void (*add_files)(const Options&, std::vector<NamedFile>&) = nullptr;
};

/// A command from its options struct, its grammar and its work. Before it, refuse_shared().
template <class Options>
Command make_command(const char* name, const char* summary, void (*declare)(CommandLine&, Options&),
                     int (*work)(const Options&, Io&), CommandFacts<Options> facts = {}) {
  Command command{name, summary, {}, {}, {}};
  const auto parsed = [=](std::span<const std::string> arguments, Options& options) {
    CommandLine line(name, summary);
    declare(line, options);
    line.parse(arguments);
    std::vector<NamedFile> files = line.named_files();
    if (facts.add_files) facts.add_files(options, files);
    return files;
  };
  command.run = [=](std::span<const std::string> arguments, Io& io) {
    Options options;
    [[maybe_unused]] const std::vector<NamedFile> files = parsed(arguments, options);
    if constexpr (requires { options.common; }) {
      options.common.named = named_paths(files, io.hub_cache);
      refuse_shared(options.common.named);
      return reporting_errors(name, options.common, [&] { return work(options, io); });
    } else {
      return work(options, io);
    }
  };
  command.plan = [=](std::span<const std::string> arguments) {
    Options options;
    CommandPlan planned{parsed(arguments, options), name};
    if (facts.no_verdict) planned.no_verdict = facts.no_verdict(options);
    return planned;
  };
  command.option_names = [=] {
    Options options;
    CommandLine line(name, summary);
    declare(line, options);
    return line.option_names();
  };
  return command;
}

/// Every command, in the order of the help.
const std::vector<Command>& commands();

/// The whole program: finds the command, runs it, turns what was thrown into one line and an exit code (docs/design.md,
/// section 7).
int run_cli(std::span<const std::string> arguments, Io& io);

}  // namespace ropewalk::tools
