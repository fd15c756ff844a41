#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lib/pending_file.h"
#include "lib/temporary.h"

namespace ropewalk {

/// The steps by which a PendingFolder takes its name, for finish_together(): flush, publish, then settle or take_back.
struct PendingFolder::State {
  std::string name;  // as given, for messages
  std::filesystem::path target;
  WriteOptions options;
  std::optional<Temporary> building;
  std::filesystem::path building_path;

  std::optional<std::vector<std::string>> names = std::nullopt;  // of all its files, once they are known

  void refuse_to_lose() const;
  void flush() const;
  /// Gives the folder its name. An old folder of that name stays until settle(), hidden.
  void publish();
  /// The old folder goes.
  void settle();
  /// Instead of settle(): both folders stay. Where the old one lies now, under a name that no run reaps or replaces;
  /// empty if there was none.
  std::filesystem::path keep_old();
  /// After publish(): as before it.
  void take_back() noexcept;

 private:
  enum class Step { building, created, exchanged, moved } step_ = Step::building;
  std::filesystem::path moved_away() const;
  void replace();
  void replace_in_two_steps();
};

}  // namespace ropewalk
