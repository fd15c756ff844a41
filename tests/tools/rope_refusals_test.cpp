// Files of which `rope` cannot say what is meant, and what it says instead.
#include <cmath>
#include <cstring>

#include "tests/tools/rope_files.h"

namespace ropewalk::tools::test {
namespace {

TEST(RopeRefusals, ANameWithANul) {
  Scratch scratch;
  const std::string path = (scratch / "config.json").string();
  std::ofstream(path) << R"({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
    "max_position_embeddings": 512, "rope_scaling": {"rope_type": "ya\u0000rn", "factor": 2.0}})";
  const Ran ran = run({"rope", path});
  EXPECT_NE(ran.exit, 0);
  EXPECT_NE(ran.err.find("'ya\\x00rn'"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("known are default, linear"), std::string::npos) << ran.err;
}

TEST(RopeRefusals, FilesThatNobodyCanRead) {
  Scratch scratch;
  const std::string bad = config_in(scratch / "bad", {{"rope_scaling", {{"type", "yarn"}, {"factor", "16"}}}});
  const Ran alone = run({"rope", bad});
  EXPECT_EQ(alone.exit, 3);
  EXPECT_NE(alone.err.find("config.json:10:15"), std::string::npos) << alone.err;
  EXPECT_EQ(run({"rope", bad, "--flags"}).exit, 3);
  const Ran asked = run({"rope", bad, "--engine", "vllm", "--engine", "transformers@4.37", "--json"});
  ASSERT_EQ(asked.exit, 0) << asked.err;
  EXPECT_TRUE(asked.json()["meant"].is_null());
  EXPECT_TRUE(target(asked, "vllm 0.33.0")["error"].is_object());
  for (const char* text : {"3", "[]", "null", "\"x\"", "{}", "{\"rope_scaling\": [1]}"}) {
    std::ofstream(scratch / "hostile.json") << text;
    EXPECT_EQ(run({"rope", (scratch / "hostile.json").string()}).exit, 3) << text;
    const bool model = std::string(text).find("rope_scaling") != std::string::npos;  // others are no config.json at all
    EXPECT_EQ(run({"rope", (scratch / "hostile.json").string(), "--engine", "all"}).exit, model ? 0 : 3) << text;
  }
}

/// Where there is no rule it is ropewalk that does not know, not the engine that fails.
TEST(RopeRefusals, NotFollowedIsNoError) {
  Scratch scratch;
  const std::string gemma = config_in(
      scratch / "gemma", {{"model_type", "gemma3_text"},
                          {"head_dim", 256},
                          {"layer_types", {"sliding_attention", "full_attention"}},
                          {"num_hidden_layers", 2},
                          {"rope_parameters",
                           {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                            {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}}}});
  const Ran table = run({"rope", gemma, "--engine", "all"});
  ASSERT_EQ(table.exit, 0) << table.err;
  EXPECT_NE(table.out.find("| exllamav2 0.3.2     | -       | not known |"), std::string::npos) << table.out;
  EXPECT_EQ(table.out.find(" error "), std::string::npos) << table.out;
  const Ran flags = run({"rope", gemma, "--flags", "--engine", "exllamav2"});
  EXPECT_EQ(flags.out.find("exllamav2 0.3.2:\n  not known: the two rotary tables of gemma3 in exllamav2\n"), 0u)
      << flags.out;
  for (const char* type : {"bert", "nemotron_h"}) {
    const Ran none = run({"rope", config_in(scratch / type, {{"model_type", type}})});
    EXPECT_EQ(none.exit, 3);
    EXPECT_NE(none.err.find(std::string("not followed: model type '") + type + "' has no rotary embedding"),
              std::string::npos)
        << none.err;
  }
  // keys that turn some layers otherwise
  for (const char* key : {"compress_rope_theta", "swa_rope_theta", "global_head_dim"}) {
    const Ran none =
        run({"rope", config_in(scratch / key, {{"model_type", "frobnicator"}, {key, 512}, {"head_dim", 128}})});
    EXPECT_EQ(none.exit, 3);
    EXPECT_NE(none.err.find(std::string(key) + " changes it"), std::string::npos) << none.err;
  }
  EXPECT_EQ(run({"rope", config_in(scratch / "step", {{"model_type", "step3p7"}})}).exit, 3);
  // Olmo 3.1 32B: Olmo3RotaryEmbedding of transformers 5.23.0 was run; others are not followed
  const std::string olmo = config_in(scratch / "olmo", {{"model_type", "olmo3"},
                                                        {"hidden_size", 5120},
                                                        {"num_attention_heads", 40},
                                                        {"max_position_embeddings", 65536},
                                                        {"rope_theta", 500000},
                                                        {"layer_types", {"sliding_attention", "full_attention"}},
                                                        {"rope_scaling",
                                                         {{"rope_type", "yarn"},
                                                          {"factor", 8.0},
                                                          {"attention_factor", 1.2079441541679836},
                                                          {"original_max_position_embeddings", 8192}}}});
  const Ran kinds = run({"rope", olmo, "--engine", "transformers", "--engine", "vllm", "--json"});
  ASSERT_EQ(kinds.exit, 0) << kinds.err;
  const Json& layers = target(kinds, "transformers 5.23.0")["layers"];
  EXPECT_FLOAT_EQ(layers["full_attention"]["inv_freq"][63].get<float>(), 3.068925877869333e-07f);
  EXPECT_FLOAT_EQ(layers["full_attention"]["attention_factor"].get<float>(), 1.2079441f);
  EXPECT_FLOAT_EQ(layers["sliding_attention"]["inv_freq"][63].get<float>(), 2.4551407022954663e-06f);
  EXPECT_EQ(layers["sliding_attention"]["attention_factor"], 1.0);
  EXPECT_EQ(target(kinds, "vllm 0.33.0")["error"]["pointer"], "/rope_scaling") << kinds.out;
  // classes whose own names are followed are not said to be read by Llama's rules
  const Ran neox = run({"rope", config_in(scratch / "neox", {{"model_type", "gpt_neox"}, {"rotary_pct", 0.25}})});
  EXPECT_EQ(neox.exit, 0) << neox.err;
  EXPECT_EQ(neox.err, "");
  const Ran other = run({"rope", config_in(scratch / "frob", {{"model_type", "frobnicator"}}), "--flags"});
  EXPECT_NE(other.out.find("transformers 5.23.0 has no such class"), std::string::npos) << other.out;
}

/// What lint calls an error is warned of beside the numbers; frequencies of 0 or infinity are refused.
TEST(RopeRefusals, NumbersAreNotShownInSilence) {
  Scratch scratch;
  const auto said = [&](const Json& more) { return run({"rope", config_in(scratch / "it", more)}); };
  const auto linear = [](double factor) { return Json{{"rope_type", "linear"}, {"factor", factor}}; };
  struct Case {
    Json more;
    const char* words;
  };
  const Case warned[] = {
      {{{"rope_theta", 1.0}}, "config.json:7:17 /rope_theta: rope_theta is 1, a base such as"},
      {{{"rope_theta", 1e38}}, "config.json:7:17 /rope_theta: rope_theta is 1e+38, a base such as"},
      {{{"head_dim", 0}}, "head_dim is 0, a whole number from 1 to 65536 was expected"},
      {{{"partial_rotary_factor", 2.0}}, "partial_rotary_factor is 2.0, a share in (0, 1] was expected"},
      {{{"max_position_embeddings", 0}}, "max_position_embeddings is 0, a number of tokens was expected"},
      {{{"model_type", "qwen2"}, {"rope_scaling", linear(2)}, {"rope_parameters", linear(4)}},
       "rope_scaling and rope_parameters differ"},
      {{{"model_type", "qwen3"}, {"rope_parameters", {{"full_attentionX", linear(2)}}}}, "is it 'full_attention'?"}};
  for (const Case& one : warned) {
    const Ran ran = said(one.more);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    EXPECT_NE(ran.err.find(one.words), std::string::npos) << one.more << ran.err;
    EXPECT_EQ(ran.err.find("warning: "), 0u) << ran.err;
  }
  const Case refused[] = {
      {{{"rope_theta", 1e308}}, "config.json:7:17: a base of 1e+308 makes frequencies that are 0 in float32"},
      {{{"model_type", "qwen2"}, {"rope_theta", 1e308}}, "a base of 1e+308 makes frequencies that are 0 in float32"},
      {{{"rope_scaling", linear(1e-308)}}, "a factor of 1e-308 makes frequencies that are infinite in float32"},
      {{{"rope_scaling", linear(2)}, {"partial_rotary_factor", 2.0}}, "partial_rotary_factor is 2, a share of a head"}};
  for (const Case& one : refused) {
    const Ran ran = said(one.more);
    EXPECT_EQ(ran.exit, 3) << ran.out;
    EXPECT_NE(ran.err.find(one.words), std::string::npos) << ran.err;
  }
  EXPECT_EQ(said({}).err, "");
  // neither extend nor convert writes them
  const fs::path folder = copy_of(model("stories260K"), scratch / "folder");
  Json config = Json::parse(slurp(folder / "config.json"));
  config["rope_theta"] = 1e308;
  spill(folder / "config.json", config.dump());
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"extend", folder.string(), "-o", (scratch / "a").string(), "--rope", "yarn,factor=4"},
        std::vector<std::string>{"convert", folder.string(), "-o", (scratch / "a.gguf").string()}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 3) << ran.out;
    EXPECT_NE(ran.err.find("makes frequencies that are 0 in float32"), std::string::npos) << ran.err;
  }
}

