#include "lib/clone_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "lib/error.h"
#include "lib/file.h"
#include "lib/temporary.h"

namespace ropewalk {
namespace {

/// The new file, closed on every way out.
class NewFile {
 public:
  NewFile(const std::filesystem::path& path, std::string name)
      : name_(std::move(name)), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
    if (fd_ < 0) throw_output_error(name_, "create", errno);
  }
  ~NewFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  int descriptor() const { return fd_; }
  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw_output_error(name_, "write", errno);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void finish(bool sync) {
    if (sync && ::fsync(fd_) != 0) throw_output_error(name_, "sync", errno);
    const int closed = ::close(fd_);
    fd_ = -1;
    if (closed != 0) throw_output_error(name_, "close", errno);
  }

 private:
  std::string name_;
  int fd_;
};

}  // namespace

const char* clone_method_name(CloneMethod method) noexcept {
  switch (method) {
    case CloneMethod::reflink: return "reflink";
    case CloneMethod::copy: return "copy";
    case CloneMethod::link: return "link";
  }
  return "copy";
}

CloneMethod clone_file(const std::filesystem::path& from, const std::filesystem::path& to, bool allow_link,
                       const WriteOptions& options) {
  // A link of a link in the Hub cache must be the file itself, not another symbolic link.
  if (allow_link && ::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return CloneMethod::link;
  const auto source = File::open(from);
  NewFile target(to, options.called.empty() ? to.string() : options.called.string());
  if (::ioctl(target.descriptor(), FICLONE, source->descriptor()) == 0) {
    target.finish(options.sync);
    return CloneMethod::reflink;
  }
  std::vector<std::byte> block(std::size_t{8} << 20);
  for (std::uint64_t at = 0; at < source->size();) {
    const std::span<std::byte> part(block.data(), std::min<std::uint64_t>(block.size(), source->size() - at));
    source->read(at, part);
    target.append(part);
    at += part.size();
  }
  target.finish(options.sync);
  return CloneMethod::copy;
}

}  // namespace ropewalk
