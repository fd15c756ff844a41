#include "formats/tokenizers/json_node.h"

#include "formats/json_fields.h"

namespace ropewalk::formats {

void JsonNode::fail(ErrorKind kind, const std::string& problem) const {
  const std::string name = pointer_.empty() ? "the file" : "'" + pointer_.substr(1) + "'";
  throw Error(kind, json_place(*path_, text_, pointer_), name + " " + problem,
              kind == ErrorKind::unsupported ? "pass token ids instead of text" : "fetch the file again or repair it");
}

const JsonNode& JsonNode::require(bool holds, const std::string& expected) const {
  if (!holds) fail("is " + shown(*value_) + ", expected " + expected);
  return *this;
}

}  // namespace ropewalk::formats
