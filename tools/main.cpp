#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "lib/pending_file.h"
#include "tools/cli.h"

namespace {

/// Temporaries go, then the exit code the shell expects of that signal.
extern "C" void leave_on_signal(int signal) {
  ropewalk::remove_pending_on_signal();
  _exit(128 + signal);
}

}  // namespace

int main(int argc, char** argv) {
  // A standard stream that the caller closed must not become the first file we open: it reads as empty and cannot be
  // written.
  for (int fd = 0; fd >= 0 && fd <= STDERR_FILENO;) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction before = {}, action = {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;  // nohup, or a shell that started us in the background
    action.sa_handler = leave_on_signal;
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // past ulimit -f a write fails with EFBIG, an error like any other
  const bool err_is_terminal = isatty(STDERR_FILENO) == 1;
  const char* no_color = std::getenv("NO_COLOR");
  ropewalk::tools::Io io{.in = std::cin,
                         .out = std::cout,
                         .err = std::cerr,
                         .err_is_terminal = err_is_terminal,
                         .color = err_is_terminal && !(no_color && *no_color),
                         .hub_cache = ropewalk::tools::hub_cache_from_environment()};
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  // linked under that name it stands in for llama.cpp's tool
  if (argc > 0 && std::filesystem::path(argv[0]).filename() == "llama-quantize")
    arguments.insert(arguments.begin(), "quantize");
  return ropewalk::tools::run_cli(arguments, io);
}
