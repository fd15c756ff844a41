// imatrix against the real llama-imatrix of llama.cpp 0.5 (tests/golden/imatrix).
#include "formats/imatrix.h"

#include <cmath>

#include "formats/gguf.h"
#include "lib/sha256.h"
#include "tests/tools/command.h"
#include "tests/tools/kill.h"
#include "verify/input_squares.h"

namespace ropewalk::tools::test {
namespace {

const fs::path kGolden = fs::path(ROPEWALK_GOLDEN_DIR) / "imatrix";

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}
/// Texts, and the golden matrices that others are added to.
void put_inputs(const Scratch& scratch) {
  for (const char* text : {"doc-1.txt", "doc-2.txt", "doc-3.txt"})
    fs::copy_file(fixture("goldens/perplexity/") + text, scratch / text);
  for (const char* matrix : {"chunks.gguf", "batches.dat"}) fs::copy_file(kGolden / matrix, scratch / matrix);
}
/// Everything of a file but the sums themselves.
std::string head_of(const fs::path& path) {
  const std::string bytes = slurp(path);
  if (path.extension() == ".dat") return bytes.substr(0, 8);  // entries, and the first name's length
  std::size_t data = 0;
  for (const TensorPtr& tensor : formats::read_gguf(path).tensors) data += (tensor->info().bytes() + 31) / 32 * 32;
  return bytes.substr(0, bytes.size() - data);
}

// "Within 1e-4 relative of the real tool on an f32 GGUF with an f32 cache": a sum of squares of activations, each within
// a few 2^-24 per operation on its way; measured 1e-5 at most. Its counts, chunks, keys and names are the same.
constexpr double kTolerance = 1e-4;

void expect_close(const fs::path& mine, const fs::path& golden) {
  EXPECT_EQ(head_of(mine), head_of(golden));
  const auto got = formats::read_imatrix_sums(mine, 1), want = formats::read_imatrix_sums(golden, 1);
  EXPECT_EQ(got.datasets, want.datasets);
  EXPECT_EQ(formats::read_imatrix(mine).chunks, formats::read_imatrix(golden).chunks);
  ASSERT_EQ(got.entries.size(), want.entries.size());
  double worst = 0;
  for (const auto& [name, entry] : want.entries) {
    ASSERT_TRUE(got.entries.contains(name)) << name;
    const formats::ImatrixSums& ours = got.entries.at(name);
    EXPECT_EQ(ours.counts, entry.counts) << name;
    ASSERT_EQ(ours.sums.size(), entry.sums.size()) << name;
    for (std::size_t i = 0; i < entry.sums.size(); ++i) {
      EXPECT_TRUE(std::abs(ours.sums[i] - entry.sums[i]) <= kTolerance * entry.sums[i]) << name << " " << i;
      worst = std::max(worst, double(std::abs(ours.sums[i] / entry.sums[i] - 1)));
    }
  }
  testing::Test::RecordProperty(golden.filename().string(), std::to_string(worst));
}

TEST(Imatrix, AsLlamaImatrixCollects) {
  const Json index = Json::parse(slurp(kGolden / "index.json"));
  ASSERT_EQ(index.size(), 6u);
  for (const auto& [name, run_of] : index.items()) {
    SCOPED_TRACE(name);
    const Scratch scratch;
    put_inputs(scratch);
    fs::remove(scratch / name);
    std::vector<std::string> words = {"imatrix", model(run_of["model"])};  // the folder: the same weights, other names
    for (std::string& word : words_of(run_of["arguments"]))
      words.push_back(word == "-ub" ? "--ubatch-size" : std::move(word));
    words.insert(words.end(), {"-o", name, "--json"});
    const Ran ran = run(words, {.folder = scratch.path()});
    ASSERT_EQ(ran.exit, 0) << ran.err;
    if (name.starts_with("both")) EXPECT_EQ(slurp(scratch / name), slurp(kGolden / name)) << "put together: the bytes";
    else expect_close(scratch / name, kGolden / name);
    if (run_of["perplexity"].is_null()) {
      EXPECT_TRUE(ran.json()["perplexity"].is_null());
      continue;
    }
    // printed with four decimals; losses as in tests/peers/perplexity.py
    const double ours = ran.json()["perplexity"]["value"], theirs = run_of["perplexity"];
    EXPECT_LE(std::abs(std::log(ours / theirs)), 2 * 1.6e-4 + 4 * 4.6e-5 + 0.5e-4 / theirs);
  }
}

TEST(Imatrix, ComparisonNoticesAnotherText) {
  const Scratch scratch;
  put_inputs(scratch);
  ASSERT_EQ(run({"imatrix", model("stories260K"), "-f", "doc-1.txt", "-c", "100", "--chunk", "3", "--chunks", "9", "-o",
                 "x.gguf"},
                {.folder = scratch.path()})
                .exit,
            0);
  const auto got = formats::read_imatrix_sums(scratch / "x.gguf", 1),
             want = formats::read_imatrix_sums(kGolden / "chunks.gguf", 1);
  const auto &a = got.entries.at("blk.0.attn_q.weight").sums, &b = want.entries.at("blk.0.attn_q.weight").sums;
  EXPECT_GT(std::abs(a[0] / b[0] - 1), 10 * kTolerance) << "one chunk later";
}

// By hand from llama.cpp 0.5's split of a batch: as many tokens of each sequence as fit a piece.
TEST(Imatrix, RowsThatAreNotLookedAt) {
  const auto rest = [](verify::EngineBatches batches, std::size_t index, std::size_t count) {
    std::vector<std::pair<std::size_t, std::size_t>> out;
    for (const auto& range : verify::rows_left_out(batches, index, count)) out.emplace_back(range.from, range.to);
    return out;
  };
  using Ranges = std::vector<std::pair<std::size_t, std::size_t>>;
  EXPECT_EQ(rest({512, 2048, 512}, 3, 8), Ranges{}) << "4 abreast, 128 of each at a time";
  EXPECT_EQ(rest({512, 2048, 512}, 7, 7 + 1), Ranges{});
  EXPECT_EQ(rest({512, 2048, 512}, 5, 7), (Ranges{{510, 512}})) << "3 abreast: 170 of each, 2 of each left: 6 tokens";
  EXPECT_EQ(rest({512, 2048, 512}, 3, 7), Ranges{}) << "the four before them are whole";
  EXPECT_EQ(rest({8, 8, 512}, 0, 1), (Ranges{{0, 8}})) << "never 16 tokens";
  EXPECT_EQ(rest({130, 64, 32}, 0, 5), (Ranges{{128, 130}})) << "64, 64 and 2 tokens";
  EXPECT_EQ(rest({528, 528, 512}, 0, 1), Ranges{}) << "16 are looked at";
  EXPECT_EQ(rest({527, 527, 512}, 0, 1), (Ranges{{512, 527}}));
}

TEST(Imatrix, SameBytesWhateverTheThreadsAndTheSteps) {
  const Scratch scratch;
  const std::string source = model("stories260K");
  const auto make = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> words = {"imatrix", source, "-c", "130", "-o", name};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words, {.folder = scratch.path()});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return sha256(slurp(scratch / name));
  };
  const std::string whole = make("a.gguf", {"-t", "1", "--chunks", "7"});
  EXPECT_EQ(make("b.gguf", {"-t", "3", "--chunks", "7", "--output-frequency", "2", "--no-ppl"}), whole);
  EXPECT_EQ(make("c.gguf", {"-t", "2", "--chunks", "7", "--save-frequency", "3"}), whole);
  EXPECT_EQ(scratch.names(), (std::vector<std::string>{"a.gguf", "b.gguf", "c.gguf", "c.gguf.at_3", "c.gguf.at_6"}));
  EXPECT_NE(make("e.gguf", {"--chunks", "7", "-f", fixture("goldens/perplexity/doc-1.txt")}), whole);
}

