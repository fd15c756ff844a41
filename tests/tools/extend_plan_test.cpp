// extend --plan.
#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>

#include "formats/gguf.h"
#include "formats/gguf_write.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

// A plan needs no weights, and says where the context that it counts from stands.
TEST(ExtendPlan, PlanNeedsNoWeights) {
  Scratch scratch;
  const fs::path folder = scratch / "bare";
  fs::create_directories(folder);
  Json config = Json::parse(slurp(model("tolstoy-4m") + "/config.json"));
  const auto plan = [&](std::vector<std::string> more) {
    spill(folder / "config.json", config.dump(2));
    std::vector<std::string> words = {"extend", folder.string(), "--plan", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json();
  };
  EXPECT_EQ(plan({"-c", "2k"})["original"], (Json{{"tokens", 256}, {"from", "max_position_embeddings"}}));
  EXPECT_EQ(run({"extend", (folder / "config.json").string(), "--plan", "-c", "2k"}).exit, 0) << "the file alone";
  // Mistral 7B v0.1 says 32768 and was trained at 8192: two more than a window of 4096
  config.update({{"model_type", "mistral"},
                 {"max_position_embeddings", 32768},
                 {"sliding_window", 4096},
                 {"rope_theta", 10000.0},
                 {"vocab_size", 32000}});
  Json mistral = plan({"-c", "64k"});
  EXPECT_EQ(mistral["original"]["tokens"], 8192);
  EXPECT_NE(mistral["original"]["from"].get<std::string>().find("Mistral 7B v0.1 was trained at"), std::string::npos);
  for (const Json& row : mistral["plan"])
    if (row["method"] == "YaRN") {
      EXPECT_EQ(row["factor"], 8.0);
      EXPECT_EQ(row["spec"], "yarn,to=65536,original=8192") << "what is planned can be written";
    }
  EXPECT_EQ(plan({"-c", "64k", "--original", "16k"})["original"], (Json{{"tokens", 16384}, {"from", "--original"}}));
  EXPECT_EQ(plan({"-c", "16k"})["original"]["tokens"], 8192) << "it says 32768, and was not trained at them";
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8192}};
  EXPECT_EQ(plan({"-c", "64k"})["original"], (Json{{"tokens", 8192}, {"from", "original_max_position_embeddings"}}));
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(plan({"-c", "64k"})["original"], (Json{{"tokens", 8192}, {"from", "max_position_embeddings / factor"}}));
  EXPECT_EQ(run({"extend", folder.string(), "--plan", "-c", "64k", "--original", "128k"}).exit, 2);
  EXPECT_EQ(
      run({"extend", model("tolstoy-4m"), "-o", (scratch / "no").string(), "--rope", "yarn,to=2k", "--original", "128"})
          .exit,
      2)
      << "the SPEC says it";
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "-o", (scratch / "no").string(), "--like", "yarn-llama", "-c", "2k",
                 "--original", "128", "--dry-run", "--json"})
                .json()["rope"]["factor"],
            16);
}

