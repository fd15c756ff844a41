#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>

#include "lib/error.h"
#include "lib/pending_folder_state.h"
#include "lib/plural.h"

namespace ropewalk {
namespace fs = std::filesystem;
namespace {

/// True if a folder that may be replaced stands there; throws for what may not.
bool check_target(const fs::path& target, const std::string& name, bool overwrite) {
  struct stat status {};
  if (::lstat(target.c_str(), &status) != 0) {
    if (errno == ENOENT) return false;
    throw_output_error(name, "look at the target", errno);
  }
  if (!overwrite) throw_exists(name);
  if (!S_ISDIR(status.st_mode))
    throw Error(ErrorKind::io, {.path = name}, "is not a folder, and a folder is to be written", "choose another name");
  if (::faccessat(AT_FDCWD, target.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) != 0)
    throw_output_error(name, "replace the folder", errno);  // its files could not go
  std::error_code error;
  bool empty = true;
  for (fs::directory_iterator entry(target, error), end; !error && entry != end; entry.increment(error)) {
    empty = false;
    if (entry->is_directory(error) && !entry->is_symlink(error))  // a slip of the pen must not delete somebody's home
      throw Error(ErrorKind::io, {.path = name},
                  "holds the folder '" + entry->path().filename().native() + "', so it is not replaced as a whole",
                  "remove it yourself or choose another name");
  }
  if (!empty && !fs::exists(target / "config.json", error) && !fs::exists(target / "adapter_config.json", error))
    throw Error(ErrorKind::io, {.path = name}, "is not a model's folder (it has no config.json), so it is not replaced",
                "remove it yourself or choose another name");
  return true;
}

/// model.safetensors, model-00001-of-00002.safetensors and their index: a checkpoint's, whatever it was.
bool is_weights(std::string_view name) {
  if (name == "model.safetensors" || name == "model.safetensors.index.json") return true;
  constexpr std::string_view kPattern = "model-00000-of-00000.safetensors";
  return std::equal(name.begin(), name.end(), kPattern.begin(), kPattern.end(),
                    [](char c, char wanted) { return wanted == '0' ? c >= '0' && c <= '9' : c == wanted; });
}

}  // namespace

void check_folder_target(const fs::path& target, bool overwrite) {
  (void)check_target(checked_target(target), target.native(), overwrite);
}

PendingFolder::PendingFolder(fs::path target, const WriteOptions& options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.name = target.native();
  s.target = checked_target(target);
  s.options = options;
  (void)check_target(s.target, s.name, options.overwrite);
  reap_temporaries(s.target.parent_path());
  s.building.emplace(Temporary::create(s.target, s.name, Temporary::Kind::folder));
  s.building_path = s.building->path();
}

PendingFolder::~PendingFolder() = default;

const fs::path& PendingFolder::building() const noexcept { return state_->building_path; }
WriteOptions PendingFolder::inside(const std::string& name) const {
  return {.sync = state_->options.sync, .named = state_->options.named, .called = fs::path(state_->name) / name};
}
const fs::path& PendingFolder::target() const noexcept { return state_->target; }

void PendingFolder::refuse_to_lose(const std::vector<std::string>& names) {
  state_->names = names;
  state_->refuse_to_lose();
}

void PendingFolder::State::refuse_to_lose() const {
  if (!names) return;
  const auto goes = [&](const std::string& file) {
    return std::find(names->begin(), names->end(), file) == names->end() && !is_weights(file);
  };
  std::vector<std::string> lost;
  std::error_code error;
  fs::directory_iterator entry(target, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error))
    if (const std::string file = entry->path().filename().native(); goes(file)) lost.push_back(file);
  if (error && error != std::errc::no_such_file_or_directory)
    throw_output_error(name, "look into the folder to be replaced", error.value());
  if (lost.empty()) return;
  std::sort(lost.begin(), lost.end());
  const std::string others = lost.size() > 1 ? " and " + plural(lost.size() - 1, "other file") : "";
  throw Error(ErrorKind::io, {.path = name},
              "holds '" + lost.front() + "'" + others + ", which the new folder would not, so it is not replaced",
              "move what is yours away, or choose another name");
}

void PendingFolder::State::flush() const {
  if (options.sync) sync_folder(building_path, building->descriptor());
}

void PendingFolder::State::publish() {
  if (check_target(target, name, options.overwrite)) {
    refuse_to_lose();  // again: hours may lie between
    return replace();
  }
  if (!rename_with_flags(building_path, target, RENAME_NOREPLACE)) {
    if (errno == EEXIST) throw_exists(name);
    // rename alone replaces nothing but an empty folder
    if ((errno != EINVAL && errno != ENOSYS) || ::rename(building_path.c_str(), target.c_str()) != 0)
      throw_output_error(name, "give the folder its name", errno);
  }
  step_ = Step::created;
}

void PendingFolder::State::replace() {
  if (options.named) return replace_in_two_steps();
  if (rename_with_flags(building_path, target, RENAME_EXCHANGE)) {
    step_ = Step::exchanged;
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) throw_output_error(name, "replace the folder", errno);
  replace_in_two_steps();
}

/// Where folders cannot be exchanged: the old folder stands beside the target under a name that no run reaps.
fs::path PendingFolder::State::moved_away() const {
  return target.parent_path() / ("." + target.filename().native() + ".ropewalk-replaced");
}

void PendingFolder::State::replace_in_two_steps() {
  const fs::path old = moved_away();
  remove_tree(old.c_str());  // of a run that died here: a folder it was told to replace
  if (::rename(target.c_str(), old.c_str()) != 0) throw_output_error(name, "move the old folder away", errno);
  if (::rename(building_path.c_str(), target.c_str()) != 0) {
    const int failure = errno;
    (void)::rename(old.c_str(), target.c_str());
    throw_output_error(name, "give the folder its name", failure);
  }
  step_ = Step::moved;
}

void PendingFolder::State::settle() {
  if (step_ == Step::exchanged) {
    building.reset();  // its name holds the old folder, which goes
    return;
  }
  building->release();
  if (step_ == Step::moved) remove_tree(moved_away().c_str());
}

fs::path PendingFolder::State::keep_old() {
  building->release();  // what has its name now is the old folder, or nothing
  if (step_ != Step::exchanged && step_ != Step::moved) return {};
  const fs::path from = step_ == Step::exchanged ? building_path : moved_away();
  for (int number = 1; number <= 100; ++number) {
    const fs::path kept = target.parent_path() / ("." + target.filename().native() + ".ropewalk-kept" +
                                                  (number > 1 ? "-" + std::to_string(number) : ""));
    if (::rename(from.c_str(), kept.c_str()) == 0) return kept;  // replaces nothing but an empty folder
    if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) break;
  }
  return from;
}

void PendingFolder::State::take_back() noexcept {
  if (step_ == Step::exchanged) {
    (void)rename_with_flags(building_path, target, RENAME_EXCHANGE);
  } else if (step_ != Step::building) {
    (void)::rename(target.c_str(), building_path.c_str());
    if (step_ == Step::moved) (void)::rename(moved_away().c_str(), target.c_str());
  }
  step_ = Step::building;
}

void PendingFolder::finish() { finish_together({.files = {}, .folders = {this}, .replaced = {}}); }

}  // namespace ropewalk
