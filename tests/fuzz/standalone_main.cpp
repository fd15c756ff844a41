// Runs a fuzz target without libFuzzer: its seeds, files or folders given, and a fixed number of fixed mutations of
// each.
//   NAME_fuzz_run [--write-seeds FOLDER] [FILE|FOLDER]...

#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kSeed = 20240229;
constexpr int kMutations = ROPEWALK_FUZZ_MUTATIONS;  // of each seed
constexpr std::size_t kLargest = 1 << 16;            // larger inputs are run as they are

std::uint64_t random_state = kSeed;
std::uint64_t next_random() {  // splitmix64
  std::uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}
std::size_t below(std::size_t n) { return n == 0 ? 0 : next_random() % n; }

std::string mutated(std::string text) {
  for (std::size_t n = 1 + below(3); n > 0; --n) {
    const std::size_t at = below(text.size() + 1), length = below(std::min<std::size_t>(text.size() - at + 1, 16));
    switch (below(6)) {
      case 0: text.resize(at); break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(below(text.size() + 1), text.substr(at, length)); break;
      case 3: text.insert(at, 1, static_cast<char>(next_random())); break;
      case 4:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ 1 << below(8));
        break;
      default:
        if (at < text.size()) text[at] = "\x00\xff\x7f\x80\x01{}[]\",:0129-"[below(18)];
    }
  }
  return text;
}

struct {
  std::size_t input;
  int mutation;
} running;

void say_where(int signal) {
  char line[96];
  const int n = std::snprintf(line, sizeof line, "signal %d at input %zu, mutation %d (random seed %llu)\n", signal,
                              running.input, running.mutation, static_cast<unsigned long long>(kSeed));
  (void)!::write(2, line, static_cast<std::size_t>(n));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const std::string& text) {
  // its own allocation, so that a sanitizer sees a read past the end
  std::vector<std::uint8_t> exact(text.begin(), text.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void add(std::vector<std::string>& inputs, const fs::path& path) {
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file()) add(inputs, entry.path());
    return;
  }
  std::ifstream in(path, std::ios::binary);
  inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> inputs = fuzz_seeds();
  if (argc == 3 && std::strcmp(argv[1], "--write-seeds") == 0) {
    fs::create_directories(argv[2]);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      std::ofstream(fs::path(argv[2]) / ("seed-" + std::to_string(i)), std::ios::binary) << inputs[i];
    return 0;
  }
  for (int i = 1; i < argc; ++i) add(inputs, argv[i]);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, say_where);
  std::size_t n = 0;
  for (running.input = 0; running.input < inputs.size(); ++running.input) {
    const std::string& input = inputs[running.input];
    running.mutation = 0;
    run(input);
    ++n;
    for (running.mutation = 1; input.size() <= kLargest && running.mutation <= kMutations; ++running.mutation, ++n)
      run(mutated(input));
  }
  std::printf("%zu inputs, random seed %llu\n", n, static_cast<unsigned long long>(kSeed));
  return inputs.empty() ? 1 : 0;
}
