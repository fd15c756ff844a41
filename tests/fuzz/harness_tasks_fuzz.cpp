#include <string_view>

#include "formats/harness_tasks.h"
#include "formats/json_comments.h"
#include "formats/python_text.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const std::string without = without_comments("input", text);
    require(without.size() == size, "a comment becomes as many blanks");
    for (std::size_t i = 0; i < size; ++i)
      require(without[i] == text[i] || (without[i] == ' ' && text[i] != '\n'), "the rest stays");
  } catch (const Error& error) {
    require(error.where().line.has_value(), "a refusal names its place");
  }
  try {
    const HarnessRows read = read_harness_rows("input", text);
    require(!read.tasks.empty() && read.rows.size() == read.tasks.size(), "rows are of a task");
    for (std::size_t task = 0; task < read.tasks.size(); ++task)
      for (const HarnessRow& row : read.rows[task]) {
        require(row.gold < row.choices.size(), "the right answer is a choice");
        require(row.is_true.empty() || row.is_true.size() == row.choices.size(), "each choice is true or not");
        const std::string prompt = harness_prompt(read.tasks[task], row, {&row});
        require(first_invalid_utf8(prompt) == prompt.size(), "prompts are UTF-8");
        require(python_length(prompt) <= prompt.size(), "a character has a byte");
      }
  } catch (const Error& error) {
    require(error.where().path == "input", "a refusal names its file");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"})",
      "// rows\n"
      R"({"question": " q ", "subject": "s_t", "choices": ["a", "b", "c", "d"], "answer": 3} /* end */)",
      R"({"activity_label": "l", "ctx_a": "a", "ctx_b": "é [x] b  c", "endings": ["[y]", " [title] y"], "label": "1"})",
      R"({"question": "q", "mc1_targets": {"choices": ["a"], "labels": [1]}, "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}})"
      "\n\n"
      R"({"question": "r", "mc1_targets": {"choices": ["a"], "labels": [1]}, "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}})",
      "/* never",
      "{\"//\": \"/* no comment */\"} // \xff"};
}