/// A factor in a GGUF's keys: no context has been extended by 3e38.
TEST(RopeRefusals, AFactorOfAGguf) {
  Scratch scratch;
  const std::string gguf = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("stories260K") + "+rope=linear,factor=4", "-o", gguf, "--type", "f16"}).exit, 0);
  std::string bytes = slurp(gguf);
  const std::string key = "llama.rope.scaling.factor";
  const std::size_t at = bytes.find(key) + key.size() + 4;  // the type, u32
  const float old = 4, huge = 3e38f;
  ASSERT_EQ(std::memcmp(bytes.data() + at, &old, 4), 0);
  std::memcpy(bytes.data() + at, &huge, 4);
  spill(gguf, bytes);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"rope", gguf},
                                                {"extend", gguf, "-o", gguf + ".gguf", "--rope", "yarn,factor=4"},
                                                {"convert", gguf, "-o", gguf + ".gguf", "--type", "q8_0"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 3) << ran.out;
    EXPECT_NE(ran.err.find(key + ": the rope factor is 3.00000001e+38, which no context has been extended by"),
              std::string::npos)
        << ran.err;
  }
  const Ran lint = run({"lint", gguf});
  EXPECT_EQ(lint.exit, 1);
  EXPECT_NE(lint.out.find("G09"), std::string::npos) << lint.out;
}

