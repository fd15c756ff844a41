#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>

#include "formats/rope_config.h"
#include "lib/ascii_case.h"
#include "lib/error.h"
#include "lib/nearest_word.h"

namespace ropewalk::tools {
namespace {

struct Documented {
  std::string names, metavar, help, group;
  bool brief = true;  // stands in -h
};

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

std::string last_name(const char* names) { return split_list(names).back(); }

/// The name people know an option by: its first long spelling.
std::string long_name(const std::string& names) {
  for (const std::string& name : split_list(names))
    if (name.starts_with("--")) return name;
  return split_list(names).front();
}

int parse_int(const std::string& text, const std::string& option, int min, int max) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < min || value > max)
    refuse(option + " is '" + text + "'",
           "give a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  return value;
}

/// "one sentence. And more" -> "one sentence"
std::string first_sentence(const std::string& help) {
  for (auto stop = help.find(". "); stop != std::string::npos; stop = help.find(". ", stop + 1))
    // not the stops of "e.g. x"
    if (stop + 2 < help.size() && std::isupper(static_cast<unsigned char>(help[stop + 2]))) return help.substr(0, stop);
  return help;
}

/// `text` in lines of at most `width`, all but the first indented.
std::string wrapped(const std::string& text, std::size_t width, std::size_t indent) {
  std::string out, line;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return out + line;
}

}  // namespace

