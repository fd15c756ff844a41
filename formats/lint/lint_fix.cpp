#include "formats/lint/lint_fix.h"

#include <algorithm>

#include "formats/lint/linter.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using linting::Linter;

std::string parent_of(const std::string& pointer) { return pointer.substr(0, pointer.rfind('/')); }

/// The blanks before the line's first character, if only blanks stand before `at`; nullopt where several members share
/// a line.
std::optional<std::string> indentation(const std::string& text, std::size_t at) {
  const std::size_t line = text.rfind('\n', at);
  const std::size_t begin = line == std::string::npos ? 0 : line + 1;
  const std::string blanks = text.substr(begin, at - begin);
  if (line == std::string::npos || blanks.find_first_not_of(" \t") != std::string::npos) return std::nullopt;
  return blanks;
}

void add_member(const std::string& path, std::string& text, const JsonEdit& edit) {
  const std::string parent = parent_of(edit.pointer);
  const std::optional<std::size_t> object = locate_offset(text, parent);
  if (!object || text[*object] != '{')
    throw Error(ErrorKind::bad_input, {.path = path}, "there is no object at '" + parent + "' to add a value to",
                "check the file");
  const Json name = edit.pointer.substr(edit.pointer.rfind('/') + 1);
  const std::string member = name.dump() + ": " + edit.value.dump();
  std::optional<std::size_t> sibling;
  if (!edit.after.empty()) sibling = locate_offset(text, parent + "/" + pointer_segment(edit.after));
  const std::size_t inside = text.find_first_not_of(" \t\r\n", *object + 1);
  if (sibling) {
    const std::size_t key = text.rfind('"' + edit.after + '"', *sibling);
    const std::optional<std::string> blanks = indentation(text, key);
    text.insert(end_of_value(text, *sibling), blanks ? ",\n" + *blanks + member : ", " + member);
  } else if (inside != std::string::npos && text[inside] == '}') {
    text.replace(*object + 1, inside - *object - 1, member);
  } else {  // before the first member
    const std::optional<std::string> blanks = indentation(text, inside);
    text.insert(inside, blanks ? member + ",\n" + *blanks : member + ", ");
  }
}

/// How an engine reads a file, as far as better and worse go.
struct Standing {
  bool loads = false, serves = false, right = false;
  int context = 0;
};
Standing standing(const Linter& meant, const EngineVersion& engine, const Json& config, std::optional<int> context) {
  EngineOptions options;
  options.context = context;
  const EngineReading reading = read_as(engine, config, options);
  Standing out;
  out.loads = !reading.error;
  out.serves = out.loads && !reading.context_error;
  out.context = reading.context.value_or(0);
  const linting::Difference difference = meant.difference(reading);
  out.right = out.loads && !meant.declared.empty() && !difference.frequencies && !difference.attention;
  return out;
}

std::vector<EngineVersion> every_range(const LintOptions& options) {
  std::vector<EngineVersion> all = options.engines;
  for (const EngineRange& range : engine_ranges())
    all.push_back(parse_engine(std::string(engine_name(range.engine)) + "@" + std::string(range.newest)));
  return all;
}

/// Why the change is not safe; empty if it is.
std::string harm(const LintInput& input, const LintOptions& options, const Json& before, const Json& after) {
  const Linter meant(input, options);
  for (const EngineVersion& engine : every_range(options)) {
    const Standing was = standing(meant, engine, before, options.context),
                   is = standing(meant, engine, after, options.context);
    if (was.loads && !is.loads) return engine.title() + " would no longer load it";
    if (was.serves && !is.serves) return engine.title() + " would refuse the context";
    if (was.right && !is.right) return engine.title() + " would no longer compute the rope the file means";
    if (was.serves && is.context < was.context)
      return engine.title() + " would serve " + std::to_string(is.context) + ", not " + std::to_string(was.context);
  }
  return "";
}

/// Lengths to be served are factor x original context: while a finding leaves them open none is written, unless the
/// length was asked for.
std::string doubt(const LintOptions& options, const std::vector<Finding>& findings, const Finding& fix) {
  if (options.context || fix.length == 0) return "";
  for (const Finding& one : findings)
    if (one.doubts_original)
      return "the length follows from the original context, which " + std::string(one.rule) + " doubts";
  for (const Finding& one : findings)
    if (linting::leaves_length_open(one)) return "settle " + std::string(one.rule) + " first: it decides which length";
  return "";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

}  // namespace

