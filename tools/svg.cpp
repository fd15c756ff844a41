#include "tools/svg.h"

#include "tools/escape.h"
#include "tools/units.h"

namespace ropewalk::tools {

std::string ending(const std::string& text, std::size_t letters) {
  std::size_t from = text.size() > letters ? text.size() - letters : 0;
  while (from > 0 && from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;  // UTF-8
  return from == 0 ? text : "..." + text.substr(from);
}

std::string svg_style() {
  return "<style>\n"
         "text{font:13px sans-serif;fill:#1c2024}\n"
         ".title{font:bold 16px sans-serif}\n"
         ".small{font-size:11px}\n"
         ".name{font-weight:600}\n"
         ".middle{text-anchor:middle}\n"
         ".end{text-anchor:end}\n"
         ".value{fill:#10141a}\n"
         ".paper{fill:#ffffff}\n"
         ".frame{fill:none;stroke:#70757a}\n"
         ".grid{stroke:#70757a;stroke-opacity:.3}\n"
         ".tick{stroke:#70757a}\n"
         ".once{stroke:#70757a;stroke-dasharray:6 4}\n"
         ".band{stroke:none;fill:#70757a;fill-opacity:0}\n"
         ".blended{fill-opacity:.09}\n"
         ".interpolated{fill-opacity:.2}\n"
         ".still{fill-opacity:.32}\n"
         ".curve{fill:none;stroke-width:2.2;stroke-linejoin:round}\n"
         ".before{stroke:#70757a;stroke-width:1.6;stroke-dasharray:2 3}\n"
         ".c0{stroke:#0b62c4}\n"
         ".c1{stroke:#c2410c;stroke-dasharray:9 4}\n"
         ".c2{stroke:#0f7b4f;stroke-dasharray:14 4 3 4}\n"
         ".c3{stroke:#8b1fa9;stroke-dasharray:5 3}\n"
         ".c4{stroke:#8a6100;stroke-dasharray:12 3 3 3 3 3}\n"
         ".c5{stroke:#b3124d;stroke-dasharray:3 3}\n"
         ".c6{stroke:#006d77;stroke-dasharray:18 5}\n"
         ".c7{stroke:#4a4f57;stroke-dasharray:7 2 2 2}\n"
         ".dot{stroke-dasharray:none;fill:#ffffff}\n"
         "@media (prefers-color-scheme:dark){\n"
         "text{fill:#e6e8ea}\n"
         ".paper,.dot{fill:#15181c}\n"
         ".value{fill:#10141a}\n"
         ".frame,.tick,.once,.before{stroke:#9aa0a6}\n"
         ".grid{stroke:#9aa0a6}\n"
         ".band{fill:#9aa0a6}\n"
         ".c0{stroke:#6cb2ff}\n"
         ".c1{stroke:#ff9a5c}\n"
         ".c2{stroke:#54d3a0}\n"
         ".c3{stroke:#dd8cf5}\n"
         ".c4{stroke:#e5bd4f}\n"
         ".c5{stroke:#ff86ac}\n"
         ".c6{stroke:#5fd0da}\n"
         ".c7{stroke:#b9bfc7}\n"
         "}\n</style>\n";
}

std::string svg_image(const std::string& title, double width, double height, const std::string& body) {
  const std::string size = "width=\"" + svg_px(width) + "\" height=\"" + svg_px(height) + "\"";
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" " + size + " viewBox=\"0 0 " + svg_px(width) + " " +
         svg_px(height) + "\">\n<title>" + xml_text(title) + "</title>\n" + svg_style() + "<rect class=\"paper\" " +
         size + "/>\n" + body + "</svg>\n";
}

std::string svg_px(double value) { return fixed_text(value, 2); }

}  // namespace ropewalk::tools
