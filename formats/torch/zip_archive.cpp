#include "formats/torch/zip_archive.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "lib/error.h"

namespace ropewalk::formats::torch {
namespace {

// In file order, all little-endian:
//   local header   "PK\3\4", u16 version, flags, method, time, date, u32 crc, packed, unpacked, u16 name, extra; name; extra
//   ...            the member's bytes, and the next local header
//   central        "PK\1\2", u16 made by, version, flags, method, time, date, u32 crc, packed, unpacked, u16 name, extra,
//                  comment, disk, attributes, u32 attributes, local header's offset; name; extra; comment
//   zip64 end      "PK\6\6", u64 size, u16 x 2, u32 disk x 2, u64 members here, members, directory's bytes, its offset
//   zip64 locator  "PK\6\7", u32 disk, u64 offset of the zip64 end, u32 disks
//   end            "PK\5\6", u16 disk x 2, members here, members, u32 directory's bytes, its offset, u16 comment; comment
constexpr std::uint64_t kEnd = 22, kLocator = 20, kEnd64 = 56, kCentral = 46, kLocal = 30;
constexpr std::uint64_t kMaxComment = 65535, kMaxDirectory = std::uint64_t{128} << 20, kMaxMembers = 300'000;
constexpr const char* kDamaged = "the file is cut short or damaged: fetch it again";

struct Record {
  std::string_view bytes;
  template <class T>
  T at(std::size_t offset) const {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
};

class ZipReader {
 public:
  explicit ZipReader(const File& file) : file_(file) {}

  std::map<std::string, ZipMember> read() {
    find_directory();
    std::map<std::string, ZipMember> members;
    if (directory_bytes_ > kMaxDirectory || n_members_ > kMaxMembers)
      fail(directory_, "the zip directory claims " + std::to_string(n_members_) + " members in " +
                           std::to_string(directory_bytes_) + " bytes, expected at most 300000 in 128 MiB");
    const std::string directory = text(directory_, directory_bytes_, "the zip directory");
    std::uint64_t at = 0;
    for (std::uint64_t i = 0; i < n_members_; ++i) at += read_member(directory, at, members);
    if (at != directory.size())
      fail(directory_ + at, "the zip directory has bytes after its last member, expected none");
    return members;
  }

 private:
  [[noreturn]] void fail(std::uint64_t offset, const std::string& problem, const char* fix = kDamaged) const {
    throw Error(ErrorKind::bad_input, {.path = file_.path(), .offset = std::min(offset, file_.size())}, problem, fix);
  }
  std::string text(std::uint64_t offset, std::uint64_t bytes, const char* what) const {
    if (offset > file_.size() || bytes > file_.size() - offset)
      fail(offset, std::string(what) + " needs bytes " + std::to_string(offset) + " to " +
                       std::to_string(offset + bytes) + ", the file has " + std::to_string(file_.size()));
    std::string out(bytes, '\0');
    file_.read(offset, std::as_writable_bytes(std::span(out)));
    return out;
  }

  void find_directory() {
    const std::uint64_t tail = std::min(file_.size(), kEnd + kMaxComment);
    const std::string last = text(file_.size() - tail, tail, "the zip end record");
    for (std::uint64_t at = tail < kEnd ? 0 : tail - kEnd + 1; at-- > 0;) {
      if (last.compare(at, 4, "PK\5\6") != 0) continue;
      const Record end{std::string_view(last).substr(at, kEnd)};
      if (at + kEnd + end.at<std::uint16_t>(20) != tail) continue;
      const std::uint64_t place = file_.size() - tail + at;
      if (end.at<std::uint16_t>(4) != 0 || end.at<std::uint16_t>(6) != 0)
        fail(place, "the zip file is one of several parts, expected one");
      n_members_ = end.at<std::uint16_t>(10);
      directory_bytes_ = end.at<std::uint32_t>(12);
      directory_ = end.at<std::uint32_t>(16);
      if (n_members_ == 0xffff || directory_bytes_ == 0xffffffff || directory_ == 0xffffffff) read_end64(place);
      return;
    }
    fail(file_.size(), "the file begins as a zip file and has no end record");
  }
  void read_end64(std::uint64_t end) {
    if (end < kLocator) fail(end, "the zip64 end record is missing");
    const std::string locator = text(end - kLocator, kLocator, "the zip64 locator");
    if (!locator.starts_with("PK\6\7")) fail(end - kLocator, "the zip64 locator is missing");
    const auto place = Record{locator}.at<std::uint64_t>(8);
    const std::string record = text(place, kEnd64, "the zip64 end record");
    if (!record.starts_with("PK\6\6")) fail(place, "the zip64 end record is missing");
    n_members_ = Record{record}.at<std::uint64_t>(32);
    directory_bytes_ = Record{record}.at<std::uint64_t>(40);
    directory_ = Record{record}.at<std::uint64_t>(48);
  }

