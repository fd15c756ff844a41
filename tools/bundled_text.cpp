#include "tools/text_input.h"

// The assembler copies the file into read-only data: no generated source, no copy at start-up. ROPEWALK_BUNDLED_TEXT is
// set in tools/CMakeLists.txt.
__asm__(
    ".section .rodata\n"
    ".globl ropewalk_bundled_text_begin\n"
    ".globl ropewalk_bundled_text_end\n"
    "ropewalk_bundled_text_begin:\n"
    ".incbin \"" ROPEWALK_BUNDLED_TEXT
    "\"\n"
    "ropewalk_bundled_text_end:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" const char ropewalk_bundled_text_begin[];
extern "C" const char ropewalk_bundled_text_end[];

namespace ropewalk::tools {

std::string_view bundled_text() { return {ropewalk_bundled_text_begin, ropewalk_bundled_text_end}; }

}  // namespace ropewalk::tools
