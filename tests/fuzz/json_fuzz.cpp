#include <string_view>

#include "formats/json.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

constexpr JsonLimits kLimits{.max_bytes = 1 << 20, .max_depth = 64, .max_values = 100'000};

bool begins(const Json& value, char first) {
  switch (value.type()) {
    case Json::value_t::object: return first == '{';
    case Json::value_t::array: return first == '[';
    case Json::value_t::string: return first == '"';
    case Json::value_t::boolean: return first == 't' || first == 'f';
    case Json::value_t::null: return first == 'n';
    default: return first == '-' || (first >= '0' && first <= '9');
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Json value;
  try {
    value = parse_json("input", text, kLimits);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input && error.where().line && *error.where().line >= 1 &&
                *error.where().column >= 1,
            "a refusal names its place");
    return 0;
  }
  require(Json::accept(text), "what we accept, nlohmann accepts");
  const std::string written = value.dump();
  require(parse_json("written", written, kLimits) == value, "what we write reads back equal");
  const auto whole = locate_offset(text, "");
  require(whole && begins(value, text[*whole]), "the whole value is found");
  if (value.is_object())
    for (const auto& [key, member] : value.items()) {
      const auto at = locate_offset(text, "/" + pointer_segment(key));
      require(at && *at < size && begins(member, text[*at]), "every member is found at its first character");
    }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      R"({"rope_scaling": {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256}, "list": [1, -2.5e3, "é\u00e9", true, null, []]})",
      "[[[[]]], {\"a/b\": {\"~\": 1e400}}, 18446744073709551616]",
      "\"\\ud83d\\ude00\"",
      " 1 ",
      std::string(70, '[') + std::string(70, ']'),
      "\xef\xbb\xbf{}"};
}