std::vector<std::string> split_list(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t value = 0, fraction = 0, parts = 1;  // value + fraction / parts
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with('.')) {
    const auto digits = text.substr(1, text.find_first_not_of("0123456789", 1) - 1);
    if (digits.empty() || digits.size() > 9) return std::nullopt;
    std::from_chars(digits.data(), digits.data() + digits.size(), fraction);
    for (std::size_t i = 0; i < digits.size(); ++i) parts *= 10;
    text.remove_prefix(1 + digits.size());
  }
  const std::string unit = lower_case(std::string(text));
  static constexpr std::pair<const char*, std::uint64_t> kUnits[] = {{"", 1},
                                                                     {"b", 1},
                                                                     {"k", 1000},
                                                                     {"kb", 1000},
                                                                     {"m", 1000'000},
                                                                     {"mb", 1000'000},
                                                                     {"g", 1000'000'000},
                                                                     {"gb", 1000'000'000},
                                                                     {"kib", 1024},
                                                                     {"mib", 1024 * 1024},
                                                                     {"gib", 1024 * 1024 * 1024}};
  for (const auto& [name, factor] : kUnits)
    if (unit == name) {
      if ((factor == 1 && parts > 1) || __builtin_mul_overflow(value, factor, &value) ||
          __builtin_add_overflow(value, fraction * factor / parts, &value) || value == 0)
        return std::nullopt;
      return value;
    }
  return std::nullopt;
}

struct CommandLine::State {
  std::string command, summary;
  CLI::App app;
  std::vector<Documented> options, positionals;
  std::vector<std::pair<std::string, std::string>> examples;
  std::string group = "Options";
  bool brief = true;
  std::vector<std::string> long_groups;  // titles of those that -h leaves out
  std::vector<NamedFile> named;          // by options
  std::vector<std::function<void(std::vector<NamedFile>&)>> add_positional;

  void add_named(Role role, const std::string& option, const std::string& value) {
    if (role != Role::value) named.push_back({role, option, value});
  }
};

CommandLine::CommandLine(std::string command, std::string summary) : state_(std::make_unique<State>()) {
  state_->command = std::move(command);
  state_->summary = std::move(summary);
  state_->app.set_help_flag("-h", "");
  state_->app.set_help_all_flag("--help", "");
}
CommandLine::~CommandLine() = default;

void CommandLine::group(std::string title, bool brief) {
  if (!brief) state_->long_groups.push_back(title);
  state_->group = std::move(title);
  state_->brief = brief;
}
void CommandLine::example(std::string line, std::string what) {
  state_->examples.emplace_back(std::move(line), std::move(what));
}

void CommandLine::positional(std::string& value, Metavar name, const std::string& help) {
  state_->positionals.push_back({name.text, "", help, ""});
  state_->app.add_option(name.text, value)->required();
  if (name.role != Role::value)
    state_->add_positional.push_back([&value, name](std::vector<NamedFile>& named) {
      named.push_back({name.role, name.text, value});
    });
}

void CommandLine::positionals(std::vector<std::string>& values, Metavar name, const std::string& help, int min) {
  state_->positionals.push_back({std::string(name.text) + (min > 0 ? "..." : ""), "", help, ""});
  auto* option = state_->app.add_option(name.text, values);
  if (min > 0) option->required();
  if (name.role != Role::value)
    state_->add_positional.push_back([&values, name](std::vector<NamedFile>& named) {
      for (const std::string& value : values) named.push_back({name.role, name.text, value});
    });
}

void CommandLine::flag(const char* names, bool& value, const std::string& help) {
  state_->options.push_back({names, "", help, state_->group, state_->brief});
  state_->app.add_flag_callback(names, [&value] { value = true; });
}

void CommandLine::add(const char* names, Metavar metavar, const std::string& help, Setter set) {
  state_->options.push_back({names, metavar.text, help, state_->group, state_->brief});
  state_->app.add_option_function<std::string>(names,
                                               [state = state_.get(), role = metavar.role, name = long_name(names),
                                                set = std::move(set)](const std::string& text) {
                                                 state->add_named(role, name, text);
                                                 set(text);
                                               });
}

void CommandLine::refused_option(const char* names,
                                 std::function<std::pair<std::string, std::string>(const std::string&)> say) {
  state_->app.add_option_function<std::string>(names, [say = std::move(say)](const std::string& text) {
    const auto [problem, fix] = say(text);
    refuse(problem, fix);
  });
}

void CommandLine::option(const char* names, std::string& value, Metavar metavar, const std::string& help) {
  add(names, metavar, help, [&value](const std::string& text) { value = text; });
}
void CommandLine::option(const char* names, std::optional<std::string>& value, Metavar metavar,
                         const std::string& help) {
  add(names, metavar, help, [&value](const std::string& text) { value = text; });
}
void CommandLine::option(const char* names, std::vector<std::string>& values, Metavar metavar,
                         const std::string& help) {
  state_->options.push_back({names, metavar.text, help, state_->group, state_->brief});
  state_->app
      .add_option_function<std::vector<std::string>>(names,
                                                     [&values, state = state_.get(), role = metavar.role,
                                                      name = long_name(names)](const std::vector<std::string>& all) {
                                                       values = all;
                                                       for (const std::string& text : all)
                                                         state->add_named(role, name, text);
                                                     })
      ->allow_extra_args(false);
}
void CommandLine::ordered_option(const char* names, std::vector<std::pair<std::string, std::string>>& values,
                                 Metavar metavar, const std::string& help) {
  state_->options.push_back({names, metavar.text, help, state_->group, state_->brief});
  state_->app
      .add_option_function<std::string>(
          names,
          [&values, state = state_.get(), role = metavar.role, name = last_name(names)](const std::string& text) {
            state->add_named(role, name, text);
            values.emplace_back(name, text);
          })
      ->trigger_on_parse();
}
void CommandLine::option(const char* names, int& value, int min, int max, Metavar metavar, const std::string& help) {
  add(names, metavar, help, [&value, min, max, name = long_name(names)](const std::string& text) {
    value = parse_int(text, name, min, max);
  });
}
void CommandLine::option(const char* names, std::optional<int>& value, int min, int max, Metavar metavar,
                         const std::string& help) {
  add(names, metavar, help, [&value, min, max, name = long_name(names)](const std::string& text) {
    value = parse_int(text, name, min, max);
  });
}
void CommandLine::context_option(const char* names, std::optional<int>& value, Metavar metavar,
                                 const std::string& help) {
  add(names, metavar, help, [&value, name = long_name(names)](const std::string& text) {
    value = formats::parse_context(text);
    if (!value) refuse(name + " is '" + text + "'", "give a number of tokens such as 4096 or 64k");
  });
}
void CommandLine::bytes_option(const char* names, std::optional<std::uint64_t>& value, Metavar metavar,
                               const std::string& help) {
  add(names, metavar, help, [&value, name = long_name(names)](const std::string& text) {
    value = parse_bytes(text);
    if (!value) refuse(name + " is '" + text + "'", "give a size such as 300M, 3.9G or 4GiB");
  });
}

namespace {

const Documented* find_option(const std::vector<Documented>& options, const std::string& name) {
  for (const Documented& option : options)
    for (const std::string& spelling : split_list(option.names))
      if (spelling == name) return &option;
  return nullptr;
}

/// CLI11 would take --json=1 for --json, and --json=0 for its absence; and the option behind one whose value was
/// forgotten for that value, which is likely of a text alone.
void refuse_odd_values(std::span<const std::string> arguments, const std::vector<Documented>& options) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") return;
    const Documented* option = find_option(options, word.substr(0, word.find('=')));
    if (!option) continue;
    if (!option->metavar.empty()) {
      if (word.find('=') != std::string::npos || ++i == arguments.size()) continue;  // the next word is its value
      if (option->metavar != "TEXT" && find_option(options, arguments[i]))
        refuse(word + " has no value before " + arguments[i], "write " + word + " " + option->metavar);
    } else if (const auto at = word.find('='); at != std::string::npos) {
      refuse(word.substr(0, at) + " takes no value, and has '" + word.substr(at + 1) + "'",
             "write " + word.substr(0, at));
    }
  }
}

