// general.* keys. Expected values are those of gguf-py's metadata.py and utility.py of llama.cpp 0.5 and of PyYAML
// 6.0.3 for the same input.

#include "formats/gguf_metadata.h"

#include <gtest/gtest.h>

#include "formats/yaml_front_matter.h"
#include "gguf_bytes.h"
#include "lib/error.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

constexpr const char* none = nullptr;

struct IdCase {
  std::string_view id;
  std::uint64_t parameters;
  const char *full_name, *organization, *basename, *finetune, *version, *size_label;
  std::string_view title;
};
constexpr IdCase kIds[] = {
    {"Mistral-7B-Instruct-v0.2", 7241732096u, "Mistral-7B-Instruct-v0.2", none, "Mistral", "Instruct", "v0.2", "7B",
     "Mistral 7B Instruct v0.2"},
    {"meta-llama/Llama-2-7b-hf", 6738415616u, "Llama-2-7b-hf", "meta-llama", "Llama-2", "hf", none, "7B",
     "Llama 2 7b Hf"},
    {"tolstoy-4m-yarn-2k", 4200000u, "tolstoy-4m-yarn-2k", none, "tolstoy", "yarn-2k", none, "4M",
     "Tolstoy 4m Yarn 2k"},
    {"bloom-7b1", 7069016064u, "bloom-7b1", none, "bloom", none, none, "7.1B", "Bloom 7b1"},
    {"SOLAR-10.7B-Instruct-v1.0", 10731524096u, "SOLAR-10.7B-Instruct-v1.0", none, "SOLAR", "Instruct", "v1.0", "10.7B",
     "SOLAR 10.7B Instruct v1.0"},
    {"Mixtral-8x7B-v0.1", 46702792704u, "Mixtral-8x7B-v0.1", none, "Mixtral", none, "v0.1", "8x7B",
     "Mixtral 8x7B v0.1"},
    {"TinyLlama-1.1B-intermediate-step-1431k-3T", 1100048384u, "TinyLlama-1.1B-intermediate-step-1431k-3T", none,
     "TinyLlama", "intermediate-step-1431k-3t", none, "1.1B", "TinyLlama 1.1B Intermediate Step 1431k 3T"},
    {"./model", 1000u, "model", none, none, none, none, none, "Model"},
    {"A Human Sentence", 5u, "A Human Sentence", none, none, none, none, none, "A Human Sentence"},
    {"Yarn-Llama-2-7b-128k", 6738415616u, "Yarn-Llama-2-7b-128k", none, "Yarn-Llama-2", "128k", none, "7B",
     "Yarn Llama 2 7b 128k"},
    {"phi-small-xl", 1000000u, "phi-small-xl", none, "phi", none, none, "small-xl", "Phi Small Xl"},
    {"Llama-3.2-1B-Q4_K_M", 1235814400u, "Llama-3.2-1B-Q4_K_M", none, "Llama-3.2", none, none, "1B",
     "Llama 3.2 1B Q4_K_M"},
    {"x", 10u, "x", none, none, none, none, none, "X"},
    {"--", 10u, "--", none, none, none, none, none, ""},
    {"Qwen2.5-0.5B-f16", 494032768u, "Qwen2.5-0.5B-f16", none, "Qwen2.5", none, none, "0.5B", "Qwen2.5 0.5B F16"},
    {"smol-135m-chat-lora", 134515008u, "smol-135m-chat-lora", none, "smol", "chat-lora", none, "135M",
     "Smol 135m Chat Lora"},
    {"v2-base-7B", 7000000000u, "v2-base-7B", none, "v2-base", none, none, "7B", "v2 Base 7B"},
    {"iter5-model", 7u, "iter5-model", none, none, none, none, none, "Iter5 Model"},
    {"Model-A3B", 3000000000u, "Model-A3B", none, "Model", none, none, "A3B", "Model A3B"},
    {"7B", 7000000000u, "7B", none, none, "7B", none, none, "7B"},
    {"org/name/extra", 1u, "name/extra", "org", none, none, none, none, "Name/Extra"},
    {"Llama-2-7b-chat-7b", 6738415616u, "Llama-2-7b-chat-7b", none, "Llama-2", "chat", none, "7B",
     "Llama 2 7b Chat 7b"},
};

