#include <ostream>

#include "lib/error.h"
#include "tools/commands.h"

namespace ropewalk::tools {
namespace {

struct CompletionOptions {
  std::string shell;
};

void declare(CommandLine& line, CompletionOptions& options) {
  line.positional(options.shell, "SHELL", "bash, zsh or fish");
  line.example("source <(ropewalk completion bash)", "in ~/.bashrc");
  line.example("ropewalk completion fish > ~/.config/fish/completions/ropewalk.fish", "once");
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string bash_script() {
  std::vector<std::string> names;
  std::string cases;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    cases += "    " + command.name + ") words='" + joined(command.option_names()) + "' ;;\n";
  }
  return "_ropewalk() {\n"
         "  local word=\"${COMP_WORDS[COMP_CWORD]}\" words=''\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W '" +
         joined(names) +
         " --help --version' -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "  if [[ \"$word\" == -* ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); return; fi\n"
         "  local IFS=$'\\n'\n"  // one name a line: names may hold spaces
         "  COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "}\n"
         "complete -o filenames -F _ropewalk ropewalk\n";
}

std::string fish_script() {
  std::string out = "complete -c ropewalk -n __fish_use_subcommand -l help -l version\n";
  for (const Command& command : commands()) {
    out += "complete -c ropewalk -n __fish_use_subcommand -a " + command.name + " -d '" +
           joined(split_list(command.summary, '\'')) + "'\n";
    for (const std::string& option : command.option_names())
      out += "complete -c ropewalk -n '__fish_seen_subcommand_from " + command.name + "' " +
             (option.starts_with("--") ? "-l " + option.substr(2) : "-s " + option.substr(1)) + "\n";
  }
  return out;
}

int run_completion(const CompletionOptions& options, Io& io) {
  if (options.shell == "bash") io.out << bash_script();
  else if (options.shell == "zsh") io.out << "autoload -U +X bashcompinit && bashcompinit\n" << bash_script();
  else if (options.shell == "fish") io.out << fish_script();
  else throw Error(ErrorKind::usage, {}, "unknown shell '" + options.shell + "'", "give bash, zsh or fish");
  io.out << std::flush;
  return 0;
}

}  // namespace

Command completion_command() {
  return make_command("completion", "completions for bash, zsh or fish", declare, run_completion);
}

}  // namespace ropewalk::tools