/// A spelling near to what was given: of one letter only another case of it, as any letter is near to any other.
std::optional<std::string> near_option(const std::string& word, const std::vector<std::string>& names) {
  if (word.starts_with("--") || word.size() > 2) return nearest_word(word, names);
  for (const std::string& name : names)
    if (word.size() == 2 && name.size() == 2 && lower_case(word[1]) == lower_case(name[1])) return name;
  return std::nullopt;
}

}  // namespace

void CommandLine::parse(std::span<const std::string> arguments) {
  refuse_odd_values(arguments, state_->options);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11 takes them from the back
  try {
    state_->app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    throw HelpRequested{short_help()};
  } catch (const CLI::CallForAllHelp&) {
    throw HelpRequested{long_help()};
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extras = state_->app.remaining();
    const std::string word = extras.empty() ? "" : extras.front();
    if (!word.starts_with('-')) refuse("unexpected argument '" + word + "'", "usage: " + usage());
    const auto near = near_option(word.substr(0, word.find('=')), option_names());
    refuse("unknown option '" + word + "'",
           near ? "did you mean " + *near + "?" : "see ropewalk " + state_->command + " -h");
  } catch (const CLI::RequiredError& e) {
    const std::string what = e.what();
    refuse(what.substr(0, what.find(' ')) + " is missing", "usage: " + usage());
  } catch (const CLI::ArgumentMismatch& e) {
    const std::string what = e.what(), name = what.substr(0, what.find(':'));
    const Documented* option = find_option(state_->options, name);
    if (what.find("At Most") != std::string::npos) refuse(name + " is given more than once", "give it once");
    if (option) refuse(name + " has no value", "write " + name + " " + option->metavar);
    refuse(what, "usage: " + usage());
  } catch (const CLI::ParseError& e) {
    std::string what = e.what();
    what = what.substr(0, what.find('\n'));
    if (!what.empty()) what[0] = lower_case(what[0]);
    refuse(what, "usage: " + usage());
  }
}

std::vector<std::string> CommandLine::option_names() const {
  std::vector<std::string> names = {"-h", "--help"};
  for (const Documented& option : state_->options)
    for (std::string& name : split_list(option.names)) names.push_back(std::move(name));
  return names;
}

