#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/error.h"
#include "tools/named_files.h"

namespace ropewalk::tools {

/// What -h, --help and --version answer with; main prints it on standard output and exits 0.
struct HelpRequested {
  std::string text;
};

/// A command's grammar: each option declared once, with its names, type and help side by side. CLI11 parses, behind
/// this header.
/// `names` are comma-separated ("-c,--context,--ctx-size"); values given keep their default when the option is absent.
class CommandLine {
 public:
  CommandLine(std::string command, std::string summary);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  void positional(std::string& value, Metavar name, const std::string& help);
  /// At least `min` of them.
  void positionals(std::vector<std::string>& values, Metavar name, const std::string& help, int min);

  void flag(const char* names, bool& value, const std::string& help);
  void option(const char* names, std::string& value, Metavar metavar, const std::string& help);
  void option(const char* names, std::optional<std::string>& value, Metavar metavar, const std::string& help);
  /// Repeatable; each occurrence takes one argument.
  void option(const char* names, std::vector<std::string>& values, Metavar metavar, const std::string& help);
  /// The same for options whose order counts: each occurrence adds its option's name and its argument.
  void ordered_option(const char* names, std::vector<std::pair<std::string, std::string>>& values, Metavar metavar,
                      const std::string& help);
  /// Whole numbers within [min, max].
  void option(const char* names, int& value, int min, int max, Metavar metavar, const std::string& help);
  void option(const char* names, std::optional<int>& value, int min, int max, Metavar metavar, const std::string& help);
  /// A context: 4096, 64k (65,536), 1M.
  void context_option(const char* names, std::optional<int>& value, Metavar metavar, const std::string& help);
  /// A number of bytes: 5000000000, 5G (decimal, as the converter and transformers count), 3.9GB, 300M, 4GiB.
  void bytes_option(const char* names, std::optional<std::uint64_t>& value, Metavar metavar, const std::string& help);

  /// Options other commands have, refused here with words of their own; no help lists them. `say` gets the argument and
  /// returns problem and fix.
  void refused_option(const char* names,
                      std::function<std::pair<std::string, std::string>(const std::string& value)> say);

  /// Starts a group of options in the help. Of one that is not `brief`, -h shows the title alone.
  void group(std::string title, bool brief = true);
  /// A line for --help: a command and what it does.
  void example(std::string line, std::string what);

  /// Throws Error(usage) with one line and the nearest known option, or HelpRequested.
  void parse(std::span<const std::string> arguments);

  /// Every spelling of every option, for completions.
  std::vector<std::string> option_names() const;
  /// What parse() has been given that is no mere value.
  std::vector<NamedFile> named_files() const;
  std::string usage() const;
  std::string short_help() const;  // -h: one screen
  std::string long_help() const;   // --help: with examples

 private:
  struct State;
  std::unique_ptr<State> state_;
  /// Converts one argument, or throws Error(usage); `names` is for its message.
  using Setter = std::function<void(const std::string&)>;
  void add(const char* names, Metavar metavar, const std::string& help, Setter set);
};

/// What a SOURCE is, in lines; every long help that mentions one ends with it.
std::string source_help();

/// "5G" = 5,000,000,000, "4GiB" = 4,294,967,296; fractions to whole bytes, down. nullopt if it is no size.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// "a,b,c" in parts; empty parts are kept.
std::vector<std::string> split_list(std::string_view text, char separator = ',');
/// Error(usage) for a value that stands twice in an option's list: its rows would too.
template <class T>
void add_once(std::vector<T>& list, const T& value, const std::string& option, const std::string& text) {
  if (std::find(list.begin(), list.end(), value) != list.end())
    throw Error(ErrorKind::usage, {}, option + " has '" + text + "' twice", "give each once");
  list.push_back(value);
}

}  // namespace ropewalk::tools