  /// Bytes of the entry.
  std::uint64_t read_member(const std::string& directory, std::uint64_t at,
                            std::map<std::string, ZipMember>& members) const {
    const std::uint64_t place = directory_ + at;
    if (directory.size() - at < kCentral || directory.compare(at, 4, "PK\1\2") != 0)
      fail(place, "the zip directory ends before its last member");
    const Record entry{std::string_view(directory).substr(at, kCentral)};
    const std::uint64_t name_bytes = entry.at<std::uint16_t>(28), extra_bytes = entry.at<std::uint16_t>(30),
                        size = kCentral + name_bytes + extra_bytes + entry.at<std::uint16_t>(32);
    if (directory.size() - at < size) fail(place, "the zip directory ends inside a member");
    const std::string name = directory.substr(at + kCentral, name_bytes);
    if ((entry.at<std::uint16_t>(8) & 1) != 0) fail(place, "a member of the zip file is encrypted, expected none");
    if (entry.at<std::uint16_t>(10) != 0)
      fail(place, "a member of the zip file is compressed, expected all stored as torch.save does",
           "load it with torch and save it as safetensors");
    std::uint64_t packed = entry.at<std::uint32_t>(20), unpacked = entry.at<std::uint32_t>(24),
                  local = entry.at<std::uint32_t>(42);
    widen(std::string_view(directory).substr(at + kCentral + name_bytes, extra_bytes), place,
          {&unpacked, &packed, &local});
    if (packed != unpacked) fail(place, "a stored member of the zip file has two sizes, expected one");
    const std::string header = text(local, kLocal, "a zip member");
    if (!header.starts_with("PK\3\4")) fail(local, "a zip member's header is not where the directory says");
    const std::uint64_t before =
        kLocal + std::uint64_t{Record{header}.at<std::uint16_t>(26)} + Record{header}.at<std::uint16_t>(28);
    if (before > file_.size() - local || packed > file_.size() - local - before)
      fail(local, "a zip member needs " + std::to_string(packed) + " bytes, the file ends first");
    if (text(local + kLocal, Record{header}.at<std::uint16_t>(26), "a zip member's name") != name)
      fail(local, "a zip member has another name than the directory says");
    if (!members.emplace(name, ZipMember{local + before, packed}).second)
      fail(place, "two members of the zip file have one name, expected each once");
    return size;
  }
  /// Sizes that do not fit in 32 bits stand in an extra field, those alone and in this order.
  void widen(std::string_view extra, std::uint64_t place, std::array<std::uint64_t*, 3> sizes) const {
    while (extra.size() >= 4) {
      const Record field{extra};
      const std::size_t bytes = field.at<std::uint16_t>(2);
      if (bytes > extra.size() - 4) fail(place, "an extra field of a zip member is cut short");
      if (field.at<std::uint16_t>(0) == 1) {
        std::string_view values = extra.substr(4, bytes);
        for (std::uint64_t* size : sizes) {
          if (*size != 0xffffffff) continue;
          if (values.size() < 8) fail(place, "the zip64 field of a member is cut short");
          *size = Record{values}.at<std::uint64_t>(0);
          values.remove_prefix(8);
        }
        return;
      }
      extra.remove_prefix(4 + bytes);
    }
  }

  const File& file_;
  std::uint64_t n_members_ = 0, directory_bytes_ = 0, directory_ = 0;
};

}  // namespace

std::map<std::string, ZipMember> read_zip(const File& file) { return ZipReader(file).read(); }

}  // namespace ropewalk::formats::torch
