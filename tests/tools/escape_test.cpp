// Names that no format can hold as they are, read back by other programs' readers: expat, Python's csv and html.parser.
#include "tools/escape.h"

#include "tests/tools/command.h"
#include "tools/line_chart.h"
#include "tools/render.h"

namespace ropewalk::tools {
namespace {

using test::Scratch;

const std::string kName =
    "a<script>alert('1')</script> & \"b\" ]]> | `c` [d](http://e) *f* \\g, \xff\xfe \xef\xbf\xbe\x01\x1b[31m\nend";
/// What people read of it: controls as spaces, bytes that are no UTF-8 named, U+FFFE as the replacement character.
const std::string kShown =
    "a<script>alert('1')</script> & \"b\" ]]> | `c` [d](http://e) *f* \\g, \\xff\\xfe \xef\xbf\xbd  [31m end";

Output output() {
  Output out{.command = "verify", .source = kName, .warnings = {kName}};
  std::string line = kName;
  out.text(line.replace(line.find('\n'), 1, " "));
  out.text("one\n```\n" + kName);
  out.table({{{"name"}, {"n", true}}, {{kName, "1"}, {"", "2"}}});
  out.checks = {{kName, false, kName}, {"plain", true, ""}};
  out.drawings = {line_chart(
      {.title = kName, .x_axis = kName, .y_axis = "y", .curves = {{kName, {{1, 2}, {2, 3}}}, {"b", {{1, 2}}}}})};
  return out;
}

class Reader : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c 'import csv, html.parser, xml.parsers.expat' > /dev/null 2>&1") != 0)
      GTEST_SKIP() << "no python3, whose readers this asks";
  }
  /// What a Python script prints of a file; nullopt if it fails.
  std::optional<std::string> read(const std::string& bytes, const std::string& script) const {
    test::spill(scratch / "file", bytes);
    test::spill(scratch / "script.py", script);
    const std::string at = scratch.path().string();
    if (std::system(("cd '" + at + "' && PYTHONIOENCODING=utf-8 python3 script.py > out 2> err").c_str()) != 0)
      return std::nullopt;
    return test::slurp(scratch / "out");
  }
  const Scratch scratch;
};

const std::string kExpat = R"(
from xml.parsers import expat
parser = expat.ParserCreate()
def start(tag, attributes):
    for name in ('name', 'message'):
        if tag in ('testcase', 'failure') and name in attributes: print(tag + ' ' + name + ': ' + attributes[name])
parser.StartElementHandler = start
parser.CharacterDataHandler = lambda text: print('text: ' + text) if text.strip() else None
parser.buffer_text = True
parser.Parse(open('file', 'rb').read(), True)
)";

TEST_F(Reader, Junit) {
  const auto told = read(render_junit(output()), kExpat);
  ASSERT_TRUE(told) << test::slurp(scratch / "err");
  EXPECT_NE(told->find("testcase name: " + kShown + "\nfailure message: " + kShown + "\n"), std::string::npos) << *told;
  EXPECT_NE(told->find("text: warning: " + kShown), std::string::npos) << *told;
  // the same parser does not take it raw, nor any of what is odd in it alone
  for (const std::string& odd :
       {kName, std::string("\x01"), std::string("\xef\xbf\xbe"), std::string("\xff"), std::string("<b>")})
    EXPECT_FALSE(read("<a name=\"" + odd + "\"/>", kExpat)) << odd;
}

TEST_F(Reader, Svg) {
  Output two = output();
  for (const std::string& svg : {render_svg(two), (two.drawings.push_back(two.drawings.front()), render_svg(two))}) {
    const auto told = read(svg, kExpat);
    ASSERT_TRUE(told) << test::slurp(scratch / "err");
    EXPECT_NE(told->find("text: " + kShown.substr(0, 40)), std::string::npos) << *told;
  }
}

TEST_F(Reader, Csv) {
  const std::string script = R"(
import csv
for row in csv.reader(open('file', encoding='utf-8', newline=''), strict=True): print(row)
)";
  const auto told = read(render_csv(output()), script);
  ASSERT_TRUE(told) << test::slurp(scratch / "err");
  EXPECT_EQ(std::count(told->begin(), told->end(), '\n'), 3) << *told;
  EXPECT_NE(told->find("\\nend', '1']"), std::string::npos) << *told;
  EXPECT_NE(told->find("*f* \\\\g, \\\\xff\\\\xfe "), std::string::npos) << *told;
  EXPECT_FALSE(read("name\r\n" + kName + "\r\n", script)) << "not UTF-8: raw, it is refused";
}

TEST_F(Reader, Html) {
  const std::string script = R"(
import html.parser
class Tags(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes): print('tag: ' + tag)
    def handle_data(self, data): print('text: ' + data)
Tags().feed(open('file', encoding='utf-8').read())
)";
  const auto told = read(render_html(output()), script);
  ASSERT_TRUE(told) << test::slurp(scratch / "err");
  EXPECT_EQ(told->find("tag: script"), std::string::npos);
  EXPECT_NE(told->find("text: " + kShown), std::string::npos) << *told;
  const auto raw = read("<p>a<script>alert(1)</script></p>", script);
  ASSERT_TRUE(raw);
  EXPECT_NE(raw->find("tag: script"), std::string::npos) << "control: raw, it is a tag";
}

TEST(Markdown, NoMarkupOfAName) {
  const std::string page = render_markdown(output());
  // outside the fence nothing is a tag, a link or code
  const std::size_t from = page.find("````\n"), to = page.find("\n````\n", from);
  ASSERT_NE(to, std::string::npos) << "a longer fence than any in it\n" << page;
  const std::string outside = page.substr(0, from) + page.substr(to + 6);
  for (const char* markup : {"<script", "</script", "\n```", " [d](", " `c`", " *f*"})
    EXPECT_EQ(outside.find(markup), std::string::npos) << markup << "\n" << outside;
  EXPECT_NE(
      outside.find("&lt;script>alert('1')&lt;/script> &amp; \"b\" ]]> \\| \\`c\\` \\[d](http://e) \\*f\\* \\\\g,"),
      std::string::npos)
      << outside;
  EXPECT_EQ(markdown_fence("a\nb"), "```\na\nb\n```");
  EXPECT_EQ(markdown_fence("a ``` b ```` c"), "`````\na ``` b ```` c\n`````");
}

TEST(Xml, ScalarsThatItCannotWrite) {
  EXPECT_EQ(xml_text("a\xef\xbf\xbe\xef\xbf\xbf"
                     "b"),
            "a\xef\xbf\xbd\xef\xbf\xbd"
            "b");
  EXPECT_EQ(xml_text("\xf0\x9f\xa6\x99 \xc3\xa9 \xef\xbf\xbd"), "\xf0\x9f\xa6\x99 \xc3\xa9 \xef\xbf\xbd")
      << "as they are";
}

}  // namespace
}  // namespace ropewalk::tools