std::optional<std::string> maybe(const char* text) { return text ? std::optional<std::string>(text) : std::nullopt; }

std::vector<std::string> lines(const std::vector<GgufKey>& keys) {
  std::vector<std::string> out;
  for (const GgufKey& key : keys) {
    std::string value = gguf_type_name(key.value.type);
    if (const auto* text = std::get_if<std::string>(&key.value.value)) value = *text;
    if (const auto* number = std::get_if<std::uint64_t>(&key.value.value)) value = std::to_string(*number);
    out.push_back(key.name + "=" + value);
  }
  return out;
}

}  // namespace

TEST(GgufMetadata, ModelIdsAreTakenApartAsByGgufPy) {
  for (const IdCase& want : kIds) {
    SCOPED_TRACE(want.id);
    const ModelIdParts got = model_id_parts(want.id, want.parameters);
    EXPECT_EQ(got.full_name, maybe(want.full_name));
    EXPECT_EQ(got.organization, maybe(want.organization));
    EXPECT_EQ(got.basename, maybe(want.basename));
    EXPECT_EQ(got.finetune, maybe(want.finetune));
    EXPECT_EQ(got.version, maybe(want.version));
    EXPECT_EQ(got.size_label, maybe(want.size_label));
    EXPECT_EQ(title_of(*got.full_name), want.title);
  }
}

TEST(GgufMetadata, SizeLabels) {
  const std::pair<std::uint64_t, const char*> cases[] = {{1u, "0.00K"},
                                                         {9u, "0.01K"},
                                                         {99u, "0.10K"},
                                                         {949u, "0.9K"},
                                                         {999u, "1.0K"},
                                                         {1000u, "1.0K"},
                                                         {9949u, "10K"},
                                                         {99999u, "100K"},
                                                         {127296u, "127K"},
                                                         {999999u, "1000K"},
                                                         {1000000u, "1000K"},
                                                         {1000001u, "1.0M"},
                                                         {1949999u, "1.9M"},
                                                         {9500000u, "10M"},
                                                         {9949999u, "10M"},
                                                         {1100048384u, "1.1B"},
                                                         {6738415616u, "6.7B"},
                                                         {999999999u, "1000M"},
                                                         {1000000001u, "1.0B"},
                                                         {70553706496u, "71B"},
                                                         {1000000000000u, "1000B"},
                                                         {1000000000001u, "1.0T"},
                                                         {671026419200u, "671B"}};
  for (const auto& [parameters, label] : cases) EXPECT_EQ(size_label(parameters), label) << parameters;
}

TEST(GgufMetadata, FrontMatterAsByPyYaml) {
  const char* card = R"(---
license: apache-2.0
language:
- en
- no
tags: [a, "b c", 'd''e']
name: "quoted: \"x\""   # comment
empty:
number: 7
version: 1.5
flag: yes
nothing: ~
model-index:
- name: X
  results:
  - task:
      type: text-generation
    value: 0.5
folded: >
  one
  two

  three
literal: |
  a
    b
  c
stripped: |-
  x
plain: several words
  over lines
url: https://huggingface.co/a/b
"quoted key": v
flow: {a: 1, b: [x, y]}
---
# Text
key: not metadata
)";
  const Json want = Json::parse(
      R"({"license": "apache-2.0", "language": ["en", "no"], "tags": ["a", "b c", "d'e"], "name": "quoted: \"x\"", "empty": null, "number": 7, "version": 1.5,
    "flag": true, "nothing": null, "model-index": [{"name": "X", "results": [{"task": {"type": "text-generation"}, "value": 0.5}]}], "folded": "one two\nthree\n",
    "literal": "a\n  b\nc\n", "stripped": "x", "plain": "several words over lines", "url": "https://huggingface.co/a/b", "quoted key": "v", "flow": {"a": 1, "b": ["x", "y"]}})");
  const auto got = parse_front_matter(card);
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, want);
}

