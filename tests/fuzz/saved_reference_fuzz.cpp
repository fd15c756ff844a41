#include "formats/saved_reference.h"

#include "lib/error.h"
#include "tests/formats/saved_reference_bytes.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

// The contents once decompressed: no mutation would pass the frame's checksum.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto contents = std::as_bytes(std::span(data, size));
  try {
    const SavedReference r = parse_reference(contents, "fuzz");
    const std::size_t rows = r.rows();
    require(rows >= 2 && r.log_sum_exp.size() == rows && r.next.size() == rows, "every row has its figures");
    require(r.top_ids.size() == rows * std::size_t(r.top) && r.top_logits.size() == r.top_ids.size(),
            "every row has its tokens");
    for (const std::int32_t id : r.top_ids) require(id >= 0 && id < r.config.n_vocab, "ids lie in the vocabulary");
    const auto again = reference_bytes(r);
    require(again.size() == size && std::equal(again.begin(), again.end(), contents.begin()),
            "what is accepted is written as it was");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input, "a refusal is about the input");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() { return {small_reference().bytes}; }
