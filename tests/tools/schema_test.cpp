// Every command's --json output against docs/schema.
#include <cmath>
#include <sstream>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

bool has_type(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  ADD_FAILURE() << "schema names the type " << type;
  return false;
}

/// The part of JSON Schema our schemas use; a keyword it does not know fails the test. Returns the first problem, or
/// "".
std::string problem(const Json& schema, const Json& value, const std::string& at) {
  for (const auto& [keyword, rule] : schema.items()) {
    if (keyword == "$schema" || keyword == "title" || keyword == "description") continue;
    if (keyword == "type") {
      bool fits = false;
      for (const Json& type : rule.is_array() ? rule : Json::array({rule})) fits = fits || has_type(value, type);
      if (!fits) return at + " is " + value.dump().substr(0, 60) + ", expected " + rule.dump();
    } else if (keyword == "const") {
      if (value != rule) return at + " is " + value.dump() + ", expected " + rule.dump();
    } else if (keyword == "enum") {
      if (std::find(rule.begin(), rule.end(), value) == rule.end())
        return at + " is " + value.dump() + ", expected one of " + rule.dump();
    } else if (keyword == "required") {
      if (value.is_object())
        for (const Json& key : rule)
          if (!value.contains(key.get<std::string>())) return at + "/" + key.get<std::string>() + " is missing";
    } else if (keyword == "additionalProperties") {
      if (value.is_object())
        for (const auto& [key, ignored] : value.items())
          if (!schema["properties"].contains(key)) return at + "/" + key + " is not in the schema";
    } else if (keyword == "properties") {
      if (value.is_object())
        for (const auto& [key, inner] : rule.items())
          if (value.contains(key))
            if (const std::string found = problem(inner, value[key], at + "/" + key); !found.empty()) return found;
    } else if (keyword == "items") {
      if (value.is_array())
        for (std::size_t i = 0; i < value.size(); ++i)
          if (const std::string found = problem(rule, value[i], at + "/" + std::to_string(i)); !found.empty())
            return found;
    } else {
      return "the schema's keyword '" + keyword + "' is not known here";
    }
  }
  return "";
}

Json schema_of(const std::string& name) {
  return Json::parse(slurp(fs::path(ROPEWALK_TEST_DATA_DIR) / "../../docs/schema" / (name + ".json")));
}

void expect_valid(std::vector<std::string> words, int exit = 0, const char* schema = nullptr) {
  const std::string command = words[0];
  words.push_back("--json");
  const Ran ran = run(words);
  ASSERT_EQ(ran.exit, exit) << command << ": " << ran.err;
  EXPECT_EQ(problem(schema_of(schema ? schema : command), ran.json(), ""), "") << command;
}

TEST(Schema, TheValidatorFindsFaults) {
  const Json schema = schema_of("support");
  Json good = run({"support", "--json"}).json();
  EXPECT_EQ(problem(schema, good, ""), "");
  Json bad = good;
  bad["schema"] = 2;
  EXPECT_EQ(problem(schema, bad, ""), "/schema is 2, expected 1");
  bad = good;
  bad["encodings"][1]["write"] = "yes";
  EXPECT_EQ(problem(schema, bad, ""), "/encodings/1/write is \"yes\", expected \"boolean\"");
  bad = good;
  bad.erase("architectures");
  EXPECT_EQ(problem(schema, bad, ""), "/architectures is missing");
  bad = good;
  bad["new"] = 1;
  EXPECT_EQ(problem(schema, bad, ""), "/new is not in the schema");
}