TEST(GgufMetadata, FrontMatterThatIsNotThereOrNotUnderstood) {
  EXPECT_EQ(parse_front_matter(""), Json::object());
  EXPECT_EQ(parse_front_matter("# Only text\n"), Json::object());
  EXPECT_EQ(parse_front_matter("---\n---\n"), Json::object());
  EXPECT_EQ(parse_front_matter("---\njust a sentence\n---\n"), Json::object());
  for (const char* odd : {"---\na: *alias\n---\n", "---\na: [1, 2\n---\n", "---\na: \"open\n---\n",
                          "---\na: b\n   c: d\n   - e\n---\n", "---\n- x\nkey: value\n---\n"})
    EXPECT_EQ(parse_front_matter(odd), std::nullopt) << odd;
  std::string deep = "---\na: ";
  for (int i = 0; i < 100000; ++i) deep += "[";
  EXPECT_EQ(parse_front_matter(deep + "\n---\n"), std::nullopt);
  std::string nested = "---\n";
  for (int i = 0; i < 2000; ++i) nested += "- ";
  EXPECT_EQ(parse_front_matter(nested + "x\n---\n"), std::nullopt);
}

TEST(GgufMetadata, OverridesWinOverCardAndName) {
  TestFolder folder("ropewalk-gguf-metadata");
  folder.write("README.md",
               "---\nlicense: [mit, other]\nmodel_name: From Card\nmodel_creator: Someone\nbase_model: "
               "https://huggingface.co/acme/Base-1B-v2\n---\n");
  GeneralMetadata input{.folder = folder.path(),
                        .folder_name = "plain-name",
                        .config = Json::object(),
                        .generation_config = Json(),
                        .overrides = Json(),
                        .model_name = "",
                        .total_parameters = 1000001};
  std::vector<std::string> notes;
  EXPECT_EQ(lines(gguf_general_keys(input, notes)),
            (std::vector<std::string>{"general.name=From Card", "general.author=Someone", "general.size_label=1.0M",
                                      "general.license=mit,other", "general.base_model.count=1",
                                      "general.base_model.0.name=Base 1B v2", "general.base_model.0.version=v2",
                                      "general.base_model.0.organization=Acme",
                                      "general.base_model.0.repo_url=https://huggingface.co/acme/Base-1B-v2"}));
  input.overrides = Json::parse(
      R"({"general.name": "From File", "general.author": null, "general.size_label": "tiny", "general.license": "ignored", "general.tags": ["x"], "other": 1,
                                   "general.sampling.temp": 0.5})");
  EXPECT_EQ(lines(gguf_general_keys(input, notes))[0], "general.sampling.temp=f32");
  EXPECT_EQ(lines(gguf_general_keys(input, notes))[1], "general.name=From File");
  EXPECT_EQ(lines(gguf_general_keys(input, notes))[2], "general.size_label=tiny");
  EXPECT_EQ(lines(gguf_general_keys(input, notes)).back(), "general.tags=array");
  input.strict_overrides = true;
  EXPECT_THROW(gguf_general_keys(input, notes), Error);  // "other", and the licence that the converter leaves out
  for (const char* bad : {R"({"general.nmae": "x"})", R"({"name": "x"})", R"({"general.license": "mit"})", "[]", "7",
                          "\"general.name\""}) {
    GeneralMetadata strict = input;
    strict.overrides = Json::parse(bad);
    EXPECT_THROW(gguf_general_keys(strict, notes), Error) << bad;
    strict.overrides = Json::parse(R"({"general.name": "fine", "general.license.name": "x"})");
    EXPECT_NO_THROW(gguf_general_keys(strict, notes));
  }
  input.strict_overrides = false;
  input.model_name = "From Option";
  EXPECT_EQ(lines(gguf_general_keys(input, notes))[1], "general.name=From Option");
  input.overrides = Json::parse(R"({"general.sampling.top_k": "many"})");
  EXPECT_THROW(gguf_general_keys(input, notes), Error);
  EXPECT_TRUE(notes.empty());
  folder.write("README.md", "---\na: *x\n---\n");
  input.overrides = Json();
  EXPECT_EQ(lines(gguf_general_keys(input, notes))[0], "general.name=From Option");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("front matter is not understood"), std::string::npos);
}
