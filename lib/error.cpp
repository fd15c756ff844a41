#include "lib/error.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace ropewalk {
namespace {

std::string compose(const Error::Where& where, const std::string& problem, const std::string& fix) {
  std::string line = where.path;
  if (where.line) line += ":" + std::to_string(*where.line) + (where.column ? ":" + std::to_string(*where.column) : "");
  if (!line.empty()) line += ": ";
  if (where.offset) line += "byte " + std::to_string(*where.offset) + ": ";
  line += problem;
  if (!fix.empty()) line += "; " + fix;
  for (std::size_t at = 0; (at = line.find('\0', at)) != std::string::npos;)
    line.replace(at, 1, "\\x00");  // what() ends there
  return line;
}

const char* fix_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT: return "free some space or write elsewhere";
    case EFBIG: return "raise the limit of a file's size (ulimit -f), or write smaller files or elsewhere";
    case EACCES:
    case EPERM: return "check the permissions of the file and its folder";
    case EROFS: return "write to another place: this file system is read-only";
    case ENOENT:
    case ENOTDIR: return "check the path";
    case ENAMETOOLONG: return "choose a shorter name";
    case ELOOP: return "its links lead in a circle: put the file itself there";
    case EMFILE:
    case ENFILE: return "raise the limit of open files (ulimit -n)";
    default: return "check the disk and try again";
  }
}

}  // namespace

const char* error_kind_name(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::usage: return "usage";
    case ErrorKind::bad_input: return "bad_input";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::io: return "io";
    case ErrorKind::device: return "device";
  }
  return "unknown";
}

Error::Error(ErrorKind kind, Where where, std::string problem, std::string fix)
    : std::runtime_error(compose(where, problem, fix)),
      kind_(kind),
      where_(std::move(where)),
      problem_(std::move(problem)),
      fix_(std::move(fix)) {}

void throw_system_error(const std::string& path, const std::string& operation, int error_number) {
  const bool path_at_fault =
      error_number == ENOENT || error_number == ENOTDIR || error_number == ENAMETOOLONG || error_number == ELOOP;
  throw_system_error(path, operation, error_number, path_at_fault ? ErrorKind::bad_input : ErrorKind::io);
}

void throw_system_error(const std::string& path, const std::string& operation, int error_number, ErrorKind kind) {
  throw Error(kind, {.path = path}, "cannot " + operation + ": " + std::strerror(error_number), fix_for(error_number));
}

}  // namespace ropewalk