TEST(Imatrix, GoesOnAfterAKill) {
  const Scratch scratch;
  const std::vector<std::string> first = {"imatrix", model("stories260K"), "-c", "256", "--no-sync", "-o"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), first.begin(), first.end());
    return more;
  };
  const std::vector<std::string> words =
      with({"killed.gguf", "--chunks", "40", "--output-frequency", "1", "--save-frequency", "1"});
  kill_once_there(words, scratch, "killed.gguf.unfinished");
  EXPECT_FALSE(fs::exists(scratch / "killed.gguf"));
  const auto done = formats::read_gguf(scratch / "killed.gguf.unfinished").integer("ropewalk.imatrix.chunks");
  ASSERT_TRUE(done && *done > 0 && *done < 40);
  const std::string part = "killed.gguf.at_" + std::to_string(*done);
  fs::remove(scratch / part);  // as if killed before it

  std::vector<std::string> other = words;
  other[3] = "255";
  const Ran refused = run(other, {.folder = scratch.path()});
  EXPECT_EQ(refused.exit, 5) << refused.err;
  EXPECT_NE(refused.err.find("is of another run"), std::string::npos) << refused.err;

  other = words;
  other.push_back("--json");
  const Ran ran = run(other, {.folder = scratch.path()});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["resumed"], *done);
  EXPECT_NE(ran.err.find("goes on from killed.gguf.unfinished"), std::string::npos) << ran.err;
  EXPECT_EQ(scratch.names().size(), 41u) << "the matrix and one after each chunk";
  EXPECT_EQ(slurp(scratch / "killed.gguf.at_40"), slurp(scratch / "killed.gguf"));
  ASSERT_EQ(run(with({"whole.gguf", "--chunks", "40"}), {.folder = scratch.path()}).exit, 0);
  EXPECT_EQ(slurp(scratch / "killed.gguf"), slurp(scratch / "whole.gguf"));
  ASSERT_EQ(run(with({"part.gguf", "--chunks", std::to_string(*done)}), {.folder = scratch.path()}).exit, 0);
  EXPECT_EQ(slurp(scratch / part), slurp(scratch / "part.gguf"));
}

