#include "lib/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk {
namespace {

// One pread moves at most 2 GiB - 4 KiB on Linux; asking for more is not an error, it just returns less.
constexpr std::size_t kLargestRead = std::size_t{1} << 30;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

void require_regular(const std::string& name, mode_t mode) {
  if (!S_ISREG(mode))
    throw Error(ErrorKind::bad_input, {.path = name}, std::string("is ") + kind_of(mode) + ", expected a regular file",
                "give the path of a file");
}

}  // namespace

std::filesystem::path whole_path(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path whole = std::filesystem::absolute(path, ignored).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

std::string last_part(const std::filesystem::path& path) { return whole_path(path).filename().string(); }

PathKind path_kind(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG) return PathKind::missing;
    throw_system_error(path.string(), "look at it", errno);
  }
  return S_ISREG(status.st_mode) ? PathKind::file : S_ISDIR(status.st_mode) ? PathKind::folder : PathKind::other;
}

void require_readable_folder(const std::filesystem::path& folder) {
  if (::faccessat(AT_FDCWD, folder.c_str(), R_OK | X_OK, AT_EACCESS) != 0)
    throw_system_error(folder.string(), "read the folder", errno);
}

std::shared_ptr<const File> File::open(const std::filesystem::path& path) {
  const std::string name = path.string();
  struct stat status {};
  // before it is opened: a socket cannot be, a tape would rewind
  if (::stat(path.c_str(), &status) == 0) require_regular(name, status.st_mode);
  int opened = -1;
  do {
    // O_NONBLOCK: should it have become a pipe by now, opening it would wait for ever.
    opened = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (opened < 0 && errno == EINTR);
  if (opened < 0) throw_system_error(name, "open", errno);
  Descriptor descriptor{opened};
  if (::fstat(opened, &status) != 0) throw_system_error(name, "stat", errno);
  require_regular(name, status.st_mode);
  std::shared_ptr<const File> file(new File(name, opened, static_cast<std::uint64_t>(status.st_size)));
  descriptor.fd = -1;
  return file;
}

File::~File() { ::close(fd_); }

void File::read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
  const auto ends_early = [&](std::uint64_t size) {
    const std::uint64_t left = offset_bytes < size ? size - offset_bytes : 0;
    throw Error(ErrorKind::bad_input, {.path = path_, .offset = offset_bytes},
                plural(bytes.size(), "byte") + (bytes.size() == 1 ? " is needed, " : " are needed, ") + are_left(left),
                "the file is cut short: fetch it again");
  };
  if (offset_bytes > size_ || bytes.size() > size_ - offset_bytes) ends_early(size_);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pread(fd_, bytes.data() + done, std::min(bytes.size() - done, kLargestRead),
                              static_cast<off_t>(offset_bytes + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      throw_system_error(path_, "read", errno);
    }
    if (n == 0) ends_early(offset_bytes + done);  // it shrank since it was opened
    done += static_cast<std::size_t>(n);
  }
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const auto file = File::open(path);
  if (file->size() > max_bytes)
    throw Error(
        ErrorKind::bad_input, {.path = file->path()},
        "has " + std::to_string(file->size()) + " bytes, at most " + std::to_string(max_bytes) + " are accepted here",
        "check that this is the right file");
  std::string text(file->size(), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace ropewalk
