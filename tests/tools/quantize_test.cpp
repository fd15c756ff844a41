// quantize beside its goldens: what it says, what it refuses, what convert and verify make of mixes.
#include <cmath>

#include "formats/gguf.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class Quantize : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", f16, "--type", "f16", "--no-sync"}).exit, 0);
  }
  /// Exit code and the one line of the error.
  void refused(const std::vector<std::string>& words, int exit, const std::string& line) const {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(line), std::string::npos) << ran.err;
  }

  Scratch scratch;
  std::string f16 = (scratch / "m-f16.gguf").string(), out = (scratch / "out.gguf").string();
};

TEST_F(Quantize, NamesItsOutputAndReplacesIt) {
  EXPECT_EQ(run({"quantize", "--no-sync", f16, "q4_k_m"}).exit, 0);
  const fs::path named = scratch / "ggml-model-Q4_K_M.gguf";
  ASSERT_TRUE(fs::exists(named));
  spill(out, "old");
  const Ran ran = run({"quantize", "--no-sync", f16, out, "15", "2"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(slurp(out), slurp(named)) << "by number, with threads";
  EXPECT_NE(ran.out.find("mix of llama.cpp@0.5"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("| q6_k"), std::string::npos) << ran.out;
}

TEST_F(Quantize, ByTheToolsName) {
  fs::create_symlink(ROPEWALK_BINARY, scratch / "llama-quantize");
  const std::string command =
      (scratch / "llama-quantize").string() + " --pure '" + f16 + "' '" + out + "' Q8_0 1 >/dev/null 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_TRUE(fs::exists(out));
}

TEST_F(Quantize, DryRunWritesNothing) {
  const auto before = scratch.names();
  const Ran ran = run({"quantize", "--dry-run", f16, out, "Q5_K_M", "--json"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(scratch.names(), before);
  ASSERT_EQ(run({"quantize", "--no-sync", f16, out, "Q5_K_M"}).exit, 0);
  EXPECT_EQ(ran.json()["outputs"][0]["bytes"].get<std::uint64_t>(), fs::file_size(out)) << "the size it will have";
}

TEST_F(Quantize, Refusals) {
  refused({"quantize", f16, out, "Q9_K"}, 2, "'Q9_K' is no type");
  refused({"quantize", f16}, 2, "no TYPE is given; types are Q1_0, ");
  refused({"quantize", f16, out}, 2, "is no type, and none follows it");
  refused({"quantize", f16, out, "Q4_0", "two"}, 2, "THREADS has 'two'");
  refused({"quantize", f16, out, "Q4_0", "2", "3"}, 2, "one word too many");
  refused({"quantize", "--tensor-type", "attn_q", f16, out, "Q4_0"}, 2, "give PATTERN=TYPE");
  refused({"quantize", "--tensor-type", "attn(=q8_0", f16, out, "Q4_0"}, 2, "no regular expression");
  refused({"quantize", "--tensor-type", "attn_q=q9", f16, out, "Q4_0"}, 2, "names the type 'q9'");
  refused({"quantize", "--output-tensor-type", "i8x", f16, out, "Q4_0"}, 2, "names the type 'i8x'");
  refused({"quantize", "--override-kv", "a=long:1", f16, out, "Q4_0"}, 2, "--override-kv is 'a=long:1'");
  refused({"quantize", "--override-kv", "general.alignment=int:33", f16, out, "Q4_0"}, 2, "give a power of two");
  refused({"quantize", "--size", "3.9", f16, out, "AUTO"}, 2, "give a size such as 300M, 3.9G or 4GiB");
  refused({"quantize", "--prune-layers", "99", f16, out, "Q4_0"}, 2, "layer 99, which is not there");
  refused({"quantize", "--prune-layers", "0,1,2,3", f16, out, "Q4_0"}, 2, "names every layer");
  refused({"quantize", "--include-weights", "a", f16, out, "Q4_0"}, 2, "no --imatrix");
  refused({"quantize", "--mix", "llama.cpp@0.1", f16, out, "Q4_0"}, 2, "--mix is 'llama.cpp@0.1'");
  refused({"quantize", f16, f16, "Q4_0"}, 5, "which is read as IN; write it elsewhere");
  refused({"quantize", f16, out, "IQ2_XXS"}, 4, "needs importances");
  refused({"quantize", "--imatrix", f16, f16, out, "Q4_0"}, 3, "not an importance matrix");
  refused({"quantize", (scratch / "none.gguf").string(), out, "Q4_0"}, 3, "none.gguf");
  ASSERT_EQ(run({"quantize", "--no-sync", f16, (scratch / "q8.gguf").string(), "Q8_0"}).exit, 0);
  refused({"quantize", (scratch / "q8.gguf").string(), out, "Q4_0"}, 4, "give --allow-requantize");
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(run({"quantize", "--no-sync", "--allow-requantize", (scratch / "q8.gguf").string(), out, "Q4_0"}).exit, 0);
}

/// A GGUF of "ones.weight", `columns` x 1 in f16, that says nothing of its file type.
std::string gguf_of_ones(std::uint64_t columns) {
  std::string file = "GGUF";
  const auto put = [&file](auto number) { file.append(reinterpret_cast<const char*>(&number), sizeof number); };
  const auto text = [&](const std::string& word) {
    put(std::uint64_t{word.size()});
    file += word;
  };
  put(std::uint32_t{3});
  put(std::uint64_t{1});  // tensors
  put(std::uint64_t{1});  // keys
  text("general.architecture");
  put(std::uint32_t{8});  // a string
  text("llama");
  text("ones.weight");
  put(std::uint32_t{2});
  put(columns);
  put(std::uint64_t{1});
  put(std::uint32_t{1});  // f16
  put(std::uint64_t{0});
  file.resize((file.size() + 31) / 32 * 32);
  for (std::uint64_t i = 0; i < columns; ++i) put(std::uint16_t{0x3c00});
  return file;
}

// As llama-quantize 0.5 does, which tests/peers/quantize.py runs on such files.
TEST_F(Quantize, WhatTheFileDoesNotSay) {
  const std::string ones = (scratch / "ones.gguf").string();
  spill(ones, gguf_of_ones(64));
  ASSERT_EQ(run({"quantize", "--no-sync", ones, out, "COPY"}).exit, 0);
  const formats::GgufFile copy = formats::read_gguf(out);
  EXPECT_EQ(copy.integer("general.file_type"), 1024 + 1) << "guessed, of f16";
  EXPECT_EQ(copy.tensors.at(0)->info().shape, std::vector<std::uint64_t>{64}) << "one row is no matrix";
  ASSERT_EQ(run({"quantize", "--no-sync", ones, out, "Q8_0"}).exit, 0);
  EXPECT_EQ(formats::read_gguf(out).tensors.at(0)->dtype(), DType::f16);
}

TEST_F(Quantize, TensorTypesCountInTheirOrder) {
  const std::string file = (scratch / "types.txt").string();
  spill(file, "attn_k=q6_k\n");
  const auto type_of_k = [&](const std::vector<std::string>& options) {
    std::vector<std::string> words = {"quantize", "--dry-run", "--json"};
    words.insert(words.end(), options.begin(), options.end());
    for (const std::string& word : {f16, out, std::string("Q8_0")}) words.push_back(word);
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    for (const Json& tensor : ran.json()["outputs"][0]["tensors"])
      if (tensor["name"] == "blk.0.attn_k.weight") return tensor["type"].get<std::string>();
    return std::string("none");
  };
  EXPECT_EQ(type_of_k({"--tensor-type-file", file, "--tensor-type", "attn_k=q4_0"}), "q6_k");
  EXPECT_EQ(type_of_k({"--tensor-type", "attn_k=q4_0", "--tensor-type-file", file}), "q4_0");
  EXPECT_EQ(type_of_k({"--tensor-type", "ffn=q4_0", "--tensor-type=attn_k=q5_0", "--tensor-type-file", file}), "q5_0");
}

TEST_F(Quantize, SaysWhatDoesNothing) {
  const auto said = [&](const std::string& type, const std::string& rule) {
    return run({"quantize", "--dry-run", "--tensor-type", rule, f16, out, type}).out;
  };
  EXPECT_NE(
      said("Q8_0", "atn_k=q4_0").find("note: --tensor-type atn_k=q4_0 does nothing: its pattern matches no tensor"),
      std::string::npos);
  EXPECT_EQ(said("Q8_0", "attn_k=q4_0").find("does nothing"), std::string::npos);
  EXPECT_NE(said("COPY", "attn_k=q4_0").find("note: COPY leaves every tensor as it is"), std::string::npos);
}

// One pass has the chain's bytes; the chain with the real llama-quantize is tests/peers/quantize.py.
TEST_F(Quantize, ConvertGoesStraightToAMix) {
  const std::string one = (scratch / "one-{TYPE}.gguf").string(), name = "--model-name";
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", f16, "--type", "f16", name, "m", "--overwrite"}).exit,
            0);
  const Ran ran =
      run({"convert", model("tolstoy-4m-yarn-2k"), "-o", one, "--type", "q4_k_m,q3_k_s,f16", name, "m", "--no-sync"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  for (const char* type : {"Q4_K_M", "Q3_K_S"}) {
    ASSERT_EQ(run({"quantize", "--no-sync", f16, out, type}).exit, 0);
    EXPECT_EQ(slurp(scratch / ("one-" + std::string(type) + ".gguf")), slurp(out)) << type;
  }
  refused({"convert", model("tolstoy-4m-yarn-2k"), "-o", out, "--type", "f16", "--pure"}, 2, "no --type is a mix");
  refused({"convert", model("tolstoy-4m-yarn-2k"), "-o", out, "--type", "q4_k_x"}, 2, "did you mean q4_k_");
}

TEST_F(Quantize, VerifyHasLimitsOfItsBits) {
  ASSERT_EQ(run({"quantize", "--no-sync", f16, out, "Q4_K_M"}).exit, 0);
  const std::vector<std::string> verify = {"verify",    out,
                                           "--against", model("tolstoy-4m-yarn-2k"),
                                           "-c",        "512",
                                           "--windows", "1",
                                           "-f",        fixture("goldens/perplexity/doc-1.txt")};
  const Ran good = run(verify);
  EXPECT_EQ(good.exit, 0) << good.out << good.err;
  auto strict = verify;
  strict.insert(strict.end(), {"--max", "kl_mean=0.001"});
  EXPECT_EQ(run(strict).exit, 1) << "what four bits cost is measured";
  ASSERT_EQ(run({"extend", out, "-o", (scratch / "lost.gguf").string(), "--rope", "none", "--no-sync"}).exit, 0);
  auto lost = verify;
  lost[1] = (scratch / "lost.gguf").string();
  EXPECT_EQ(run(lost).exit, 1) << "a rope that was lost fails at any encoding";
}

/// What a tensor's encoding has lost, by the two files alone.
struct Lost {
  double rmse = 0, relative = 0, worst = 0;
  std::uint64_t row = 0;
};
Lost lost_between(const TensorPtr& before, const TensorPtr& after) {
  const std::uint64_t rows = before->info().rows(), columns = before->info().columns();
  std::vector<float> x(rows * columns), y(x.size());
  before->read_f32({0, rows}, x);
  after->read_f32({0, rows}, y);
  Lost lost;
  double squares = 0, reference = 0;
  for (std::uint64_t row = 0; row < rows; ++row) {
    double row_squares = 0, row_reference = 0;
    for (std::uint64_t i = row * columns; i < (row + 1) * columns; ++i)
      row_squares += (double(x[i]) - y[i]) * (double(x[i]) - y[i]), row_reference += double(x[i]) * x[i];
    squares += row_squares, reference += row_reference;
    if (std::sqrt(row_squares / row_reference) > lost.worst)
      lost.worst = std::sqrt(row_squares / row_reference), lost.row = row;
  }
  lost.rmse = std::sqrt(squares / double(x.size())), lost.relative = std::sqrt(squares / reference);
  return lost;
}

// Measured as it is written; here from what was written. From the folder, whose rows of Q and K stand in another order,
// rows count as they are in the file.
TEST_F(Quantize, WhatEachTensorHasLost) {
  const auto path = [&](const char* name) { return (scratch / name).string(); };
  const Ran ran = run({"quantize", "--no-sync", f16, out, "Q4_K_M", "--report", path("r.json"), "--report",
                       path("r.csv"), "--report", path("r.md")});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.out.find("relative error"), std::string::npos) << "not for a terminal";
  const Json report = Json::parse(slurp(path("r.json")));
  std::map<std::string, TensorPtr> before, after;
  for (const TensorPtr& tensor : formats::read_gguf(f16).tensors) before[tensor->name()] = tensor;
  for (const TensorPtr& tensor : formats::read_gguf(out).tensors) after[tensor->name()] = tensor;
  const std::string csv = slurp(path("r.csv"));
  EXPECT_EQ(csv.find("output,tensor,type,bytes,rmse,relative error,worst row,its relative error\r\nout.gguf,"), 0u)
      << csv.substr(0, 200);
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), std::ptrdiff_t(before.size()) + 1);
  EXPECT_NE(slurp(path("r.md")).find("worst row"), std::string::npos);
  std::size_t lossy = 0;
  for (const Json& tensor : report["outputs"][0]["tensors"]) {
    const std::string name = tensor["name"];
    SCOPED_TRACE(name);
    EXPECT_EQ(tensor["bytes"].get<std::uint64_t>(), after.at(name)->info().bytes());
    if (tensor["type"] == "f32") {
      EXPECT_EQ(tensor["rmse"], 0.0);
      EXPECT_TRUE(tensor["worst_row"].is_null());
      continue;
    }
    ++lossy;
    const Lost lost = lost_between(before.at(name), after.at(name));
    // sums of doubles in two orders
    EXPECT_NEAR(tensor["rmse"].get<double>() / lost.rmse, 1, 1e-9);
    EXPECT_NEAR(tensor["relative_error"].get<double>() / lost.relative, 1, 1e-9);
    EXPECT_EQ(tensor["worst_row"]["row"].get<std::uint64_t>(), lost.row);
    EXPECT_NEAR(tensor["worst_row"]["relative_error"].get<double>() / lost.worst, 1, 1e-9);
  }
  EXPECT_EQ(lossy, 30u);

  const Ran folder = run({"convert", model("tolstoy-4m-yarn-2k"), "-o", path("c.gguf"), "--type", "q4_k_m", "--rmse",
                          "--json", "--no-sync", "-t", "1"});
  ASSERT_EQ(folder.exit, 0) << folder.err;
  for (std::size_t i = 0; i < report["outputs"][0]["tensors"].size(); ++i) {
    const Json &a = report["outputs"][0]["tensors"][i], &b = folder.json()["outputs"][0]["tensors"][i];
    for (const char* key : {"name", "type", "bytes"}) EXPECT_EQ(a[key], b[key]);
    if (!a["worst_row"].is_null()) {
      EXPECT_EQ(a["worst_row"]["row"], b["worst_row"]["row"]) << a << b;
    }
    EXPECT_NEAR(a["rmse"].get<double>(), b["rmse"].get<double>(), 1e-12);
  }
  const Ran plain = run({"quantize", "--no-sync", f16, out, "Q4_K_M", "--json"});
  EXPECT_TRUE(plain.json()["outputs"][0]["tensors"][0]["rmse"].is_null()) << "not asked for";
}

// The fixture at Q4_K_M's size: less than two thirds of its KL. Of other mixes and sizes, also those where nothing is
// gained: docs/numerics.md.
TEST_F(Quantize, TypesChosenByErrorBeatTheMixOfThatSize) {
  const std::string source = model("tolstoy-4m-yarn-2k"), text = fixture("goldens/perplexity/doc-3.txt"),
                    plan = (scratch / "plan.json").string(), again = (scratch / "again.gguf").string();
  const auto kl = [&](const std::string& file) {
    const Ran ran = run({"verify", file, "--against", source, "-f", text, "-c", "256", "--keep-going", "--json"});
    return ran.json()["logits"]["kl_mean"].get<double>();
  };
  const std::string candidates = "q3_k,iq4_xs,q4_k,q5_k,q6_k,q8_0";  // the fast ones
  {
    const char* mix = "Q4_K_M";
    ASSERT_EQ(run({"quantize", "--no-sync", f16, out, mix}).exit, 0);
    const std::uint64_t size = fs::file_size(out);
    const double by_mix = kl(out);
    const std::string kilobytes =
        std::to_string(size / 1000) + "." + std::to_string(1000 + size % 1000).substr(1) + "k";
    const Ran ran = run({"quantize", "--no-sync", "--size", kilobytes, "--candidates", candidates, "--save-plan", plan,
                         f16, out, "AUTO", "1", "--overwrite"});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_LE(fs::file_size(out), size);
    EXPECT_GT(double(fs::file_size(out)), 0.98 * double(size)) << "and the budget is used";
    EXPECT_LT(kl(out), by_mix * 2 / 3) << mix;
    EXPECT_NE(ran.out.find("blk.*.attn_v.weight: "), std::string::npos) << ran.out;
  }
  ASSERT_EQ(run({"quantize", "--no-sync", "--plan", plan, f16, again, "auto"}).exit, 0);
  EXPECT_EQ(slurp(again), slurp(out)) << "a plan is all there is to it";
  ASSERT_EQ(run({"quantize", "--no-sync", "--bpw", "4.5", "--candidates", "q3_k,q5_k", f16, out, "auto"}).exit, 0);
  const Ran converted = run({"convert", source, "-o", again, "--type", "auto", "--bpw", "4.5", "--candidates",
                             "q3_k,q5_k", "--no-sync", "-t", "2", "--overwrite", "--save-plan", plan});
  ASSERT_EQ(converted.exit, 0) << converted.err;
  EXPECT_EQ(slurp(again), slurp(out)) << "from the folder, with other threads";
  EXPECT_LE(Json::parse(slurp(plan))["bits_a_weight"].get<double>(), 4.5);

  refused({"quantize", f16, out, "AUTO"}, 2, "no budget");
  refused({"quantize", "--bpw", "4.5", f16, out, "Q4_K_M"}, 2, "give AUTO as TYPE");
  refused({"quantize", "--bpw", "4.5", "--size", "3M", f16, out, "AUTO"}, 2, "are one choice");
  refused({"quantize", "--plan", plan, "--tensor-type", "a=q8_0", f16, out, "AUTO"}, 2, "--plan names every tensor's");
  refused({"quantize", "--bpw", "0", f16, out, "AUTO"}, 2, "--bpw has '0'");
  refused({"quantize", "--bpw", "1.5", f16, out, "AUTO"}, 2, "the smallest candidates take");
  refused({"quantize", "--bpw", "4.5", "--candidates", "q9", f16, out, "AUTO"}, 2, "names the type 'q9'");
  refused({"convert", source, "-o", again, "--type", "q4_k_m", "--bpw", "4"}, 2, "give --type auto");
  spill(plan, R"({"ropewalk_plan": 1, "types": {"output.weight": "q6_k"}})");
  refused({"quantize", "--plan", plan, f16, out, "AUTO"}, 3, "has no type for tensor");
  spill(plan, R"({"types": {}})");
  refused({"quantize", "--plan", plan, f16, out, "AUTO"}, 3, "is no plan of types");
}

// What is in blocks plus an adapter is the sum of what the blocks stand for and the delta: types that can hold it get it
// with one rounding, as from the model that the blocks dequantize to; back into its blocks it is quantized a second time,
// which is told of q8_0 and refused of others.
TEST_F(Quantize, TheSumOfBlocksAndADeltaIsRoundedOnce) {
  const std::string plain = (scratch / "plain").string(), sum = (scratch / "sum.gguf").string(),
                    once = (scratch / "once.gguf").string();
  for (const char* type : {"Q8_0", "Q4_K_M"}) {
    ASSERT_EQ(run({"quantize", "--no-sync", "--overwrite", f16, out, type}).exit, 0);
    ASSERT_EQ(run({"convert", out, "-o", plain, "--type", "hf:f32", "--no-sync", "--overwrite"}).exit, 0);
    for (const char* to : {"f32", "f16"}) {  // which hold the norms of the model exactly
      const Ran ours = run({"convert", out + "+" + adapter(), "-o", sum, "--type", to, "--no-sync", "--overwrite"});
      ASSERT_EQ(ours.exit, 0) << ours.err;
      const std::vector<std::string> reference = {
          "convert", plain + "+" + adapter(), "-o", once, "--type", to, "--dtype", to, "--no-sync", "--overwrite"};
      ASSERT_EQ(run(reference).exit, 0);
      EXPECT_EQ(run({"diff", sum, once, "--exit-code"}).exit, 0) << type << " to " << to;
    }
    const std::string merged = (scratch / "merged").string();
    ASSERT_EQ(run({"merge", out + "+" + adapter(), "-o", merged, "--dtype", "f32", "--no-sync", "--overwrite"}).exit,
              0);
    const Json inspected = run({"inspect", merged, "--tensors", "--json"}).json();
    for (const Json& tensor : inspected["tensors"]) EXPECT_EQ(tensor["dtype"], "f32") << tensor["name"];
  }
  ASSERT_EQ(run({"quantize", "--no-sync", "--overwrite", f16, out, "Q8_0"}).exit, 0);
  const Ran kept = run({"convert", out + "+" + adapter(), "-o", sum, "--no-sync", "--overwrite", "--json"});
  ASSERT_EQ(kept.exit, 0) << kept.err;
  EXPECT_EQ(kept.json()["outputs"][0]["type"], "q8_0");
  EXPECT_NE(kept.err.find("encoded in q8_0 a second time, which takes "), std::string::npos) << kept.err;
  const Ran judged = run({"verify", sum, "--against", out + "+" + adapter(), "-c", "64", "--windows", "1", "--json"});
  EXPECT_GT(judged.json()["logits"]["kl_mean"].get<double>(), 0) << "the source is not what the file holds";
}

// Merged into blocks of four bits it would be quantized a second time: asked for, or not at all.
TEST_F(Quantize, AnAdapterOnAQuantizedBase) {
  ASSERT_EQ(run({"quantize", "--no-sync", f16, out, "Q4_K_M"}).exit, 0);
  const std::string source = out + "+" + adapter(), text = fixture("goldens/perplexity/doc-1.txt"),
                    merged = (scratch / "merged.gguf").string();
  const Ran ran = run({"convert", source, "-o", merged, "--type", "keep"});
  EXPECT_EQ(ran.exit, 4) << ran.err;
  EXPECT_NE(ran.err.find("it would be quantized a second time"), std::string::npos) << ran.err;
  EXPECT_EQ(run({"perplexity", source, "-f", text, "-c", "64", "--windows", "1"}).exit, 0);
  EXPECT_EQ(run({"perplexity", source, "-f", text, "-c", "64", "--windows", "1", "--unmerged"}).exit, 0);
  const Ran told = run({"convert", source, "-o", merged, "--type", "keep", "--dtype", "f16", "--no-sync"});
  EXPECT_EQ(told.exit, 0) << told.err;
  const Ran shown = run({"inspect", merged, "--tensors", "--json"});
  std::map<std::string, std::string> types;
  for (const Json& tensor : shown.json()["tensors"])
    types[tensor["name"].get<std::string>()] = tensor["dtype"].get<std::string>();
  EXPECT_EQ(types.at("model.layers.0.self_attn.q_proj.weight"), "f16") << "changed by the adapter";
  EXPECT_EQ(types.at("model.embed_tokens.weight"), "q4_k") << "untouched";
}

}  // namespace
}  // namespace ropewalk::tools::test
