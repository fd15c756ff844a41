// A value that a row of a type cannot hold: quantize and convert refuse it, whatever the type, naming tensor and row.
#include "formats/gguf.h"
#include "lib/codecs/encode.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

constexpr const char* kTensor = "blk.1.ffn_down.weight";
constexpr const char* kName[] = {kTensor, "model.layers.1.mlp.down_proj.weight"};  // to quantize, to convert

class QuantizeRange : public testing::Test {
 protected:
  /// An f32 GGUF, and its importances while all its values are ordinary.
  void SetUp() override {
    ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", gguf, "--type", "f32", "--no-sync"}).exit, 0);
    const Ran ran = run({"imatrix", gguf, "-o", imatrix, "-c", "64", "--chunks", "1", "--no-ppl"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
  }
  /// Into kTensor. All tensors are f32 and whole multiples of the alignment, so it stands where those behind it leave off.
  void put(std::uint64_t row, std::uint64_t column, float value) const {
    std::uint64_t behind = 0, columns = 0;
    for (const TensorPtr& tensor : formats::read_gguf(gguf).tensors) {
      if (tensor->name() == kTensor) columns = tensor->info().columns();
      if (columns == 0) continue;
      ASSERT_EQ(tensor->info().dtype, DType::f32);
      behind += tensor->info().bytes();
    }
    ASSERT_GT(columns, column);
    std::fstream file(gguf, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(gguf) - behind + 4 * (row * columns + column)));
    file.write(reinterpret_cast<const char*>(&value), 4);
    ASSERT_TRUE(file.good());
  }
  /// What quantize and convert say of it: kTensor as `type`, in a Q4_0 mix.
  std::vector<Ran> as(const std::string& type, bool saturate = false) const {
    std::vector<std::string> options = {"--imatrix", imatrix, "--tensor-type", "blk.1.ffn_down=" + type};
    if (saturate) options.emplace_back("--saturate");
    std::vector<std::string> quantize = {"quantize", "--no-sync"}, convert = {"convert", gguf, "-o", out};
    quantize.insert(quantize.end(), options.begin(), options.end());
    convert.insert(convert.end(), options.begin(), options.end());
    for (const std::string& word : {gguf, out, std::string("Q4_0")}) quantize.push_back(word);
    for (const char* word : {"--type", "q4_0", "--no-sync", "--overwrite"}) convert.push_back(word);
    std::vector<Ran> all;
    for (const auto& words : {quantize, convert}) {
      fs::remove(out);
      all.push_back(run(words));
      EXPECT_EQ(fs::exists(out), all.back().exit == 0) << all.back().err;
    }
    return all;
  }
  void refused(const std::string& type, const std::string& place, const std::string& value) const {
    const std::vector<Ran> all = as(type);
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].exit, 3) << all[i].err;
      const std::string line = "error: " + gguf + ": tensor '" + kName[i] + "': " + place + ": " + value;
      EXPECT_NE(all[i].err.find(line), std::string::npos) << all[i].err;
    }
  }

  Scratch scratch;
  std::string gguf = (scratch / "m.gguf").string(), imatrix = (scratch / "imatrix.gguf").string(),
              out = (scratch / "out.gguf").string();
};

