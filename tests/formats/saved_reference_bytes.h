#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// The contents of a saved reference byte by byte, as the drawing in its header has them; independent of the product's
/// writer. `at` names where fields begin, so that tests can lie in any of them.
struct ReferenceBytes {
  std::string bytes;
  std::map<std::string, std::size_t> at;

  template <class T>
  ReferenceBytes& put(T value, const std::string& name = "") {
    if (!name.empty()) at[name] = bytes.size();
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
    return *this;
  }
  ReferenceBytes& text(std::string_view words, const std::string& name = "") {
    put(static_cast<std::uint32_t>(words.size()), name);
    bytes += words;
    return *this;
  }
  template <class T>
  ReferenceBytes& planes(const std::vector<T>& values, const std::string& name) {
    at[name] = bytes.size();
    for (std::size_t plane = 0; plane < sizeof(T); ++plane)
      for (const T& value : values) bytes += reinterpret_cast<const char*>(&value)[plane];
    return *this;
  }
};

/// One window of three tokens over four, the two likeliest kept (probabilities of 0.37 and 0.22; 0.25 twice; 0.90 and 0.04), one layer of width 2 sketched at its second position.
inline ReferenceBytes small_reference() {
  ReferenceBytes b;
  b.text("model", "label").text("transformers 5.23.0").text("text.txt").text("00ff");
  b.put(std::uint64_t{3}).text("abcd");
  b.put(std::uint8_t{0}, "unmerged").put(std::uint32_t{3}, "context").put(std::uint32_t{2});
  for (const std::uint32_t size : {1u, 2u, 1u, 1u, 2u}) b.put(size, "n_layers" + std::to_string(b.bytes.size()));
  b.put(std::uint32_t{4}, "n_vocab").put(std::uint32_t{8}).put(std::uint32_t{0});
  b.put(1e-6).put(std::uint8_t{1}, "tied");
  b.text("plain").put(1.0, "factor").put(std::uint64_t{1}, "frequencies").put(1.0, "frequency");
  b.put(std::uint64_t{1}, "tensors").text("w", "tensor").put(std::uint64_t{2}, "shape");
  b.put(std::uint64_t{4}).put(std::uint64_t{2});
  b.put(std::uint8_t{1}, "vocabulary").text("bpe").put(std::uint8_t{1}, "rules");
  b.put(std::uint64_t{1}, "pieces").text("a").put(0.5f).put(std::uint8_t{1}, "type");
  b.put(std::uint64_t{1}, "added").put(std::uint32_t{3}, "added id").text("<s>");
  b.put(std::uint8_t{1}, "bpe").text("llama-bpe").put(std::uint64_t{1}, "merges").text("a").text("b");
  for (const int id : {3, -1, -1, -1}) b.put(std::uint8_t(id >= 0)).put(std::uint32_t(id < 0 ? 0 : id));
  b.put(std::uint8_t{1}, "add_bos").put(std::uint8_t{2});
  b.put(std::uint64_t{1}, "templates").text("default").text("{{ x }}");
  b.put(std::uint8_t{0}, "gguf vocabulary");
  b.put(std::uint64_t{1}, "windows").put(std::uint64_t{3}, "window");
  for (const std::uint32_t id : {3u, 0u, 1u}) b.put(id, "id");
  b.put(std::uint32_t{2}, "top");
  b.planes<double>({2.0, 2.38, 2.1}, "log_sum_exp").planes<float>({1.0f, 1.0f, 0.0f}, "next");
  b.planes<std::uint32_t>({0, 1, 1, 3, 2, 0}, "top ids");
  b.planes<float>({1.0f, 0.5f, 1.0f, 1.0f, 2.0f, -1.0f}, "top logits");
  b.put(std::uint32_t{2}, "sketch_every").put(std::uint32_t{1}, "sketch_width");
  b.planes<float>({5.0f, -3.0f}, "sketches");
  return b;
}

}  // namespace ropewalk::formats