// Of a GGUF the keys are enough: the first bytes of one that is being fetched, or a vocabulary alone.
TEST(ExtendPlan, PlanOfAGgufsFirstBytes) {
  Scratch scratch;
  const std::string whole = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", whole, "--type", "f16", "--no-sync"}).exit, 0);
  const auto plan = [&](const std::string& path) {
    const Ran ran = run({"extend", path, "--plan", "-c", "2k", "--json"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    Json out = ran.json();
    out.erase("source");
    out["rope"].erase("provenance");  // the file's name
    out["recommended"].erase("command");
    return out;
  };
  const std::string bytes = slurp(whole);
  spill(scratch / "cut.gguf", bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(plan((scratch / "cut.gguf").string()), plan(whole));
  const Ran words = run({"extend", whole, "--plan", "-c", "2k"});
  EXPECT_NE(words.out.find("ropewalk extend " + whole + " -o OUT.gguf --rope "), std::string::npos) << words.out;
  const Ran written =
      run({"extend", (scratch / "cut.gguf").string(), "-o", (scratch / "no.gguf").string(), "--rope", "yarn,to=2k"});
  EXPECT_EQ(written.exit, 3);
  EXPECT_NE(written.err.find("the file is cut short"), std::string::npos) << written.err;
  spill(scratch / "head.gguf", bytes.substr(0, 100));
  EXPECT_EQ(run({"extend", (scratch / "head.gguf").string(), "--plan", "-c", "2k"}).exit, 3) << "not even the keys";
}

// Divisors of the frequencies are a tensor: a plan without them would be of another rope.
TEST(ExtendPlan, PlanOfAGgufWhoseDivisorsAreCutOffIsRefused) {
  Scratch scratch;
  const std::string whole = (scratch / "m.gguf").string();
  ASSERT_EQ(
      run({"convert", model("tolstoy-4m") + "+rope=llama3,factor=8", "-o", whole, "--type", "f16", "--no-sync"}).exit,
      0);
  const auto plan = [](const std::string& path) { return run({"extend", path, "--plan", "-c", "8k", "--json"}); };
  const auto content = [&](const std::string& path) {
    Json out = plan(path).json();
    out.erase("source");
    out["rope"].erase("provenance");
    out["recommended"].erase("command");
    return out;
  };
  const Json wanted = content(whole);
  EXPECT_EQ(wanted["rope"]["text"], "plain (theta 10000, 16 frequency divisors)");
  std::uint64_t begin = 0, bytes_after = 0;  // of rope_freqs.weight; the data ends with the file
  const std::string bytes = slurp(whole);
  const formats::GgufFile file = formats::read_gguf(whole);
  for (auto one = file.tensors.rbegin(); one != file.tensors.rend(); ++one) {
    const TensorInfo& info = (*one)->info();
    bytes_after += (byte_size(info.dtype, info.elements()).value() + 31) / 32 * 32;
    if (info.name == "rope_freqs.weight") begin = bytes.size() - bytes_after;
  }
  ASSERT_GT(begin, 0u);
  const std::string cut = (scratch / "cut.gguf").string();
  for (const std::uint64_t size : {begin, begin + 63}) {  // 16 floats
    spill(cut, bytes.substr(0, size));
    const Ran refused = plan(cut);
    EXPECT_EQ(refused.exit, 3);
    EXPECT_NE(
        refused.err.find("cut.gguf: the data of 'rope_freqs.weight', which the rope needs, is cut off; fetch more "
                         "of the file"),
        std::string::npos)
        << refused.err;
  }
  spill(cut, bytes.substr(0, begin + 64));
  EXPECT_EQ(content(cut), wanted);
  // what is told of the whole file is told here
  spill(cut, bytes + "more");
  const Ran longer = plan(cut);
  EXPECT_EQ(longer.exit, 0);
  EXPECT_NE(longer.err.find("4 bytes after the last tensor are ignored"), std::string::npos) << longer.err;
  EXPECT_NE(longer.json()["warnings"].dump().find("4 bytes after the last tensor"), std::string::npos);
}

// Keys stand in the first shard, the divisors may in any.
TEST(ExtendPlan, PlanOfAShardLooksIntoTheOthers) {
  Scratch scratch;
  const auto plan = [&](const char* name) {
    return run({"extend", (scratch / name).string(), "--plan", "-c", "8k", "--json"});
  };
  ASSERT_EQ(run({"convert", model("tolstoy-4m") + "+rope=llama3,factor=8", "-o", (scratch / "m.gguf").string(),
                 "--type", "f16", "--no-sync", "--split-max-tensors", "20", "--no-tensor-first-split"})
                .exit,
            0);
  const fs::path divisors = scratch / "m-00002-of-00003.gguf", last = scratch / "m-00003-of-00003.gguf";
  ASSERT_TRUE(fs::exists(last));
  const std::string bytes = slurp(divisors);
  spill(divisors, bytes.substr(0, bytes.size() / 2));
  fs::remove(last);
  for (const char* name : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf"}) {
    const Ran ran = plan(name);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["rope"]["text"], "plain (theta 10000, 16 frequency divisors)") << name;
  }
  fs::remove(divisors);
  const Ran refused = plan("m-00001-of-00003.gguf");
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("may stand in 'm-00002-of-00003.gguf', which is missing"), std::string::npos)
      << refused.err;
}

TEST(ExtendPlan, PlanComparesMethodsAndWritesNothing) {
  Scratch scratch;
  const Ran ran = run({"extend", model("tolstoy-4m"), "--plan", "-c", "2k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  std::map<std::string, Json> plan;
  for (const Json& row : ran.json()["plan"]) plan[row["method"]] = row;
  ASSERT_EQ(plan.size(), 6u);
  EXPECT_NEAR(plan["as it is"]["unseen_angle_ratio"].get<double>(), 8, 1e-9);
  EXPECT_NEAR(plan["YaRN"]["unseen_angle_ratio"].get<double>(), 1, 1e-9);
  EXPECT_NEAR(plan["linear (PI)"]["high_frequency_damage"].get<double>(), 0.875, 1e-12);
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "--plan"}).exit, 2);
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "--plan", "-c", "128"}).exit, 2) << "it serves 256 already";
  // 4 layers x 4 heads of 32 channels, keys and values, 2048 tokens, 2 bytes; q8_0: 34 bytes for 32 values
  EXPECT_EQ(ran.json()["kv_cache"]["f16"], 4 * 4 * 32 * 2 * 2048 * 2);
  EXPECT_EQ(ran.json()["kv_cache"]["q8_0"], 4 * 4 * 2 * 2048 * 34);
  const auto right = [&](const char* method) {
    std::string names;
    for (const Json& engine : plan[method]["engines"])
      if (engine["right"] == true) names += engine["engine"].get<std::string>() + " ";
    return names;
  };
  EXPECT_EQ(right("YaRN"), "transformers vllm sglang llama.cpp exllamav3 ");
  EXPECT_EQ(right("dynamic NTK"), "transformers ");
  const Json& best = ran.json()["recommended"];
  EXPECT_EQ(best["method"], "YaRN");
  EXPECT_EQ(best["spec"], plan["YaRN"]["spec"]);
  EXPECT_EQ(best["command"], "ropewalk extend " + model("tolstoy-4m") + " -o OUT --rope yarn,to=2048");
  EXPECT_EQ(best["not_read_by"], Json::array({"exllamav2 0.3.2"}));
  // the method it ends with is one that the engines read, and the command names those that were asked for
  const auto advice = [](std::vector<std::string> more) {
    std::vector<std::string> words = {"extend", model("tolstoy-4m"), "--plan"};
    words.insert(words.end(), more.begin(), more.end());
    const std::string out = run(words).out;
    const std::size_t at = out.find("to write one: ");
    return at == std::string::npos ? out : out.substr(at + 14);
  };
  const std::string command = "ropewalk extend " + model("tolstoy-4m") + " -o OUT --rope ";
  EXPECT_EQ(advice({"-c", "2k"}), command + "yarn,to=2048\nexllamav2 0.3.2 does not run it: see its row\n");
  EXPECT_EQ(advice({"-c", "2k", "--engine", "vllm@0.24", "--engine", "llama.cpp"}),
            command + "yarn,to=2048 --engine vllm@0.24 --engine llama.cpp\n");
  const std::string both = advice({"-c", "2k", "--engine", "exllamav2", "--engine", "vllm@0.10"});
  EXPECT_TRUE(both.ends_with(" --engine exllamav2 --engine vllm@0.10\n")) << both;
  EXPECT_EQ(both.find("yarn"), std::string::npos) << both;
  EXPECT_NE(advice({"-c", "256"}).find("\nas it is: the model serves 256 tokens without a change"), std::string::npos);
  // Phi-3.5 mini: YaRN is read by one engine, linear by all
  const std::string phi = (scratch / "phi.json").string();
  const Json phi_config = {{"model_type", "phi3"},
                           {"hidden_size", 3072},
                           {"num_attention_heads", 32},
                           {"num_hidden_layers", 32},
                           {"max_position_embeddings", 4096},
                           {"original_max_position_embeddings", 4096},
                           {"rope_theta", 10000.0}};
  std::ofstream(phi) << phi_config.dump();
  const std::string linear = run({"extend", phi, "--plan", "-c", "64k"}).out;
  EXPECT_NE(linear.find(" --rope linear,to=65536\n"), std::string::npos) << linear;
  // every row's SPEC can be written, over a model that is scaled already too
  for (const std::string& base : {model("tolstoy-4m"), model("tolstoy-4m-yarn-2k")}) {
    const Json rows = run({"extend", base, "--plan", "-c", "4k", "--json"}).json()["plan"];
    EXPECT_EQ(rows[0]["method"], "as it is");
    EXPECT_NEAR(rows[0]["unseen_angle_ratio"].get<double>(), base == model("tolstoy-4m") ? 16 : 2, 0.01);
    for (std::size_t row = 1; row < rows.size(); ++row)
      EXPECT_EQ(run({"extend", base, "-o", "never", "--dry-run", "--rope", rows[row]["spec"].get<std::string>()}).exit,
                0)
          << rows[row]["spec"];
  }
}