// Weights, configurations and adapters may change under the same SOURCE: what is left of a run of theirs is not for it.
TEST(Imatrix, AnotherModelOfThatNameIsAnotherRun) {
  const Scratch scratch;
  const auto link = [&](const std::string& from, const std::string& to, const char* copied) {
    fs::create_directory(scratch / to);
    for (const auto& file : fs::directory_iterator(from))
      if (file.path().filename() == copied) fs::copy_file(file.path(), scratch / to / copied);
      else fs::create_symlink(file.path(), scratch / to / file.path().filename());
  };
  link(model("tolstoy-4m"), "base", "config.json");
  link(adapter(), "adapter", "adapter_model.safetensors");
  const fs::path config = scratch / "base" / "config.json", factors = scratch / "adapter" / "adapter_model.safetensors";
  const std::vector<std::string> words = {
      "imatrix",   "base+adapter", "-f",       fixture("goldens/perplexity/doc-1.txt"),
      "-c",        "64",           "--chunks", "60",
      "--no-sync", "-o",           "x.gguf",   "--output-frequency",
      "1",         "--no-ppl"};
  std::vector<std::string> dry = words;
  dry.push_back("--dry-run");
  kill_once_there(words, scratch, "x.gguf.unfinished");
  const auto goes_on = [&] {
    const Ran ran = run(dry, {.folder = scratch.path()});
    EXPECT_EQ(ran.exit == 0, ran.err.find("goes on from") != std::string::npos) << ran.err;
    EXPECT_EQ(ran.exit == 5, ran.err.find("is of another run") != std::string::npos) << ran.err;
    return ran.exit == 0;
  };
  EXPECT_TRUE(goes_on());
  const auto time = fs::last_write_time(factors);
  fs::last_write_time(factors, time + std::chrono::seconds(1));
  EXPECT_FALSE(goes_on()) << "trained again in place";
  fs::last_write_time(factors, time);
  EXPECT_TRUE(goes_on());
  Json changed = Json::parse(slurp(config));
  changed["rms_norm_eps"] = 1e-3;
  spill(config, changed.dump());
  EXPECT_FALSE(goes_on()) << "nothing of the rope or the weights says so";
}

TEST(Imatrix, PartsInTheWayAreSeenBeforeTheWork) {
  const Scratch scratch;
  spill(scratch / "x.gguf.at_6", "of another run");
  std::vector<std::string> words = {"imatrix", model("stories260K"), "-c", "130", "--chunks", "7", "-o",
                                    "x.gguf",  "--save-frequency",   "3"};
  const Ran ran = run(words, {.folder = scratch.path()});
  EXPECT_EQ(ran.exit, 5) << ran.err;
  EXPECT_NE(ran.err.find("x.gguf.at_6"), std::string::npos) << ran.err;
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"x.gguf.at_6"});
  words.push_back("--overwrite");
  EXPECT_EQ(run(words, {.folder = scratch.path()}).exit, 0);
  EXPECT_EQ(scratch.names(), (std::vector<std::string>{"x.gguf", "x.gguf.at_3", "x.gguf.at_6"}));
}

// The bound: quantizing with our matrix is worth what quantizing with the real tool's is.
TEST(Imatrix, EitherMatrixGivesTheSameKl) {
  const Scratch scratch;
  put_inputs(scratch);
  const std::string source = model("tolstoy-4m-yarn-2k");
  ASSERT_EQ(
      run({"imatrix", source, "-f", "doc-1.txt", "-c", "512", "--chunks", "3", "--process-output", "-o", "ours.gguf"},
          {.folder = scratch.path()})
          .exit,
      0);
  const auto kl = [&](const std::string& name, const std::string& matrix) {
    std::vector<std::string> words = {"convert", source, "-o", name, "--type", "q4_k_m", "--no-sync"};
    if (!matrix.empty()) words.insert(words.end(), {"--imatrix", matrix});
    const Ran made = run(words, {.folder = scratch.path()});
    EXPECT_EQ(made.exit, 0) << made.err;
    Ran ran = run({"verify", name, "--against", source, "-f", "doc-3.txt", "-c", "512", "--keep-going", "--json"},
                  {.folder = scratch.path()});
    return ran.json()["logits"]["kl_mean"].get<double>();
  };
  const double ours = kl("ours-q4.gguf", "ours.gguf"), theirs = kl("theirs-q4.gguf", (kGolden / "yarn.gguf").string()),
               without = kl("none-q4.gguf", "");
  EXPECT_LE(std::abs(ours / theirs - 1), 0.02) << ours << " " << theirs;
  EXPECT_GT(std::abs(without / theirs - 1), 0.02) << "control: a matrix makes a difference: " << without;
}