TEST_F(QuantizeRange, EveryTypeThatCannotHoldAValue) {
  const auto types = [](bool hold) {
    std::vector<std::string> names = hold ? std::vector<std::string>{"f32", "bf16"} : std::vector<std::string>{"f16"};
    for (const DTypeInfo& type : kDTypes)  // an MXFP4 scale is any power of two
      if (has_block_encoder(type.dtype) && (type.dtype == DType::mxfp4) == hold) names.emplace_back(type.name);
    return names;
  };
  ASSERT_EQ(types(true).size() + types(false).size(), 28u);
  put(3, 17, 1e30f);
  for (const std::string& type : types(false)) {
    SCOPED_TRACE(type);
    refused(type, "row 3, column 17", "1.00000002e+30 is past the largest " + type + " value, ");
    for (const Ran& ran : as(type, true)) {  // what the message offers
      EXPECT_EQ(ran.exit, 0) << ran.err;
      EXPECT_NE((ran.out + ran.err).find("1 value past the range"), std::string::npos) << ran.out << ran.err;
    }
  }
  for (const std::string& type : types(true)) {
    SCOPED_TRACE(type);
    for (const Ran& ran : as(type)) EXPECT_EQ(ran.exit, 0) << ran.err;
  }
  // the same where it is another's row, and what is no number
  put(3, 17, 0.5f);
  put(255, 767, -1e30f);
  refused("q4_k", "row 255, column 767", "-1.00000002e+30 is past the largest q4_k value, ");
  put(255, 767, std::numeric_limits<float>::infinity());
  for (const char* type : {"q4_k", "mxfp4", "nvfp4", "q8_0"})
    refused(type, "row 255, column 767", "an infinity would spoil a whole block of " + std::string(type));
  // nor in a tensor of such a file that stays as it is; a copy is one, and says so
  for (const char* type : {"f32", "f16", "bf16"})
    for (const Ran& ran : as(type)) {
      EXPECT_EQ(ran.exit, 3) << ran.err;
      EXPECT_NE(ran.err.find("holds 1 value that is infinite or NaN, the first in row 255, expected finite weights"),
                std::string::npos)
          << ran.err;
    }
  const Ran copied = run({"quantize", gguf, out, "COPY"});
  EXPECT_EQ(copied.exit, 0) << copied.err;
  EXPECT_NE(copied.err.find("the first in row 255: written as they are"), std::string::npos) << copied.err;
  put(255, 767, -0.5f);
  for (const char* type : {"q4_k", "f16"})
    for (const Ran& ran : as(type)) EXPECT_EQ(ran.exit, 0) << ran.err;
}

/// A .dat of importances of kTensor alone.
void write_dat(const std::string& path, const std::vector<float>& values) {
  std::ofstream file(path, std::ios::binary);
  const auto number = [&](std::size_t n) {
    const auto word = static_cast<std::int32_t>(n);
    file.write(reinterpret_cast<const char*>(&word), 4);
  };
  number(1);
  number(std::string(kTensor).size());
  file << kTensor;
  number(1);  // call
  number(values.size());
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(4 * values.size()));
  number(1);  // chunk
  number(1);
  file << "x";
}

// llama-quantize 0.5 refuses these ("quantized data validation failed") with the same weights and importances; importances
// of 1 it takes.
TEST_F(QuantizeRange, BlocksWhoseScaleIsNoNumber) {
  std::vector<float> importances(768, 1.0f);
  imatrix = (scratch / "huge.dat").string();
  for (const bool huge : {true, false}) {
    std::fill(importances.begin(), importances.end(), huge ? 1e38f : 1.0f);
    write_dat(imatrix, importances);
    for (const char* type : {"q4_0", "q4_k", "iq4_nl"}) {
      SCOPED_TRACE(type);
      for (const Ran& ran : as(type)) {
        EXPECT_EQ(ran.exit, huge ? 3 : 0) << ran.err;
        EXPECT_EQ(ran.err.find(std::string(type) + " scale would be infinite or no number (of values up to ") !=
                      std::string::npos,
                  huge)
            << ran.err;
        EXPECT_EQ(ran.err.find(", importances up to 1e+38); make the importances anew") != std::string::npos, huge)
            << ran.err;
      }
    }
    // nor is such a type measured as if it were one
    const Ran measured = run({"quantize", "--imatrix", imatrix, "--bpw", "5", gguf, out, "auto", "--no-sync"});
    EXPECT_EQ(measured.exit, huge ? 3 : 0) << measured.err;
    EXPECT_EQ(measured.err.find(" scale would be infinite or no number") != std::string::npos, huge) << measured.err;
  }
  // MXFP4's exponent of 2^-126 is one below 0, and wraps to the code of NaN
  for (const float tiny : {1.5e-38f, 2.4e-38f}) {
    for (std::uint64_t column = 64; column < 96; ++column) put(3, column, tiny);
    for (const Ran& ran : as("mxfp4")) {
      EXPECT_EQ(ran.exit, tiny < 2e-38f ? 3 : 0) << ran.err;
      EXPECT_EQ(ran.err.find("row 3, columns 64 to 95: their mxfp4 scale would be infinite or no number (of values up "
                             "to 1.5e-38); choose another type for it") != std::string::npos,
                tiny < 2e-38f)
          << ran.err;
    }
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