/// The command at the end of a plan is one that extend takes.
TEST(ExtendPlan, TheCommandItEndsWithIsNotRefused) {
  Scratch scratch;
  const auto followed = [&](const std::string& source, const std::string& model) {
    std::string command = run({"extend", source, "--plan", "-c", "64k", "--json"}).json()["recommended"]["command"];
    EXPECT_TRUE(command.starts_with("ropewalk extend ")) << command;
    if (const std::size_t at = command.find(" MODEL "); at != std::string::npos)
      command.replace(at, 7, " " + model + " ");
    std::istringstream in(command.substr(9) + " --dry-run");
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << command << ran.err;
    return command;
  };
  // a bare config.json has no weights
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  spill(scratch / "bare.json", slurp(folder / "config.json"));
  const std::string bare = (scratch / "bare.json").string();
  EXPECT_NE(followed(bare, folder.string()).find("extend " + folder.string()), std::string::npos);
  EXPECT_NE(
      run({"extend", bare, "--plan", "-c", "64k"}).out.find("\nMODEL: the folder of " + bare + " and its weights"),
      std::string::npos);
  EXPECT_EQ(followed(folder.string(), "").find("--sliding-window"), std::string::npos);
  // a window that hides the target is one of extend's questions
  Json config = Json::parse(slurp(folder / "config.json"));
  config.update({{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}, {"sliding_window", 256}});
  spill(folder / "config.json", config.dump(1));
  EXPECT_NE(followed(folder.string(), "").find(" --sliding-window none"), std::string::npos);
}

}  // namespace
}  // namespace ropewalk::tools::test