TEST(Schema, EveryCommand) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m-yarn-2k"), adapted = base + "+" + adapter(),
                    gguf = (scratch / "m-q8_0.gguf").string(), text = fixture("goldens/perplexity/doc-1.txt");
  expect_valid({"support"});
  expect_valid({"lint", base});
  expect_valid({"lint", base, "--engine", "vllm@0.10", "-c", "4k"}, 1);
  expect_valid({"lint", "--list-rules"});
  expect_valid({"inspect", base});
  expect_valid({"inspect", adapted + "+rope=yarn,factor=16,original=256", "--tensors"});
  expect_valid({"inspect", adapter(), "--tensors"});
  expect_valid({"convert", adapted, "-o", (scratch / "m-{type}.gguf").string(), "--type", "f16,q8_0", "--sha256"});
  expect_valid({"convert", base, "-o", (scratch / "dry").string(), "--type", "hf:f32", "--dry-run"});
  const std::string f16 = (scratch / "m-f16.gguf").string(), q4 = (scratch / "q4.gguf").string();
  expect_valid({"convert", base, "-o", q4, "--type", "q4_k_m", "--overwrite"});
  expect_valid({"quantize", f16, q4, "Q4_K_M"});
  expect_valid({"quantize", "--dry-run", f16, "COPY"});
  expect_valid({"inspect", gguf, "--tensors"});
  expect_valid({"rope", base});
  expect_valid({"rope", adapted + "+rope=linear,factor=4,original=256", "--engine", "all", "--flags"});
  expect_valid({"rope", gguf, "--engine", "all"});
  expect_valid({"rope", "--list-engines"});
  expect_valid({"merge", adapted, "-o", (scratch / "merged").string()});
  expect_valid({"merge", adapted, "-o", (scratch / "dry").string(), "--dry-run"});
  expect_valid({"merge", adapted, "--measure", "-c", "32", "--windows", "1"});
  const std::string lora = (scratch / "lora").string();
  expect_valid({"adapter", "extract", base, model("tolstoy-4m"), "--rank", "2", "-o", lora});
  expect_valid({"adapter", "rerank", lora, "--rank", "1", "-o", (scratch / "one").string(), "--dry-run"}, 0);
  expect_valid({"adapter", "rescale", adapter(), "--scale", "0.5", "-o", (scratch / "half").string()});
  expect_valid({"adapter", "convert", adapted, "-o", (scratch / "lora.gguf").string()});
  expect_valid({"inspect", (scratch / "lora.gguf").string()});
  expect_valid({"extend", base, "--plan", "-c", "8k"});
  expect_valid({"extend", base, "-o", (scratch / "long").string(), "--rope", "yarn,factor=16,original=256"});
  const fs::path layered = copy_of(model("stories260K"), scratch / "layered");
  std::ofstream(layered / "config.json")
      << R"({"model_type": "gemma3_text", "hidden_size": 64, "num_attention_heads": 8, "head_dim": 8,
             "max_position_embeddings": 512, "rope_theta": 1e6, "layer_types": ["sliding_attention", "full_attention"]})";
  expect_valid({"extend", layered.string(), "-o", (scratch / "dry").string(), "--rope", "yarn,to=4k", "--dry-run"});
  expect_valid(
      {"extend", gguf, "-o", (scratch / "long.gguf").string(), "--rope", "yarn,factor=16,original=256", "--dry-run"});
  expect_valid({"verify", gguf, "--against", adapted, "-c", "256", "--windows", "1"});
  expect_valid({"verify", gguf, "--against", adapted, "-c", "256", "--level", "structure"});
  const std::string reference = (scratch / "m.rwref").string();
  expect_valid({"verify", "--against", adapted, "-c", "256", "--windows", "1", "--save-reference", reference}, 0,
               "verify-reference");
  expect_valid({"verify", gguf, "--reference", reference});
  expect_valid({"verify", gguf, "--against", adapted, "-c", "2k", "--windows", "1", "--estimate"}, 0,
               "verify-estimate");
  expect_valid({"verify", gguf, "--against", base, "-c", "256", "--windows", "1", "--keep-going"}, 1);
  expect_valid({"diff", base, gguf});
  expect_valid({"diff", base, gguf, "--structure"});
  expect_valid({"perplexity", base, gguf, "-f", text, "-c", "128,256", "--windows", "2", "--protocol",
                "tokens,yarn,hf,llama.cpp"});
  expect_valid({"perplexity", base, "-f", text, "-c", "128", "--windows", "1"});
  spill(scratch / "card.json",
        R"({"results": [{"source": "card", "context": 64, "protocol": "tokens", "stride": 63, "perplexity": 9}]})");
  expect_valid({"perplexity", base, "-c", "64", "--windows", "1", "--positions", "8", "--baseline", base, "--compare",
                (scratch / "card.json").string(), "--max", "short_context_tax=0", "--max", "ppl_last@64=1e9"});
  spill(scratch / "recipe.json", Json{{"gates", {{{"name", "l"}, {"command", {"lint", base}}}}}}.dump());
  expect_valid({"run", (scratch / "recipe.json").string(), "--dry-run"});
  expect_valid({"run", (scratch / "recipe.json").string()});
  expect_valid({"passkey", base, gguf, "-c", "128", "--iterations", "1", "--min", "accuracy=0"});
  spill(scratch / "mmlu.jsonl", R"({"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 3})"
                                "\n"
                                R"({"question": "r", "subject": "t", "choices": ["a", "b", "c", "d"], "answer": 0})");
  expect_valid({"eval", base, (scratch / "mmlu.jsonl").string(), "--min", "acc=0"});
  expect_valid({"passkey", base, "-c", "256", "--depths", "random", "--haystack", "text", "--min", "accuracy=1"}, 1);
  expect_valid({"logits", base, "-f", text, "-c", "64", "-o", (scratch / "l.safetensors").string()});
  expect_valid({"imatrix", base, "-f", text, "-c", "64", "-o", (scratch / "i.gguf").string()});
  expect_valid({"imatrix", "--in-file", (scratch / "i.gguf").string(), "-o", (scratch / "i.dat").string()});
  expect_valid({"tokenize", base, "-p", "one"});
  expect_valid({"tokenize", base, gguf, "-p", "one", "--count"});
  expect_valid({"tokenize", base, "--decode", "-p", "5 6 7"});
  expect_valid({"generate", base, "-p", "one", "-n", "3"});
}

