#include "formats/saved_reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "formats/zstd.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/sha256.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/formats/saved_reference_bytes.h"

namespace ropewalk::formats {
namespace {

std::span<const std::byte> span_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string refusal(const std::string& contents) {
  // an allocation of exactly that size: the sanitizer sees any byte read past it
  const auto exact = std::make_unique<std::byte[]>(contents.size());
  std::memcpy(exact.get(), contents.data(), contents.size());
  try {
    parse_reference({exact.get(), contents.size()}, "r.rwref");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "";
}

TEST(SavedReference, ReadsTheLayoutOfItsHeader) {
  const ReferenceBytes b = small_reference();
  const SavedReference r = parse_reference(span_of(b.bytes), "r.rwref");
  EXPECT_EQ(r.label, "model");
  EXPECT_EQ(r.corpus_sha256, "00ff");
  EXPECT_EQ(r.context, 3);
  EXPECT_EQ(r.original_context, 2);
  EXPECT_EQ(r.config.n_vocab, 4);
  EXPECT_EQ(r.config.context, 8);
  EXPECT_FALSE(r.config.sliding_window);
  EXPECT_TRUE(r.config.tied_head);
  EXPECT_EQ(r.rope.inv_freq, std::vector<double>{1.0});
  ASSERT_EQ(r.tensors.size(), 1u);
  EXPECT_EQ(r.tensors[0].shape, (std::vector<std::uint64_t>{4, 2}));
  ASSERT_TRUE(r.vocabulary);
  EXPECT_EQ(r.vocabulary->rules, TokenizerRules::llama_cpp);
  EXPECT_EQ(r.vocabulary->added[0].content, "<s>");
  EXPECT_EQ(r.vocabulary->gguf_bpe->merges[0].second, "b");
  EXPECT_EQ(r.vocabulary->bos, 3);
  EXPECT_FALSE(r.vocabulary->eos);
  EXPECT_EQ(r.vocabulary->add_bos, true);
  EXPECT_FALSE(r.vocabulary->add_eos);
  EXPECT_EQ(r.vocabulary->chat_templates.at(0).text, "{{ x }}");
  EXPECT_FALSE(r.gguf_vocabulary);
  EXPECT_EQ(r.windows, (std::vector<std::vector<std::int32_t>>{{3, 0, 1}}));
  EXPECT_EQ(r.log_sum_exp, (std::vector<double>{2.0, 2.38, 2.1}));
  EXPECT_EQ(r.next, (std::vector<float>{1.0f, 1.0f, 0.0f}));
  EXPECT_EQ(r.top_ids, (std::vector<std::int32_t>{0, 1, 1, 3, 2, 0}));
  EXPECT_EQ(r.top_logits[5], -1.0f);
  EXPECT_EQ(r.sketches, (std::vector<float>{5.0f, -3.0f}));
}

TEST(SavedReference, WritesTheSameBytes) {
  const ReferenceBytes b = small_reference();
  const SavedReference r = parse_reference(span_of(b.bytes), "r.rwref");
  const auto bytes = reference_bytes(r);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), b.bytes);
  const TestFolder folder("reference");
  const auto path = folder.path() / "r.rwref", again = folder.path() / "again.rwref";
  write_reference(path, r, {});
  write_reference(again, read_reference(path), {});
  EXPECT_EQ(read_text_file(path, 1 << 20), read_text_file(again, 1 << 20));
}

TEST(SavedReference, EveryPrefixIsRefused) {
  const std::string whole = small_reference().bytes;
  for (std::size_t n = 0; n < whole.size(); ++n) EXPECT_NE(refusal(whole.substr(0, n)), "") << n;
  EXPECT_EQ(refusal(whole), "");
  EXPECT_NE(refusal(whole + "x").find("1 bytes are left over"), std::string::npos) << refusal(whole + "x");

  const TestFolder folder("reference-prefix");
  const auto path = folder.path() / "r.rwref";
  write_reference(path, parse_reference(span_of(whole), "r.rwref"), {});
  const std::string file = read_text_file(path, 1 << 20);
  for (std::size_t n = 0; n < file.size(); ++n) {
    std::ofstream(path, std::ios::binary) << file.substr(0, n);
    EXPECT_THROW(read_reference(path), Error) << n;
  }
}

TEST(SavedReference, EveryFieldThatLiesIsNamed) {
  const auto expect = [](const std::string& field, auto value, const std::string& problem) {
    ReferenceBytes b = small_reference();
    ASSERT_TRUE(b.at.contains(field)) << field;
    std::memcpy(b.bytes.data() + b.at[field], &value, sizeof(value));
    EXPECT_NE(refusal(b.bytes).find(problem), std::string::npos) << field << ": " << refusal(b.bytes);
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  expect("label", std::uint32_t{0xffffffff}, "the label needs 4294967295 bytes");
  expect("unmerged", std::uint8_t{2}, "unmerged is 2, 0 to 1 was expected");
  expect("context", std::uint32_t{1}, "the context is 1");
  expect("context", std::uint32_t{2}, "a window has 3 tokens, 2 to 2 were expected");
  expect("n_vocab", std::uint32_t{0}, "n_vocab is 0");
  expect("n_vocab", std::uint32_t{3}, "id 3 is outside the vocabulary of 3");
  expect("tied", std::uint8_t{7}, "tied_head is 7");
  expect("factor", std::numeric_limits<double>::infinity(), "a factor is no number");
  expect("frequency", std::numeric_limits<double>::quiet_NaN(), "a frequency is no number");
  for (const char* list :
       {"frequencies", "tensors", "shape", "pieces", "added", "merges", "templates", "windows", "window"}) {
    expect(list, kHuge, " claims 18446744073709551615 entries");
    expect(list, std::uint64_t{1} << 61, " claims 2305843009213693952 entries");  // times 8 is 0 in 64 bits
  }
  expect("vocabulary", std::uint8_t{9}, "vocabulary is 9");
  expect("rules", std::uint8_t{3}, "the tokenizer's rules is 3");
  expect("type", std::uint8_t{0}, "a piece's type is 0");
  expect("added id", std::uint32_t{1} << 31, "an added token's id is 2147483648");
  expect("bpe", std::uint8_t{2}, "merges is 2");
  expect("add_bos", std::uint8_t{3}, "add_bos is 3");
  expect("id", std::uint32_t{4}, "id 4 is outside the vocabulary of 4");
  expect("id", std::uint32_t{0xffffffff}, "id -1 is outside");
  expect("top", std::uint32_t{0}, "top is 0");
  expect("top", std::uint32_t{5}, "top is 5, 1 to 4 was expected");
  expect("sketch_every", std::uint32_t{0}, "sketch_every is 0");
  expect("sketch_width", std::uint32_t{1024}, "sketches needs 1025 values");

  // values: planes stand byte by byte, so they are built anew
  const auto expect_rows = [](std::vector<double> sums, std::vector<std::uint32_t> ids, std::vector<float> logits,
                              const std::string& problem, std::vector<float> next = {1.0f, 1.0f, 0.0f}) {
    ReferenceBytes b = small_reference(), planes;
    planes.planes(sums, "s").planes(next, "n").planes(ids, "i").planes(logits, "l");
    b.bytes.replace(b.at["log_sum_exp"], planes.bytes.size(), planes.bytes);
    if (problem.empty()) EXPECT_EQ(refusal(b.bytes), "");
    else EXPECT_NE(refusal(b.bytes).find(problem), std::string::npos) << refusal(b.bytes);
  };
  const std::vector<double> sums = {2.0, 2.38, 2.1};
  const std::vector<std::uint32_t> ids = {0, 1, 1, 3, 2, 0};
  const std::vector<float> logits = {1.0f, 0.5f, 1.0f, 1.0f, 2.0f, -1.0f};
  expect_rows({2.0, std::nan(""), 2.1}, ids, logits, "row 1 is no number");
  expect_rows({2.0, 2.38, 1.5}, ids, logits, "row 2 has probabilities that add up to more than 1");
  expect_rows(sums, {0, 4, 1, 3, 2, 0}, logits, "id 4 is outside");
  expect_rows(sums, {1, 1, 1, 3, 2, 0}, logits, "row 0 names one token twice");
  expect_rows(sums, ids, {0.5f, 1.0f, 1.0f, 1.0f, 2.0f, -1.0f}, "row 0 is not sorted");
  expect_rows(sums, ids, {1.0f, std::nanf(""), 1.0f, 1.0f, 2.0f, -1.0f}, "row 0 is not sorted");
  // Two tokens of four are kept. Of row 0 the others have at most e^(0.5 - sum) each: with a sum of 2 they can have all that
  // is left, 1 - e^-1 - e^-1.5 = 0.41 of 0.45; with 2.2 they would need 0.517 of 0.37.
  expect_rows({2.2, 2.38, 2.1}, ids, logits, "row 0 has probabilities that add up to less than 1");
  expect_rows(sums, ids, logits, "row 0 has two logits for the token that came, id 0", {0.5f, 1.0f, 0.0f});
  expect_rows(sums, ids, logits, "row 2 is a window's last and has a token that came", {1.0f, 1.0f, 0.5f});
  const std::vector<std::uint32_t> others = {2, 1, 1, 3, 2, 0};  // of row 0 the token that came, 0, is not kept
  expect_rows(sums, others, logits, "", {0.4f, 1.0f, 0.0f});
  expect_rows(sums, others, logits, "row 0 has a likelier token that came, id 0", {0.6f, 1.0f, 0.0f});
  expect_rows(sums, others, logits, "row 0 gives the token that came, id 0, no probability", {-1e30f, 1.0f, 0.0f});
  // the other of the two that are not kept has at most 0.22, so this one at least 0.19: e^(0.5 - 2) < 0.41 - e^(-1 - 2)
  expect_rows(sums, others, logits, "row 0 has probabilities that add up to less than 1", {-1.0f, 1.0f, 0.0f});
  ReferenceBytes norm = small_reference();
  norm.bytes.replace(norm.at["sketches"], 8, ReferenceBytes().planes<float>({-5.0f, -3.0f}, "s").bytes);
  EXPECT_NE(refusal(norm.bytes).find("its norm is below 0"), std::string::npos);
}

TEST(SavedReference, AnotherFileOrVersionIsSaid) {
  const TestFolder folder("reference-version");
  const auto path = folder.path() / "r.rwref";
  const auto said = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      read_reference(path);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(said("GGUF 1234567890123456").find("byte 0: this is no saved reference"), std::string::npos);
  const std::string header("RWREF\r\n\x1a\x01\0\0\0\0\0\0\0", 16);
  EXPECT_NE(said(header + std::string(64, '0')).find("byte 8: version 1 of saved references, 2 is read"),
            std::string::npos);
  EXPECT_NE(said(header).find("this is no saved reference"), std::string::npos) << "shorter than a header";
  // a frame of a gigabyte of zeros in 33 kB is refused before it is all there
  const std::string bent("RWREF\r\n\x1a\x02\0\0\0\0\0\x01\0", 16);
  EXPECT_NE(said(bent + std::string(64, '0')).find("byte 12: 65536 stands where 0 was expected: damaged"),
            std::string::npos);
  const std::string current("RWREF\r\n\x1a\x02\0\0\0\0\0\0\0", 16);
  std::string bomb = current + std::string(64, '0');
  const auto frame = zstd_compressed(std::vector<std::byte>(std::size_t{1} << 27));
  bomb.append(reinterpret_cast<const char*>(frame.data()), frame.size());
  EXPECT_NE(said(bomb).find("once decompressed"), std::string::npos);
  // contents that nothing is wrong with, in a frame with a checksum of its own, under another sha256 than theirs
  const std::string contents = small_reference().bytes;
  const auto whole = zstd_compressed(std::as_bytes(std::span(contents)));
  const auto with_digest = [&](const std::string& digest) {
    return current + digest + std::string(reinterpret_cast<const char*>(whole.data()), whole.size());
  };
  EXPECT_EQ(said(with_digest(sha256(contents))), "");
  EXPECT_NE(said(with_digest(sha256(contents + "x"))).find("byte 16: its contents have sha256 " + sha256(contents)),
            std::string::npos);
}

}  // namespace
}  // namespace ropewalk::formats