/// Python's json writes NaN and Infinity, and transformers reads them: nvidia's Nemotron has a time_step_limit up to
/// Infinity.
TEST(RopeRefusals, PythonsNumbers) {
  Scratch scratch;
  const auto with = [&](const std::string& more) {
    fs::create_directories(scratch / "python");
    spill(scratch / "python/config.json",
          R"({"model_type": "qwen2", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 2,
 "max_position_embeddings": 4096, )" +
              more + "}");
    return (scratch / "python").string();
  };
  const std::string limit = R"("time_step_limit": [0.0, Infinity])";
  const Ran rope = run({"rope", with(limit), "--json"});
  EXPECT_EQ(rope.exit, 0) << rope.err;
  EXPECT_NE(rope.err.find("the file holds NaN or Infinity"), std::string::npos) << rope.err;
  EXPECT_EQ(rope.json()["context"], 4096);
  EXPECT_EQ(run({"extend", with(limit), "--plan", "-c", "8k"}).exit, 0);
  const std::string factor = R"("rope_scaling": {"rope_type": "yarn", "factor": NaN})";
  const Ran refused = run({"rope", with(factor)});
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("config.json:2:83: factor is NaN, a number was expected"), std::string::npos)
      << refused.err;
  const Ran plan = run({"extend", with(factor), "--plan", "-c", "8k"});
  EXPECT_EQ(plan.exit, 3);
  EXPECT_NE(plan.err.find("factor is NaN, a number was expected"), std::string::npos) << plan.err;
  // keys of one class each, which are no less of the rope
  for (const char* key : {"rotary_emb_base", "rotary_pct", "rope_ratio", "qk_rope_head_dim", "rotary_dim"}) {
    spill(scratch / "python/config.json",
          R"({"model_type": "gpt_neox", "hidden_size": 512, "num_attention_heads": 8,
              "max_position_embeddings": 2048, ")" +
              std::string(key) + R"(": Infinity})");
    const Ran own = run({"rope", (scratch / "python").string()});
    EXPECT_EQ(own.exit, 3) << key;
    EXPECT_NE(own.err.find(std::string(key) + " is Infinity, a number was expected"), std::string::npos) << own.err;
  }
  // what Python refuses
  for (const char* more : {R"("loss": 1NaN)", R"("loss": -NaN)", R"("loss": NaN5)", R"("loss": [1 NaN])",
                           R"("loss": 1-Infinity)", R"("loss": --Infinity)"}) {
    const Ran python = run({"rope", with(more)});
    EXPECT_EQ(python.exit, 3) << more;
    EXPECT_EQ(python.err.find("holds NaN or Infinity"), std::string::npos) << python.err;
  }
  EXPECT_EQ(run({"rope", with(R"("loss": [NaN,-Infinity , Infinity])")}).exit, 0);
}