TEST(Imatrix, WhatItCovers) {
  const Scratch scratch;
  const std::string f16 = (scratch / "m.gguf").string(), out = (scratch / "o.gguf").string(),
                    matrix = (kGolden / "yarn.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", f16, "--type", "f16", "--no-sync"}).exit, 0);
  const Ran ran = run({"quantize", "--dry-run", "--imatrix", matrix, "--imatrix-strict", f16, out, "Q4_K_M", "--json"});
  ASSERT_EQ(ran.exit, 0) << "the embedding has none, as llama-imatrix leaves it out: " << ran.err;
  const Json& found = ran.json()["importances"];
  EXPECT_EQ(found["tensors"], 30);
  EXPECT_EQ(found["covered"], 29);
  EXPECT_EQ(found["unweighted"], Json::array({"token_embd.weight"}));
  EXPECT_EQ(found["experts_never_hit"], Json::array());
  std::vector<std::string> words = {"quantize", "--dry-run", "--imatrix", matrix,  "--exclude-weights",
                                    "attn_q",   f16,         out,         "Q4_K_M"};
  const Ran less = run(words);
  EXPECT_EQ(less.exit, 0) << less.err;
  EXPECT_NE(less.out.find("importances cover 25 of 30 tensors; unweighted: "), std::string::npos) << less.out;
  words.insert(words.begin() + 1, "--imatrix-strict");
  const Ran strict = run(words);
  EXPECT_EQ(strict.exit, 3) << strict.err;
  EXPECT_NE(strict.err.find("has nothing for tensor 'blk.0.attn_q.weight'"), std::string::npos) << strict.err;
}

TEST(Imatrix, Refusals) {
  const Scratch scratch;
  put_inputs(scratch);
  const std::string source = model("stories260K");
  const auto refused = [&](std::vector<std::string> words, int exit, const std::string& said) {
    words.insert(words.begin(), "imatrix");
    const Ran ran = run(words, {.folder = scratch.path()});
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_NE(ran.err.find(said), std::string::npos) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
  };
  refused({"-f", "doc-1.txt"}, 2, "no SOURCE and no --in-file");
  refused({source, "-m", source}, 2, "two models");
  refused({source, "--output-format", "csv"}, 2, "--output-format is 'csv'");
  refused({source, "--chunks", "0"}, 2, "--chunks is 0");
  refused({source, "-f", "doc-1.txt", "-o", "chunks.gguf"}, 5, "exists already");
  refused({source, "-f", "doc-1.txt", "-c", "4096", "--quiet"}, 3, "a context of 4096 needs");
  refused({source, "-f", "doc-1.txt", "-c", "100", "--chunk", "1000"}, 3, "--chunk leaves out 1000");
  refused({source, "-f", "doc-1.txt", "-c", "8", "-b", "8", "--chunks", "1", "--quiet"}, 3, "16 tokens");
  refused({model("tolstoy-4m"), "-f", "doc-1.txt", "-c", "100", "--in-file", "chunks.gguf", "--quiet"}, 3,
          "columns, what is added to");
  {  // one matrix told apart by experts, which this model has but once
    formats::ImatrixCollection experts;
    experts.entries["blk.0.attn_q.weight"] = {std::vector<float>(2 * 64, 1.0f), {3, 4}};
    formats::write_imatrix(scratch / "experts.gguf", experts, 1, formats::ImatrixFormat::gguf, {});
  }
  refused({source, "-f", "doc-1.txt", "-c", "100", "--in-file", "experts.gguf", "--quiet"}, 3,
          "'blk.0.attn_q.weight' has 2 counts, what is added to it 1");
  EXPECT_FALSE(fs::exists(scratch / "imatrix.gguf"));
  const Ran dry = run({"imatrix", source, "-c", "128", "--dry-run"}, {.folder = scratch.path()});
  EXPECT_EQ(dry.exit, 0) << dry.err;
  EXPECT_FALSE(fs::exists(scratch / "imatrix.gguf"));
}

}  // namespace
}  // namespace ropewalk::tools::test
