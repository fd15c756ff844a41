#include "formats/tokenizers/llama_cpp_specials.h"

#include <algorithm>
#include <array>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/ascii_case.h"

namespace ropewalk::formats {

bool llama_cpp_ends_text(std::string_view text) {
  static constexpr std::string_view kEnd[] = {"<|eot_id|>",
                                              "<|im_end|>",
                                              "<|end|>",
                                              "<|return|>",
                                              "<|call|>",
                                              "<|flush|>",
                                              "<|calls|>",
                                              "<end_of_turn>",
                                              "<|endoftext|>",
                                              "</s>",
                                              "<|eom_id|>",
                                              "<EOT>",
                                              "_<EOT>",
                                              "[EOT]",
                                              "[EOS]",
                                              "<|end_of_text|>",
                                              "<end_of_utterance>",
                                              "<eos>",
                                              "<turn|>",
                                              "<|tool_response>",
                                              "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                              "[e~["};
  return std::find(std::begin(kEnd), std::end(kEnd), text) != std::end(kEnd);
}

std::vector<Piece> llama_cpp_pieces(std::vector<Piece> pieces) {
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (pieces[id].text.empty()) pieces[id].text = "[EMPTY_" + std::to_string(id) + "]";
  return pieces;
}

LlamaCppSpecials::LlamaCppSpecials(std::span<const Piece> pieces, std::span<const AddedToken> added,
                                   const PieceIndex& index)
    : pieces_(pieces), attributes_(pieces.size()) {
  for (std::size_t id = 0; id < pieces_.size(); ++id) {
    const Piece& piece = pieces_[id];
    // Types are overridden by text: what looks like an end of turn or fill-in-the-middle marker is a control token.
    attributes_[id].control = piece.type == PieceType::control || piece.type == PieceType::unknown ||
                              llama_cpp_ends_text(piece.text) || piece.text == "<|file_sep|>";
    attributes_[id].user_defined = piece.type == PieceType::user_defined;
  }
  override_by_text(index);
  for (const AddedToken& token : added) {
    if (token.id < 0 || static_cast<std::size_t>(token.id) >= pieces_.size()) continue;
    attributes_[static_cast<std::size_t>(token.id)].lstrip = token.lstrip;
    attributes_[static_cast<std::size_t>(token.id)].rstrip = token.rstrip;
  }
  for (std::size_t id = 0; id < pieces_.size(); ++id)
    if (attributes_[id].control || attributes_[id].user_defined) special_.push_back(static_cast<std::int32_t>(id));
  // Not stable_sort: the engine's std::sort decides between tokens of one length, which matters where two of them
  // overlap.
  std::sort(special_.begin(), special_.end(),
            [this](std::int32_t a, std::int32_t b) { return text_of(a).size() > text_of(b).size(); });
}

void LlamaCppSpecials::override_by_text(const PieceIndex& index) {
  // Of each group of markers only the first one met becomes one; which that is depends on the engine's hash order if
  // there are several.
  static constexpr std::array<std::array<std::string_view, 8>, 5> kFillIn = {{
      {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uFF5Cfim\u2581begin\uFF5C>", "<PRE>", "\u2581<PRE>",
       "<|code_prefix|>", "<|prefix|>"},
      {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uFF5Cfim\u2581hole\uFF5C>", "<SUF>", "\u2581<SUF>",
       "<|code_suffix|>", "<|suffix|>"},
      {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uFF5Cfim\u2581end\uFF5C>", "<MID>", "\u2581<MID>",
       "<|code_middle|>", "<|middle|>"},
      {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", {}, {}, {}},
      {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", {}, {}, {}},
  }};
  const auto found = [&](std::string_view text) -> Attributes* {
    const std::int32_t id = text.empty() ? -1 : index.find(text);
    return id < 0 ? nullptr : &attributes_[static_cast<std::size_t>(id)];
  };
  for (const auto& group : kFillIn)
    for (std::string_view text : group)
      if (Attributes* attributes = found(text)) {
        attributes->control = true;
        break;
      }
  for (std::string_view text : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
    if (Attributes* attributes = found(text)) *attributes = {.user_defined = true};
  // Families whose end tokens are named like other families' plain ones.
  Attributes* const end = found("<|end|>");
  const bool calls = found("<|call|>") || found("<|calls|>");
  if (end && calls && (found("<|return|>") || found("<|flush|>"))) *end = {.user_defined = true};
  if (Attributes* const close = found("</s>"); close && (found("<|tool_response>") || found("<|plamo:eos|>")))
    *close = {.normal = true};
}

/// Replaces the token's occurrences in `text`, from the left, by the token.
void LlamaCppSpecials::split(std::string_view text, std::int32_t id, std::vector<Fragment>& out) const {
  const std::string_view token = text_of(id);
  const Attributes& attributes = attributes_[static_cast<std::size_t>(id)];
  while (true) {
    const std::size_t hit = text.find(token);
    if (hit == std::string_view::npos) {
      out.push_back({text, std::nullopt});
      return;
    }
    std::string_view left = text.substr(0, hit);
    while (attributes.lstrip && !left.empty() && is_space_byte(left.back())) left.remove_suffix(1);
    if (!left.empty()) out.push_back({left, std::nullopt});
    out.push_back({{}, id});
    text.remove_prefix(hit + token.size());
    while (attributes.rstrip && !text.empty() && is_space_byte(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
  }
}

std::vector<LlamaCppSpecials::Fragment> LlamaCppSpecials::partition(std::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments;
  if (!text.empty()) fragments.push_back({text, std::nullopt});
  for (std::int32_t id : special_) {
    if (!parse_special && attributes_[static_cast<std::size_t>(id)].control) continue;
    std::vector<Fragment> next;
    for (const Fragment& fragment : fragments) {
      if (fragment.token) {
        next.push_back(fragment);
      } else {
        split(fragment.text, id, next);
      }
    }
    fragments = std::move(next);
  }
  return fragments;
}

void set_llama_cpp_attributes(Vocabulary& vocabulary, std::string_view general_name) {
  const std::string name = lower_case(std::string(general_name));
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    const bool special = piece.type == PieceType::control || piece.type == PieceType::unknown ||
                         piece.type == PieceType::user_defined || llama_cpp_ends_text(piece.text);
    if (!special || piece.text == "<unk>" || piece.text == "<s>" || piece.text == "<|endoftext|>") continue;
    vocabulary.added.push_back({.id = static_cast<std::int32_t>(id), .content = piece.text, .rstrip = true});
  }
}

}  // namespace ropewalk::formats