/// A rope is shown, and that transformers 5.23.0 raises ValueError of the file is said beside it.
TEST(RopeRefusals, AFileThatItsReaderDoesNotLoad) {
  Scratch scratch;
  const auto told = [&](const Json& more) { return run({"rope", config_in(scratch / "kinds", more)}); };
  const Ran bad = told({{"num_hidden_layers", 2}, {"layer_types", {"full_attention", "no_such_attention"}}});
  EXPECT_EQ(bad.exit, 0);
  EXPECT_NE(bad.err.find("transformers 5.23.0 itself does not load this file: "), std::string::npos) << bad.err;
  const Ran good = told({{"num_hidden_layers", 2}, {"layer_types", {"full_attention", "full_attention"}}});
  EXPECT_EQ(good.err.find("does not load"), std::string::npos) << good.err;
}

/// Nobody can say what is meant: who reads it all the same is in the message. su is longrope's name of old.
TEST(RopeRefusals, TypesThatTransformersDoesNotKnow) {
  Scratch scratch;
  const auto told = [&](const Json& rope, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"rope", config_in(scratch / "type", {{"rope_scaling", rope}})};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const Ran ntk = told({{"type", "ntk"}, {"factor", 4.0}});
  EXPECT_EQ(ntk.exit, 4);
  EXPECT_NE(ntk.err.find("--engine all shows what others make of it: vllm 0.33.0 reads linear x"), std::string::npos)
      << ntk.err;
  EXPECT_NE(ntk.err.find("llama.cpp 0.5.0 and exllamav2 0.3.2 read plain"), std::string::npos) << ntk.err;
  const Ran cased = told({{"type", "YaRN"}, {"factor", 4.0}});
  EXPECT_NE(cased.err.find("did you mean 'yarn'?"), std::string::npos) << cased.err;
  const Ran turned = told({{"type", "x\u202ey\u2066"}, {"factor", 4.0}});
  EXPECT_EQ(turned.err.find("\u202e"), std::string::npos) << turned.err;
  EXPECT_EQ(turned.err.find("\u2066"), std::string::npos) << turned.err;
  const Json su = {{"type", "su"},
                   {"original_max_position_embeddings", 2048},
                   {"short_factor", std::vector<double>(64, 1.0)},
                   {"long_factor", std::vector<double>(64, 2.0)}};
  const Ran old = told(su, {"--json"});
  ASSERT_EQ(old.exit, 0) << old.err;
  EXPECT_NE(old.err.find("rope type su is longrope's name of old"), std::string::npos) << old.err;
  EXPECT_NE(old.err.find("itself does not load this file: KeyError: 'su'"), std::string::npos) << old.err;
  const Ran flags = told(su, {"--flags", "--engine", "transformers"});
  EXPECT_NE(flags.out.find("rope_parameters={\"rope_type\": \"longrope\""), std::string::npos) << flags.out;
  const Ran foreign =
      run({"rope", config_in(scratch / "code", {{"auto_map", {{"AutoModelForCausalLM", "modeling_foo.Foo"}}},
                                                {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}})});
  EXPECT_EQ(foreign.exit, 0);
  EXPECT_NE(foreign.err.find("auto_map names modeling_foo.Foo, which ropewalk does not know"), std::string::npos)
      << foreign.err;
  const Ran huge = told({{"type", "yarn"}, {"factor", 4.0}, {"attention_factor", 1e308}});
  EXPECT_EQ(huge.exit, 3);
  EXPECT_NE(huge.err.find("attention_factor is 1e+308, a number above 0 that float32 holds"), std::string::npos);
  // a new class is read by Llama's rules, but no flag makes transformers load it
  const Ran unknown = run(
      {"rope", config_in(scratch / "frob", {{"model_type", "frobnicator"}}), "--flags", "--engine", "transformers"});
  EXPECT_EQ(unknown.out.find("transformers 5.23.0:\n  none: transformers 5.23.0 has no such class"), 0u) << unknown.out;
}