std::string edit_json_text(const std::string& path, const std::string& text, const std::vector<JsonEdit>& edits) {
  std::string out = text;
  for (const JsonEdit& edit : edits) {
    const std::optional<std::size_t> at = locate_offset(out, edit.pointer);
    if (at) out.replace(*at, end_of_value(out, *at) - *at, edit.value.dump());
    else add_member(path, out, edit);
  }
  return out;
}

LintFixes safe_fixes(const LintInput& input, const LintOptions& options, const std::vector<Finding>& findings) {
  LintFixes out;
  std::vector<const LintFile*> sources;
  for (const std::optional<LintFile>* file : {&input.config, &input.tokenizer_config, &input.generation_config})
    if (*file) sources.push_back(&**file);
  std::vector<FixedFile> files;
  for (const LintFile* file : sources) files.push_back({file->path, file->text, file->text});
  for (const Finding& finding : findings) {
    if (finding.edits.empty()) continue;
    const std::size_t which = std::size_t(
        std::find_if(files.begin(), files.end(), [&](const FixedFile& f) { return f.path == finding.file; }) -
        files.begin());
    if (which == files.size()) continue;
    FixedFile& file = files[which];
    LintFix fix{finding.rule, finding.file, finding.pointer, "", ""};
    for (const JsonEdit& edit : finding.edits)
      fix.what += (fix.what.empty() ? "" : ", ") + edit.pointer + " = " + edit.value.dump();
    if (!sources[which]->not_finite.empty()) {
      fix.rejected = "the file holds NaN or Infinity";
    } else if (const std::string why = doubt(options, findings, finding); !why.empty()) {
      fix.rejected = why;
    } else {
      const std::string text = edit_json_text(file.path, file.after, finding.edits);
      const Json before = parse_json(file.path, file.after), after = parse_json(file.path, text);
      if (input.config && file.path == input.config->path) fix.rejected = harm(input, options, before, after);
      if (fix.rejected.empty()) file.after = text;
    }
    out.fixes.push_back(fix);
  }
  for (FixedFile& file : files)
    if (file.after != file.before) out.files.push_back(std::move(file));
  return out;
}

std::string unified_diff(const std::string& path, const std::string& before, const std::string& after) {
  const std::vector<std::string> a = lines_of(before), b = lines_of(after);
  // longest common subsequence: configs have hundreds of lines
  const std::size_t n = a.size(), m = b.size();
  std::string out = "--- " + path + "\n+++ " + path + "\n";
  if (n * m > 4'000'000) return out + "(too long to show)\n";
  std::vector<int> table((n + 1) * (m + 1), 0);
  const auto at = [&](std::size_t i, std::size_t j) -> int& { return table[i * (m + 1) + j]; };
  for (std::size_t i = n; i-- > 0;)
    for (std::size_t j = m; j-- > 0;)
      at(i, j) = a[i] == b[j] ? at(i + 1, j + 1) + 1 : std::max(at(i + 1, j), at(i, j + 1));
  std::vector<std::pair<char, std::string>> script;
  for (std::size_t i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && a[i] == b[j]) script.push_back({' ', a[i]}), ++i, ++j;
    else if (i < n && (j == m || at(i + 1, j) >= at(i, j + 1))) script.push_back({'-', a[i++]});
    else script.push_back({'+', b[j++]});
  }
  constexpr std::size_t kAround = 3;
  std::vector<bool> shown(script.size(), false);
  for (std::size_t i = 0; i < script.size(); ++i)
    if (script[i].first != ' ')
      for (std::size_t k = i > kAround ? i - kAround : 0; k < std::min(script.size(), i + kAround + 1); ++k)
        shown[k] = true;
  std::size_t line_a = 1, line_b = 1;
  for (std::size_t i = 0; i < script.size();) {
    if (!shown[i]) {
      ++i, ++line_a, ++line_b;  // only common lines are hidden
      continue;
    }
    std::size_t end = i, in_a = 0, in_b = 0;
    std::string body;
    for (; end < script.size() && shown[end]; ++end) {
      in_a += script[end].first != '+', in_b += script[end].first != '-';
      body += script[end].first + script[end].second + "\n";
    }
    out += "@@ -" + std::to_string(line_a) + "," + std::to_string(in_a) + " +" + std::to_string(line_b) + "," +
           std::to_string(in_b) + " @@\n" + body;
    line_a += in_a, line_b += in_b, i = end;
  }
  return out;
}

}  // namespace ropewalk::formats
