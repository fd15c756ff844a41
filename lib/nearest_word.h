#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ropewalk {

/// The known word nearest to `word`, for "did you mean"; nullopt if none is near: at most `most_edits` letters away by
/// edit distance (0: a third of its letters, at least one). Of equally near ones the first. A word of four letters or
/// more that a known one begins with counts as one edit.
std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known,
                                        std::size_t most_edits = 0);

}  // namespace ropewalk