std::vector<NamedFile> CommandLine::named_files() const {
  std::vector<NamedFile> all = state_->named;
  for (const auto& add : state_->add_positional) add(all);
  return all;
}

std::string CommandLine::usage() const {
  std::string line = "ropewalk " + state_->command + " [options]";
  for (const Documented& positional : state_->positionals) line += " " + positional.names;
  return line;
}

namespace {

std::string spelled(const Documented& option) {
  std::string out;
  for (const std::string& name : split_list(option.names)) out += (out.empty() ? "" : ", ") + name;
  return option.metavar.empty() ? out : out + " " + option.metavar;
}

constexpr std::size_t kIndent = 30, kWidth = 100;

/// All of the help, in groups: what --help shows.
std::string described(const std::vector<Documented>& all) {
  std::string out, group;
  for (const Documented& option : all) {
    if (option.group != group) {
      group = option.group;
      out += "\n" + group + ":\n";
    }
    std::string head = "  " + spelled(option);
    if (head.size() + 2 > kIndent) head += "\n" + std::string(kIndent, ' ');
    else head.resize(kIndent, ' ');
    out += head + wrapped(option.help, kWidth - kIndent, kIndent) + "\n";
  }
  return out;
}

/// Where `stop` stands outside parentheses, or npos.
std::size_t find_outside(const std::string& text, const std::string& stop) {
  int depth = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (depth == 0 && text.compare(at, stop.size(), stop) == 0) return at;
    depth += text[at] == '(' ? 1 : text[at] == ')' ? -1 : 0;
  }
  return std::string::npos;
}

/// As much of the help's beginning as fits: its first sentence, or that up to a semicolon, parenthesis, colon or comma.
std::string clause(const std::string& help, std::size_t width) {
  std::string text = first_sentence(help);
  for (const char* stop : {"; ", " (", ": ", ", "}) {
    if (text.size() <= width) return text;
    if (const auto at = find_outside(text, stop); at != std::string::npos && at > 0) text.resize(at);
  }
  return text;
}

/// One line each: what -h shows.
std::string listed(const std::vector<Documented>& all) {
  std::string out;
  for (const Documented& option : all) {
    if (!option.brief) continue;
    std::string head = "  " + spelled(option);
    if (head.size() + 2 > kIndent) {  // one short spelling, one long
      const std::string first = split_list(option.names).front(), name = long_name(option.names);
      head = "  " + (first == name ? "" : first + ", ") + name + (option.metavar.empty() ? "" : " " + option.metavar);
    }
    head.resize(std::max(kIndent, head.size() + 2), ' ');
    out += head + clause(option.help, kWidth - head.size()) + "\n";
  }
  return out;
}

}  // namespace

std::string CommandLine::short_help() const {
  std::string more;
  for (const std::string& title : state_->long_groups) more += (more.empty() ? " and these options: " : ", ") + title;
  return "usage: " + usage() + "\n" + state_->summary + "\n\n" + listed(state_->positionals) + listed(state_->options) +
         "\nropewalk " + state_->command + " --help tells more, with examples" + more + ".\n";
}

std::string source_help() {
  return "A SOURCE is an HF folder, a .safetensors, an index, a .gguf, org/name[@REV] in the local Hub cache, or\n"
         "synthetic:CONFIG.json (random weights of that shape). It may carry modifiers:\n"
         "MODEL[+ADAPTER[:SCALE]]...[+rope=SPEC].\n";
}

std::string CommandLine::long_help() const {
  std::string out = "usage: " + usage() + "\n" + state_->summary + "\n";
  if (!state_->positionals.empty()) out += "\n" + described(state_->positionals);
  out += described(state_->options);
  if (out.find("SOURCE") != std::string::npos) out += "\n" + source_help();
  if (!state_->examples.empty()) out += "\nExamples:\n";
  for (const auto& [line, what] : state_->examples) out += "  " + line + "\n      " + what + "\n";
  return out;
}

}  // namespace ropewalk::tools
