#include "tools/cli.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <new>
#include <ostream>

#include "lib/error.h"
#include "lib/nearest_word.h"
#include "tools/common_options.h"
#include "tools/exit_code.h"
#include "tools/one_line.h"
#include "tools/render.h"
#include "verify/no_threads.h"

namespace ropewalk::tools {
namespace {

struct Failure {
  std::string kind, problem, fix, line;
  Error::Where where = {};
  int exit = 70;
};

Failure failure_of(const Error& e) {
  return {error_kind_name(e.kind()), e.problem(), e.fix(), e.what(), e.where(), exit_code(e.kind())};
}

Json failure_json(const Failure& failure) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  const auto if_known = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"kind", failure.kind},
          {"exit", failure.exit},
          {"path", or_null(failure.where.path)},
          {"offset", if_known(failure.where.offset)},
          {"line", if_known(failure.where.line)},
          {"column", if_known(failure.where.column)},
          {"pointer", if_known(failure.where.pointer)},
          {"message", failure.problem},
          {"fix", or_null(failure.fix)}};
}

int report(const Failure& failure, bool json, const Io& io) {
  if (json) io.out << json_text({{"error", failure_json(failure)}}) << std::flush;
  io.failed.push_back(one_line(failure.line));
  io.err << (io.color ? "\033[31merror:\033[0m " : "error: ") << one_line(failure.line) << "\n" << std::flush;
  return failure.exit;
}

/// The file system's refusal of a name that no reader or writer looked at first; most often the working directory is
/// gone, and the name is relative to it.
Error unreachable(const std::filesystem::filesystem_error& e) {
  std::error_code gone;
  (void)std::filesystem::current_path(gone);
  if (gone && e.path1().is_relative())
    return Error(ErrorKind::io, {.path = e.path1().string()}, "the working directory has been removed",
                 "change to a folder that is there, or give the whole path");
  return Error(ErrorKind::io, {.path = e.path1().string()}, "cannot be reached: " + e.code().message(),
               "check the path");
}

/// Of what is being handled.
Failure current_failure() {
  try {
    throw;
  } catch (const Error& e) {
    return failure_of(e);
  } catch (const std::bad_alloc&) {
    return failure_of(Error(ErrorKind::io, {}, "out of memory", "use fewer threads or a machine with more memory"));
  } catch (const std::filesystem::filesystem_error& e) {
    return failure_of(unreachable(e));
  } catch (const std::exception& e) {
    // TBB's own words, a std::runtime_error without code
    if (std::string_view(e.what()).find("pthread_create") != std::string_view::npos)
      return failure_of(verify::no_more_threads());
    const std::string problem = std::string("internal error: ") + e.what(),
                      fix = "this is a fault of ropewalk: please report it";
    return {"internal", problem, fix, problem + "; " + fix};
  }
}

std::string overview() {
  std::string out =
      "usage: ropewalk COMMAND [options]\n"
      "Extends, merges, exports and proves language-model checkpoints.\n\nCommands:\n";
  for (const Command& command : commands())
    out += "  " + command.name + std::string(14 - command.name.size(), ' ') + command.summary + "\n";
  return out + "\n" + source_help() +
         "ropewalk COMMAND -h shows a command's options, --help more with examples. --version prints the version.\n"
         "Exit codes: 0 done, 1 a gate failed, 2 usage, 3 bad input, 4 unsupported, 5 I/O, 6 device, 70 internal "
         "error.\n";
}

int dispatch(std::span<const std::string> arguments, Io& io) {
  if (arguments.empty()) throw Error(ErrorKind::usage, {}, "no command given", "see ropewalk --help");
  if (arguments.front() == "help" && arguments.size() > 1)
    return dispatch(std::vector{arguments[1], std::string("--help")}, io);
  const std::string& name = arguments.front();
  if (name == "-h" || name == "--help" || name == "help") throw HelpRequested{overview()};
  if (name == "--version") throw HelpRequested{"ropewalk " ROPEWALK_VERSION "\n"};
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command.run(arguments.subspan(1), io);
    names.push_back(command.name);
  }
  const auto near = nearest_word(name, names);
  throw Error(ErrorKind::usage, {}, (name.starts_with('-') ? "unknown option '" : "unknown command '") + name + "'",
              near ? "did you mean " + *near + "?" : "see ropewalk --help");
}

}  // namespace

int run_cli(std::span<const std::string> arguments, Io& io) {
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    return dispatch(arguments, io);
  } catch (const HelpRequested& help) {
    io.out << help.text << std::flush;
    return io.out ? 0 : report(failure_of(unwritable_output()), false, io);
  } catch (const std::exception&) {
    return report(current_failure(), json, io);
  }
}

int reporting_errors(const std::string& command, const CommonOptions& common, const std::function<int()>& work) {
  try {
    return work();
  } catch (const std::exception&) {
    const Failure failure = current_failure();
    if (failure.exit == exit_code(ErrorKind::usage)) throw;  // nothing was begun
    Output error{.command = command, .error = failure_json(failure)};
    error.checks = {{command, false, one_line(failure.line)}};
    error.text("error: " + one_line(failure.line));
    report_error(error, common);
    throw;
  }
}

}  // namespace ropewalk::tools
