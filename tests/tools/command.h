#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "formats/json.h"
#include "tests/unprivileged.h"

namespace ropewalk::tools::test {

namespace fs = std::filesystem;
using formats::Json;

/// What the real binary did.
struct Ran {
  int exit = -1;  // 128 + signal if it was killed
  std::string out, err;
  mutable std::optional<Json> parsed = std::nullopt;

  /// Standard output, parsed. Lives as long as this.
  Json& json() const {
    if (!parsed) parsed = Json::parse(out);
    return *parsed;
  }
  /// Lines of standard error, the last line end not counted.
  std::vector<std::string> err_lines() const {
    std::vector<std::string> lines;
    std::istringstream in(err);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
};

struct RunOptions {
  fs::path folder = {};                         // working directory
  std::map<std::string, std::string> env = {};  // on top of PATH alone
  std::string in = {};
  std::optional<rlim_t> max_file_bytes = std::nullopt;
  bool unprivileged = false;  // never as root: as drop_root() (tests/unprivileged.h) says
  bool one_thread = false;    // with unprivileged: the system gives no second one
};

/// A program at the end of two pipes.
class Process {
 public:
  Process(const std::vector<std::string>& arguments, const RunOptions& options) {
    std::array<int, 2> out{}, err{}, in{};
    if (pipe(out.data()) != 0 || pipe(err.data()) != 0 || pipe(in.data()) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0), dup2(out[1], 1), dup2(err[1], 2);
      for (int fd : {out[0], out[1], err[0], err[1], in[0], in[1]}) close(fd);
      if (options.max_file_bytes) {  // writing past it fails, as a full disk does (SIGXFSZ ignored: EFBIG)
        const rlimit limit{*options.max_file_bytes, *options.max_file_bytes};
        std::signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
      }
      // the folder it lies in may be closed to the user it runs as
      const int binary = open(ROPEWALK_BINARY, O_PATH | O_CLOEXEC);
      if (options.unprivileged && !ropewalk::test::drop_root()) _exit(126);
      const rlimit one{1, 1};
      if (options.one_thread) setrlimit(RLIMIT_NPROC, &one);
      if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(126);
      std::vector<std::string> words = {ROPEWALK_BINARY};
      words.insert(words.end(), arguments.begin(), arguments.end());
      std::vector<std::string> variables = {"PATH=/usr/bin:/bin", "HOME=/nonexistent"};
      for (const char* kept : {"ASAN_OPTIONS", "UBSAN_OPTIONS"})
        if (const char* value = std::getenv(kept)) variables.push_back(std::string(kept) + "=" + value);
      for (const auto& [name, value] : options.env) variables.push_back(name + "=" + value);
      std::vector<char*> argv, envp;
      for (std::string& word : words) argv.push_back(word.data());
      for (std::string& variable : variables) envp.push_back(variable.data());
      argv.push_back(nullptr), envp.push_back(nullptr);
      fexecve(binary, argv.data(), envp.data());
      _exit(127);
    }
    close(out[1]), close(err[1]), close(in[0]);
    if (write(in[1], options.in.data(), options.in.size()) < 0) std::perror("write");
    close(in[1]);
    out_ = out[0], err_ = err[0];
  }
  void kill(int signal) const { ::kill(pid_, signal); }
  Ran wait() {
    Ran ran;
    std::array<pollfd, 2> fds = {pollfd{out_, POLLIN, 0}, pollfd{err_, POLLIN, 0}};
    for (int open = 2; open > 0;) {
      poll(fds.data(), fds.size(), -1);
      for (std::size_t i = 0; i < fds.size(); ++i) {
        if (fds[i].fd < 0 || !(fds[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
        std::array<char, 65536> block;
        const ssize_t n = read(fds[i].fd, block.data(), block.size());
        if (n > 0) (i == 0 ? ran.out : ran.err).append(block.data(), static_cast<std::size_t>(n));
        else close(fds[i].fd), fds[i].fd = -1, --open;
      }
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    ran.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ran;
  }

 private:
  pid_t pid_;
  int out_, err_;
};

inline Ran run(const std::vector<std::string>& arguments, const RunOptions& options = {}) {
  return Process(arguments, options).wait();
}

/// A folder of this test alone, removed afterwards.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) std::abort();
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  /// Everything in it, hidden files too, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(path_))
      all.push_back(fs::relative(entry.path(), path_).string());
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  fs::path path_;
};

inline std::string fixture(const std::string& name) { return std::string(ROPEWALK_GOLDEN_DIR) + "/fixtures/" + name; }
inline std::string model(const std::string& name) { return fixture("models/" + name); }
inline std::string adapter() { return fixture("adapters/qlora-shakespeare"); }

inline std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spill(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
}

/// A copy of a folder that a test may bend.
inline fs::path copy_of(const std::string& folder, const fs::path& to) {
  fs::copy(folder, to, fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(to)) fs::permissions(entry.path(), fs::perms::owner_all);
  return to;
}
/// Tests that bend a small model of their own.
class ModelCopy : public testing::Test {
 protected:
  Scratch scratch;
  fs::path source = copy_of(model("stories260K"), scratch / "model");
  fs::path weights = source / "model.safetensors";
  fs::path config = source / "config.json";
};
/// Changes a JSON file in place.
template <class Change>
void edit_json(const fs::path& path, Change change) {
  Json json = Json::parse(slurp(path));
  change(json);
  spill(path, json.dump(2));
}

}  // namespace ropewalk::tools::test
