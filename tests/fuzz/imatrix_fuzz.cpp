#include "formats/imatrix.h"

#include <cmath>
#include <cstring>

#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}
void put_text(std::string& out, std::string_view text) {
  put(out, std::int32_t(text.size()));
  out += text;
}

/// Two weights in the older format; `tail`: chunks and dataset too.
std::string dat(bool tail) {
  std::string out;
  put(out, std::int32_t{2});
  for (const char* name : {"blk.0.attn_q.weight", "output.weight"}) {
    put_text(out, name);
    put(out, std::int32_t{3});  // calls
    put(out, std::int32_t{4});  // values
    for (const float value : {0.0f, 1.0f, 2.5f, 1e-8f}) put(out, value);
  }
  if (!tail) return out;
  put(out, std::int32_t{7});
  put_text(out, "text.txt");
  return out;
}

/// One weight of two experts as GGUF, byte by byte: 3 keys, 2 tensors.
std::string gguf() {
  std::string out = "GGUF";
  const auto text = [&](std::string_view words) {
    put(out, std::uint64_t(words.size()));
    out += words;
  };
  put(out, std::uint32_t{3}), put(out, std::uint64_t{2}), put(out, std::uint64_t{3});
  text("imatrix.datasets"), put(out, std::uint32_t{9}), put(out, std::uint32_t{8}), put(out, std::uint64_t{1}),
      text("a");
  text("imatrix.chunk_count"), put(out, std::uint32_t{4}), put(out, std::uint32_t{5});
  text("imatrix.chunk_size"), put(out, std::uint32_t{4}), put(out, std::uint32_t{512});
  text("w.weight.in_sum2"), put(out, std::uint32_t{1}), put(out, std::uint64_t{4}), put(out, std::uint32_t{0});
  put(out, std::uint64_t{0});
  text("w.weight.counts"), put(out, std::uint32_t{1}), put(out, std::uint64_t{2}), put(out, std::uint32_t{0});
  put(out, std::uint64_t{32});
  out.resize((out.size() + 31) / 32 * 32, '\0');
  for (const float sum : {1.0f, 2.0f, 0.0f, 0.5f, 0.0f, 0.0f, 0.0f, 0.0f, 4.0f, 0.0f}) put(out, sum);
  out.resize((out.size() + 31) / 32 * 32, '\0');
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  try {
    const Imatrix matrix = read_imatrix(input.path());
    require(!matrix.entries.empty(), "what is accepted has an entry");
    std::size_t values = 0;
    for (const auto& [name, entry] : matrix.entries) {
      values += entry.values.size();
      require(entry.experts > 0 && entry.values.size() % entry.experts == 0, "every expert has as many values");
      for (const float value : entry.values)
        require(std::isfinite(value) && value >= 0, "a value is a mean of squares");
    }
    require(values * sizeof(float) <= size, "the values lie inside the file");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() { return {dat(true), dat(false), gguf()}; }
