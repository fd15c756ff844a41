#include "formats/tokenizers/token_limits.h"

#include <string>

#include "lib/error.h"

namespace ropewalk::formats {

void check_growth(const char* what, std::size_t bytes, std::size_t most) {
  if (bytes > most)
    throw Error(ErrorKind::unsupported, {},
                std::string(what) + " makes more than " + std::to_string(most) + " bytes of the text",
                "check that this is the model's own tokenizer; if it is, give the text in several files");
}

}  // namespace ropewalk::formats