// docs/design.md, section 7, has a row of keys for each command: none of them is left out there.
TEST(Schema, TheDesignNamesEveryKey) {
  const fs::path docs = fs::path(ROPEWALK_TEST_DATA_DIR) / "../../docs";
  const std::string keys = slurp(docs / "design.md");  // rows, each as "| command | keys |"
  int rows = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(docs / "schema")) {
    const std::string command = entry.path().stem().string();
    if (entry.path().extension() != ".json" || command == "error") continue;
    const auto at = keys.find("\n| " + command + " | `");
    ASSERT_NE(at, std::string::npos) << command << " has no row";
    const std::string row = keys.substr(at + 1, keys.find('\n', at + 1) - at);
    ++rows;
    const Json schema = schema_of(command);
    for (const auto& item : schema["properties"].items()) {
      bool common = false;
      for (const char* key : {"ropewalk", "schema", "command", "source", "warnings"})
        common = common || item.key() == key;
      EXPECT_TRUE(common || row.find("`" + item.key() + "`") != std::string::npos) << command << ": " << item.key();
    }
  }
  EXPECT_GE(rows, 14);
}

TEST(Schema, Failures) {
  expect_valid({"inspect", "/nothing"}, 3, "error");
  expect_valid({"inspect"}, 2, "error");
  expect_valid({"inspekt"}, 2, "error");
  expect_valid({"convert", model("tolstoy-4m"), "-o", "x", "--type", "hf:q4_k"}, 4, "error");
  expect_valid({"convert", model("tolstoy-4m"), "-o", "/proc/x.gguf", "--type", "f16"}, 5, "error");
}

TEST(Schema, DevicesAreDescribedOnce) {
  const auto device = [](const char* command) { return schema_of(command)["properties"]["device"]["properties"]; };
  EXPECT_TRUE(device("perplexity").contains("sweeps"));
  for (const char* command : {"verify", "logits", "passkey"})
    EXPECT_EQ(device(command), device("perplexity")) << command;
}

}  // namespace
}  // namespace ropewalk::tools::test
