#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "formats/json.h"

namespace ropewalk::tools {

using formats::Json;

/// Rows of text under headings. Written as an aligned Markdown table: readable on a terminal, pasteable into a model
/// card.
struct Table {
  struct Column {
    std::string heading;
    bool number = false;  // aligned right
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
};

/// An SVG 1.1 image, whole.
struct Drawing {
  std::string title;
  double width = 0, height = 0;
  std::string svg;
};

/// One thing that was checked, for JUnit and SARIF.
struct Check {
  std::string name;
  bool pass = false;
  std::string message;
  std::string rule = {}, file = {};  // of SARIF: what kind of check it is, and the file that is judged
  bool skipped = false;              // it did not run, and `message` says why; `pass` is then true
};

/// What a command found out: once as JSON, once as blocks for people. Renderers below never look inside the JSON.
struct Output {
  std::string command = {};
  Json source = {};        // the SOURCE as written; null where a command has none or several
  std::string about = {};  // what a page's title names, where that is not the source
  std::vector<std::string> warnings = {};
  Json body = Json::object();  // the command's own keys
  // paragraphs (lines without the last line end) and tables, in order
  std::vector<std::variant<std::string, Table>> blocks = {};
  std::optional<Table> csv = {};  // what a .csv holds, where that is not the tables shown
  std::vector<Check> checks = {};
  std::vector<Drawing> drawings = {};  // of .html and .svg
  std::optional<Json> sarif = {};      // a whole SARIF 2.1.0 log: what a .sarif holds
  // outputs that are in place, whatever becomes of the words about them
  std::vector<std::string> written = {};
  std::optional<Json> error = {};  // the command failed: what --json has of it, in place of everything else

  void text(std::string lines) { blocks.emplace_back(std::move(lines)); }
  void table(Table t) { blocks.emplace_back(std::move(t)); }
};

/// In order: two sides of a comparison may have the same to say.
std::vector<std::string> each_once(const std::vector<std::string>& lines);

/// {"ropewalk": version, "schema": 1, "command", "source", "warnings", ...body}
Json envelope(const Output& output);

std::string render_text(const Output& output);
std::string render_markdown(const Output& output);
/// Output::csv, or where it is not set the tables, one after the other with an empty line between (RFC 4180).
std::string render_csv(const Output& output);
/// JUnit: one test case per check; a command without checks is one case that passed. Of an error the checks are errors,
/// not failures.
std::string render_junit(const Output& output);
/// Of a table as render_markdown writes it.
std::string markdown_table(const Table& table);
/// One page that needs nothing beside it and no script, light or dark as the viewer prefers: verdict, warnings,
/// drawings, then the blocks.
std::string render_html(const Output& output);
/// The drawings as one image, one below the other.
std::string render_svg(const Output& output);

/// Strict JSON for any text: bytes that are not UTF-8 (a decoded half of a character) become U+FFFD. NaN and infinities
/// are null.
std::string json_text(const Json& value, int indent = 2);

/// Two columns without headings, for summaries: "rope     YaRN x8 of 256".
std::string aligned(const std::vector<std::pair<std::string, std::string>>& pairs);

}  // namespace ropewalk::tools
