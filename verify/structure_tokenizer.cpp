#include "verify/structure_tokenizer.h"

#include <algorithm>
#include <tuple>

#include "formats/gguf_token_lists.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/pre_tokenizer_names.h"
#include "formats/tokenizers/token_place.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/number_text.h"
#include "lib/plural.h"

namespace ropewalk::verify {
namespace {

struct IdText {
  std::string text;
  bool unused = true;
};

/// What each id stands for, whichever file said it.
std::vector<IdText> id_texts(const Vocabulary& vocabulary) {
  std::vector<IdText> texts;
  for (const Piece& piece : vocabulary.pieces) texts.push_back({piece.text, piece.type == PieceType::unused});
  for (const AddedToken& token : vocabulary.added) {
    if (token.id < 0) continue;
    if (static_cast<std::size_t>(token.id) >= texts.size()) texts.resize(static_cast<std::size_t>(token.id) + 1);
    texts[static_cast<std::size_t>(token.id)] = {token.content, false};
  }
  return texts;
}

struct Difference {
  std::uint64_t count = 0;
  std::string first;  // one line, empty if there is none
  void add(std::string line) {
    if (count++ == 0) first = std::move(line);
  }
};

enum class GgufKind { spm, unigram, bpe };

/// A vocabulary as a GGUF of that kind has it: padded to `size` rows, added tokens as they are shown, spaces in merges
/// spelled.
Vocabulary spelled_in_gguf(const Vocabulary& source, GgufKind kind, std::size_t size) {
  Vocabulary out;
  out.model = source.model;
  out.rules = source.rules;
  std::vector<std::string> notes;
  formats::GgufTokens tokens = kind == GgufKind::unigram ? formats::unigram_tokens(source, size, notes)
                               : kind == GgufKind::spm   ? formats::llama_like_tokens(source, size, notes)
                                                         : formats::bpe_tokens(source, size, notes);
  for (std::size_t id = 0; id < tokens.texts.size(); ++id)
    out.pieces.push_back({std::move(tokens.texts[id]), kind == GgufKind::bpe ? 0 : tokens.scores[id],
                          static_cast<PieceType>(tokens.types[id])});
  std::tie(out.bos, out.eos, out.unk, out.pad) = std::tie(source.bos, source.eos, source.unk, source.pad);
  std::tie(out.add_bos, out.add_eos) = std::tie(source.add_bos, source.add_eos);
  out.chat_templates = source.chat_templates;
  if (kind == GgufKind::unigram) out.unk = std::get<UnigramModel>(source.pipeline->model).unk_id;
  if (kind != GgufKind::bpe) return out;
  GgufBpe& bpe = out.gguf_bpe.emplace();
  bpe.pre = formats::pre_tokenizer_name(source).value_or("unknown");
  for (const std::string& merge : formats::bpe_merges(source)) {
    const std::size_t space = merge.find(' ');
    bpe.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return out;
}

/// A tokenizer.json as it would stand in a GGUF, if the candidate is one. Anything else as it is.
Vocabulary as_in_candidate(const Vocabulary& source, const Vocabulary& candidate) {
  const std::size_t size = std::max<std::size_t>(static_cast<std::size_t>(id_count(source)), candidate.pieces.size());
  if (candidate.model == "spm" && formats::llama_like(source)) return spelled_in_gguf(source, GgufKind::spm, size);
  if (candidate.model == "unigram" && !candidate.pipeline && source.pipeline && source.model == "unigram")
    return spelled_in_gguf(source, GgufKind::unigram, size);
  if (candidate.gguf_bpe && source.pipeline && source.model == "bpe")
    return spelled_in_gguf(source, GgufKind::bpe, size);
  return source;
}

/// What llama.cpp's BPE takes beside the pieces. Names under which words are the same are equal.
Difference compare_bpe(const GgufBpe& source, const GgufBpe& candidate, const Sides& sides) {
  Difference out;
  const auto *x = formats::find_llama_cpp_pre(source.pre), *y = formats::find_llama_cpp_pre(candidate.pre);
  if (!x || !y || !formats::same_words(*x, *y))
    out.add("the pre-tokenizer is '" + candidate.pre + "' in " + sides.candidate + ", '" + source.pre + "' in " +
            sides.source);
  if (source.merges == candidate.merges) return out;
  const auto [a, b] =
      std::mismatch(source.merges.begin(), source.merges.end(), candidate.merges.begin(), candidate.merges.end());
  out.add("merges differ from rank " + std::to_string(a - source.merges.begin()) + " on, " +
          std::to_string(candidate.merges.size()) + " in " + sides.candidate + ", " +
          std::to_string(source.merges.size()) + " in " + sides.source);
  return out;
}

Difference compare_ids(const Vocabulary& source, const Vocabulary& candidate, const Sides& sides) {
  const std::vector<IdText> a = id_texts(source), b = id_texts(candidate);
  Difference out;
  for (std::size_t id = 0; id < std::max(a.size(), b.size()); ++id) {
    const bool in_a = id < a.size() && !a[id].unused, in_b = id < b.size() && !b[id].unused;
    if (!in_a && !in_b) continue;  // padding up to the embedding's rows
    if (in_a && in_b && a[id].text == b[id].text) continue;
    const auto shown = [](bool present, const IdText& text) {
      return present ? "'" + text.text + "'" : std::string("nothing");
    };
    out.add("id " + std::to_string(id) + " is " + shown(in_b, in_b ? b[id] : IdText{}) + " in " + sides.candidate +
            ", " + shown(in_a, in_a ? a[id] : IdText{}) + " in " + sides.source);
  }
  for (std::size_t id = 0; id < std::min(source.pieces.size(), candidate.pieces.size()); ++id) {
    const Piece &x = source.pieces[id], &y = candidate.pieces[id];
    const bool merged_by_score =
        x.type == PieceType::normal && y.type == PieceType::normal && x.text == y.text && a[id].text == x.text;
    if (merged_by_score && !same_value(x.score, y.score))
      out.add("the score of id " + std::to_string(id) + " is " + number_text(y.score, 3) + " in " + sides.candidate +
              ", " + number_text(x.score, 3) + " in " + sides.source);
  }
  return out;
}

/// Special ids and what is added to a text. llama.cpp takes bos 1, eos 2 and unk 0 where a GGUF says nothing (a BPE's bos
/// and eos 11, a unigram's eos 1 and unk 2), and cannot be told that there is none: of such an id only its use counts.
Difference compare_special(const Vocabulary& source, const Vocabulary& candidate, const Sides& sides) {
  Difference out;
  const auto text = [](std::optional<std::int32_t> id) { return id ? std::to_string(*id) : std::string("none"); };
  const bool assumes = candidate.rules == TokenizerRules::llama_cpp && source.rules != TokenizerRules::llama_cpp;
  const bool bpe = candidate.gguf_bpe.has_value(), unigram = candidate.model == "unigram";
  const auto special = [&](const char* name, std::optional<std::int32_t> x, std::optional<std::int32_t> y,
                           std::int32_t assumed) {
    if (x == y || (assumes && !x && y == assumed)) return;
    out.add(std::string(name) + " is " + text(y) + " in " + sides.candidate + ", " + text(x) + " in " + sides.source);
  };
  special("bos", source.bos, candidate.bos, bpe ? 11 : 1);
  special("eos", source.eos, candidate.eos, bpe ? 11 : unigram ? 1 : 2);
  special("unk", source.unk, candidate.unk, unigram ? 2 : 0);
  // Llama's tokenizer in transformers and llama.cpp's agree on what holds where a file says nothing: BOS is added, EOS
  // is not.
  const auto adds = [&](const char* name, bool x, bool y) {
    if (x != y)
      out.add(std::string(name) + " is added to a text by " + (y ? sides.candidate : sides.source) + ", not by " +
              (y ? sides.source : sides.candidate));
  };
  adds("bos", source.bos && source.add_bos.value_or(true), candidate.bos && candidate.add_bos.value_or(true));
  adds("eos", source.eos && source.add_eos.value_or(false), candidate.eos && candidate.add_eos.value_or(false));
  return out;
}

Difference compare_texts(const Vocabulary& source, const Vocabulary& candidate, const Sides& sides,
                         std::span<const std::string> documents, std::uint64_t& tokens) {
  const auto a = formats::Tokenizer::create(source), b = formats::Tokenizer::create(candidate);
  Difference out;
  for (const std::string& document : documents) {
    const auto ids = a->encode(document), others = b->encode(document);
    tokens += ids.size();
    const auto [at, other] = std::mismatch(ids.begin(), ids.end(), others.begin(), others.end());
    if (at == ids.end() && other == others.end()) continue;
    const auto position = at - ids.begin();
    const auto shown = [](const auto& tokenizer, const auto& where, const auto& end) {
      if (where == end) return std::string("nothing");
      return std::to_string(*where) + " '" + formats::on_one_line(tokenizer->piece(*where)) + "'";
    };
    std::string line = "token " + std::to_string(position) + " is " + shown(b, other, others.end()) + " by " +
                       sides.candidate + ", " + shown(a, at, ids.end()) + " by " + sides.source;
    if (const auto place = formats::place_after(*a, std::span(ids).first(static_cast<std::size_t>(position)), document))
      line += ", at " + formats::described(*place);
    out.add(std::move(line));
  }
  return out;
}

/// A template that is lost or changed makes another conversation of the same messages; one that the candidate has besides
/// is told, and decides nothing.
void compare_chat_templates(const Vocabulary& source, const Vocabulary& candidate, const Sides& sides,
                            StructureReport& report) {
  const auto named = [](const Vocabulary& of, const std::string& name) {
    return std::find_if(of.chat_templates.begin(), of.chat_templates.end(),
                        [&](const ChatTemplate& one) { return one.name == name; });
  };
  Difference lost;
  for (const ChatTemplate& one : source.chat_templates) {
    const auto other = named(candidate, one.name);
    if (other == candidate.chat_templates.end()) {
      lost.add("'" + one.name + "' is not in " + sides.candidate);
    } else if (other->text != one.text) {
      const auto at = std::mismatch(one.text.begin(), one.text.end(), other->text.begin(), other->text.end()).first;
      lost.add("'" + one.name + "' differs from byte " + std::to_string(at - one.text.begin()) + " on");
    }
  }
  std::string more;
  for (const ChatTemplate& one : candidate.chat_templates)
    if (named(source, one.name) == source.chat_templates.end()) more += (more.empty() ? "'" : ", '") + one.name + "'";
  if (source.chat_templates.empty() && more.empty()) return;
  std::string detail = lost.count != 0 ? lost.first
                       : source.chat_templates.empty()
                           ? ""
                           : plural(source.chat_templates.size(), "template") + ", all equal";
  if (!more.empty()) detail += (detail.empty() ? "only " : "; only ") + sides.candidate + " has " + more;
  report.items.push_back(
      {"chat template", source.chat_templates.empty() ? std::nullopt : std::optional(lost.count == 0), detail});
  if (!source.chat_templates.empty())
    report.gates.push_back(gate_on("chat_template", static_cast<double>(lost.count), Bound::max, 0));
}

}  // namespace

void compare_tokenizers(const Checkpoint& source, const Checkpoint& candidate, std::span<const std::string> documents,
                        const Sides& sides, StructureReport& report) {
  if (!source.vocabulary && !candidate.vocabulary) {
    report.items.push_back({"vocabulary", std::nullopt, "neither has a tokenizer that is read"});
    return;
  }
  if (!source.vocabulary || !candidate.vocabulary) {
    report.items.push_back(
        {"vocabulary", false, (source.vocabulary ? sides.candidate : sides.source) + " has no tokenizer that is read"});
    report.gates.push_back(gate_on("tokenizer", 1, Bound::max, 0));
    return;
  }
  const Vocabulary expected = as_in_candidate(*source.vocabulary, *candidate.vocabulary);
  Difference ids = compare_ids(expected, *candidate.vocabulary, sides);
  report.items.push_back({"vocabulary", ids.count == 0,
                          ids.count == 0 ? plural(id_texts(*source.vocabulary).size(), "id") + ", all equal"
                                         : differ_text(ids.count) + ": " + ids.first});
  if (expected.gguf_bpe && candidate.vocabulary->gguf_bpe) {
    const Difference bpe = compare_bpe(*expected.gguf_bpe, *candidate.vocabulary->gguf_bpe, sides);
    report.items.push_back({"merges", bpe.count == 0,
                            bpe.count == 0
                                ? plural(expected.gguf_bpe->merges.size(), "merge") + " and pre-tokenizer '" +
                                      candidate.vocabulary->gguf_bpe->pre + "': the same"
                                : bpe.first});
    ids.count += bpe.count;
  }
  const Difference special = compare_special(expected, *candidate.vocabulary, sides);
  report.items.push_back({"special tokens", special.count == 0,
                          special.count == 0 ? "bos, eos, unk and what is added to a text: the same" : special.first});
  std::uint64_t differing = ids.count + special.count;
  if (!documents.empty()) {
    std::uint64_t tokens = 0;
    const Difference texts = compare_texts(*source.vocabulary, *candidate.vocabulary, sides, documents, tokens);
    report.items.push_back({"ids", texts.count == 0,
                            texts.count == 0
                                ? plural(tokens, "id") + " of the text, all equal under each one's own rules"
                                : "the text gives other ids: " + texts.first});
    differing += texts.count;
  }
  report.gates.push_back(gate_on("tokenizer", static_cast<double>(differing), Bound::max, 0));
  compare_chat_templates(*source.vocabulary, *candidate.vocabulary, sides, report);
}

std::optional<Vocabulary> as_in_gguf(const Vocabulary& source, std::size_t n_vocab) {
  const std::size_t size = std::max(static_cast<std::size_t>(id_count(source)), n_vocab);
  if (formats::llama_like(source)) return spelled_in_gguf(source, GgufKind::spm, size);
  if (source.pipeline && source.model == "unigram") return spelled_in_gguf(source, GgufKind::unigram, size);
  if (source.pipeline && source.model == "bpe") return spelled_in_gguf(source, GgufKind::bpe, size);
  return std::nullopt;
}

}  // namespace ropewalk::verify
