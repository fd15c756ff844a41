#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace ropewalk {

/// What went wrong, in the terms of the exit codes (docs/design.md, section 7).
enum class ErrorKind {
  usage,        // exit 2: the command line is wrong
  bad_input,    // exit 3: missing, cut short, malformed, mismatched, too little text
  unsupported,  // exit 4: architecture, rope type, encoding; a loss that was not allowed
  io,           // exit 5: no space, no permission, target exists or is the source, out of memory
  device,       // exit 6: GPU
};

/// The name used in JSON: "usage", "bad_input", "unsupported", "io", "device".
const char* error_kind_name(ErrorKind kind) noexcept;

/// The only exception ropewalk throws for what goes wrong. what() is the whole line the user reads:
///   "<path>: byte <offset>: <problem>; <what to do>"     (binary files)
///   "<path>:<line>:<column>: <problem>; <what to do>"    (text files)
///   "<problem>; <what to do>"                            (no file)
/// `problem` says what was found and what was expected; both parts are lower case without a final stop.
class Error : public std::runtime_error {
 public:
  struct Where {
    std::string path = {};
    std::optional<std::uint64_t> offset = std::nullopt;             // bytes from the start of the file
    std::optional<int> line = std::nullopt, column = std::nullopt;  // from 1, text files only
    // JSON files only: the value in question by RFC 6901, "/rope_scaling/factor"; also where it is missing
    std::optional<std::string> pointer = std::nullopt;
  };

  Error(ErrorKind kind, Where where, std::string problem, std::string fix);

  ErrorKind kind() const noexcept { return kind_; }
  const Where& where() const noexcept { return where_; }
  const std::string& problem() const noexcept { return problem_; }
  const std::string& fix() const noexcept { return fix_; }

 private:
  ErrorKind kind_;
  Where where_;
  std::string problem_, fix_;
};

/// body(); an Error of it that names no place leaves with this path: for pure functions, whose caller knows the file.
template <class Body>
auto with_path(const std::string& path, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (!error.where().path.empty()) throw;
    throw Error(error.kind(), {.path = path}, error.problem(), error.fix());
  }
}

/// Error for a failed system call on an input: names the operation and strerror(error_number), with a fix that fits it.
/// Kind io; bad_input where the path itself is at fault (missing, too long, links that lead in a circle).
[[noreturn]] void throw_system_error(const std::string& path, const std::string& operation, int error_number);
/// The same with the kind given: whatever befalls an output is io.
[[noreturn]] void throw_system_error(const std::string& path, const std::string& operation, int error_number,
                                     ErrorKind kind);

}  // namespace ropewalk
