#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tools/command_line.h"
#include "tools/io.h"

namespace ropewalk::tools {

/// One command of the program.
struct Command {
  std::string name, summary;
  std::function<int(std::span<const std::string>, Io&)> run;  // arguments after the name -> exit code
  std::function<std::vector<std::string>()> option_names;     // for completions
};

struct CommonOptions;
/// work(), and what it throws: before it goes on its way, the --report files have it, unless it is Error(usage).
int reporting_errors(const std::string& command, const CommonOptions& common, const std::function<int()>& work);

/// A command from its options struct, its grammar and its work.
template <class Options>
Command make_command(const char* name, const char* summary, void (*declare)(CommandLine&, Options&),
                     int (*work)(const Options&, Io&)) {
  Command command{name, summary, {}, {}};
  command.run = [=](std::span<const std::string> arguments, Io& io) {
    Options options;
    CommandLine line(name, summary);
    declare(line, options);
    line.parse(arguments);
    if constexpr (requires { options.common; })
      return reporting_errors(name, options.common, [&] { return work(options, io); });
    else return work(options, io);
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