/// MiniMax M2: 64 of 128 channels rotate in transformers 5.23.0, and rotary_dim alone says so.
TEST(RopeRefusals, RotaryDimOfAClassThatWasNotCompared) {
  Scratch scratch;
  const auto rope = [&](const Json& more) {
    Json config = {{"model_type", "minimax_m2"}, {"head_dim", 128}};
    config.update(more);
    return run({"rope", config_in(scratch / "minimax", config)});
  };
  const Ran refused = rope({{"rotary_dim", 64}});
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("rotary_dim changes it"), std::string::npos) << refused.err;
  EXPECT_EQ(rope({{"rotary_dim", 128}}).exit, 0);
  const Ran share = rope({{"rotary_dim", 64}, {"partial_rotary_factor", 0.5}});
  EXPECT_EQ(share.exit, 0) << share.err;
  EXPECT_NE(share.out.find("32 untouched (0-31)"), std::string::npos) << share.out;
}

/// A divisor that float32 does not hold makes 1 / inf = 0 in every engine.
TEST(RopeRefusals, DivisorsThatFloat32DoesNotHold) {
  Scratch scratch;
  Json lists = {{"rope_type", "longrope"}, {"original_max_position_embeddings", 4096}};
  for (const char* key : {"short_factor", "long_factor"}) lists[key] = Json::array();
  for (int pair = 0; pair < 64; ++pair) lists["short_factor"].push_back(1.0), lists["long_factor"].push_back(2.0);
  lists["long_factor"][5] = 1e308;
  for (const char* type : {"llama", "qwen2"}) {
    const Ran ran = run({"rope", config_in(scratch / type, {{"model_type", type}, {"rope_scaling", lists}})});
    EXPECT_EQ(ran.exit, 3) << ran.out;
    EXPECT_NE(ran.err.find("1e+308"), std::string::npos) << ran.err;
  }
}

// A width that no model has: refused before tables of it are made.
TEST(RopeRefusals, AHeadOfAMillionChannels) {
  Scratch scratch;
  const std::string wide = config_in(scratch / "wide", {{"head_dim", 1000000}});
  const Ran ran = run({"rope", wide, "--flags"});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find("a width of 1000000.0 channels"), std::string::npos) << ran.err;
}

// Without a word about a model there is nothing to compute: what a file of another kind is taken for, were it not
// refused.
TEST(RopeRefusals, AFileOfAnotherKindIsRefused) {
  for (const char* name : {"tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"}) {
    const std::string file = model("tolstoy-4m") + "/" + name;
    for (const char* command : {"rope", "lint"}) {
      if (std::string(command) == "rope" && std::string(name).ends_with(".index.json")) continue;  // the model's own
      const Ran ran = run({command, file});
      EXPECT_EQ(ran.exit, 3) << command << " " << name << ran.out;
      EXPECT_EQ(ran.err, "error: " + file +
                             ": is no config.json: neither model_type nor hidden_size is there; give a model's folder "
                             "or its config.json\n");
    }
  }
  EXPECT_EQ(run({"lint", model("tolstoy-4m") + "/config.json"}).exit, 0);
  EXPECT_EQ(run({"rope", model("tolstoy-4m") + "/config.json"}).exit, 0);
}

}  // namespace
}  // namespace ropewalk::tools::test
