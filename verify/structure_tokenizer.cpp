#include "verify/structure_tokenizer.h"

#include <algorithm>
#include <memory>

#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/token_place.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/number_text.h"
#include "lib/plural.h"
#include "verify/spelled_vocabulary.h"

namespace ropewalk::verify {
namespace {

struct Difference {
  std::uint64_t count = 0;
  std::string first;  // one line, empty if there is none
  void add(std::string line) {
    if (count++ == 0) first = std::move(line);
  }
};

/// What llama.cpp's BPE takes beside the pieces. Names under which words are the same are equal.
Difference compare_bpe(const GgufBpe& source, const GgufBpe& candidate, const Sides& sides) {
  Difference out;
  const auto *x = formats::find_llama_cpp_pre(source.pre), *y = formats::find_llama_cpp_pre(candidate.pre);
  if (candidate.pre != kUnknownPre && (!x || !y || !formats::same_words(*x, *y)))
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

const char* name_of(PieceType type) {
  switch (type) {
    case PieceType::normal: return "normal";
    case PieceType::unknown: return "unknown";
    case PieceType::control: return "control";
    case PieceType::user_defined: return "user-defined";
    case PieceType::unused: return "unused";
    case PieceType::byte: return "byte";
  }
  return "";
}

/// Texts and types. A folder's unk is control by its tokenizer.model and unknown by its tokenizer.json, as converters have
/// it: engines match both only where special tokens are looked for.
void compare_meanings(const InOneForm& form, const Sides& sides, Difference& out) {
  const std::vector<IdMeaning> a = id_meanings(form.source), b = id_meanings(form.candidate);
  const auto same_type = [&](std::size_t id) {
    const auto of_unk = [](PieceType type) { return type == PieceType::control || type == PieceType::unknown; };
    const bool unk = form.source.unk == static_cast<std::int32_t>(id) && form.candidate.unk == form.source.unk;
    const bool folder =
        form.source.rules != TokenizerRules::llama_cpp || form.candidate.rules != TokenizerRules::llama_cpp;
    return a[id].type == b[id].type || (unk && folder && of_unk(a[id].type) && of_unk(b[id].type));
  };
  for (std::size_t id = 0; id < std::max(a.size(), b.size()); ++id) {
    const bool in_a = id < a.size() && a[id].type != PieceType::unused,
               in_b = id < b.size() && b[id].type != PieceType::unused;
    if (!in_a && !in_b) continue;  // padding up to the embedding's rows
    const auto shown = [](bool present, const std::vector<IdMeaning>& of, std::size_t at) {
      return present ? "'" + of[at].text + "'" : std::string("nothing");
    };
    const std::string prefix = "id " + std::to_string(id);
    if (!in_a || !in_b || a[id].text != b[id].text)
      out.add(prefix + " is " + shown(in_b, b, id) + " in " + sides.candidate + ", " + shown(in_a, a, id) + " in " +
              sides.source);
    else if (!same_type(id))
      out.add(prefix + " '" + formats::on_one_line(a[id].text) + "' is " + name_of(b[id].type) + " in " +
              sides.candidate + ", " + name_of(a[id].type) + " in " + sides.source);
  }
}

/// Pieces merged by score on both sides.
std::vector<std::size_t> merged_by_score(const InOneForm& form) {
  const std::vector<IdMeaning> a = id_meanings(form.source), b = id_meanings(form.candidate);
  std::vector<std::size_t> out;
  for (std::size_t id = 0; id < std::min(a.size(), b.size()); ++id)
    if (a[id].type == PieceType::normal && b[id].type == PieceType::normal && a[id].text == b[id].text)
      out.push_back(id);
  return out;
}

void compare_scores(const InOneForm& form, const Sides& sides, Difference& out) {
  for (const std::size_t id : merged_by_score(form)) {
    const Piece &x = form.source.pieces[id], &y = form.candidate.pieces[id];
    if (!same_value(x.score, y.score))
      out.add("the score of id " + std::to_string(id) + " is " + number_text(y.score, 3) + " in " + sides.candidate +
              ", " + number_text(x.score, 3) + " in " + sides.source);
  }
}

/// Where one side has ranks for scores: the other's must fall as they do. Of rank 0 are pieces that no merge makes.
void compare_order(const InOneForm& form, const Sides& sides, Difference& out) {
  const bool by_source = form.ranked == InOneForm::Ranked::source;
  const std::vector<Piece>&ranked = (by_source ? form.source : form.candidate).pieces,
        &scored = (by_source ? form.candidate : form.source).pieces;
  std::vector<std::size_t> ids = merged_by_score(form);
  std::erase_if(ids, [&](std::size_t id) { return !(ranked[id].score < 0); });
  std::sort(ids.begin(), ids.end(), [&](std::size_t x, std::size_t y) { return ranked[x].score > ranked[y].score; });
  for (std::size_t at = 1; at < ids.size(); ++at) {
    const std::size_t x = ids[at - 1], y = ids[at];
    if (scored[x].score > scored[y].score) continue;
    out.add("id " + std::to_string(x) + " '" + ranked[x].text + "' is merged before id " + std::to_string(y) + " '" +
            ranked[y].text + "' in " + (by_source ? sides.source : sides.candidate) + ", not in " +
            (by_source ? sides.candidate : sides.source));
  }
}

Difference compare_ids(const InOneForm& form, const Sides& sides) {
  Difference out;
  compare_meanings(form, sides, out);
  if (form.ranked == InOneForm::Ranked::none) compare_scores(form, sides, out);
  else compare_order(form, sides, out);
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
  // a folder's tokenizer may leave it to config.json, and only rows of the embedding have ids
  const bool named = source.pad && (!assumes || *source.pad < static_cast<std::int64_t>(candidate.pieces.size()));
  if (named || !assumes) special("pad", source.pad, candidate.pad, -1);
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

/// Two tokenizers on one text.
struct Pair {
  std::unique_ptr<formats::Tokenizer> source, candidate;
};

/// The texts of the control tokens that the source knows as such, one after another.
std::string control_texts(const InOneForm& form, const formats::Tokenizer& source) {
  std::string out;
  const std::vector<IdMeaning> meanings = id_meanings(form.source);
  for (std::size_t id = 0; id < meanings.size(); ++id) {
    const std::string& text = meanings[id].text;
    const std::vector<std::int32_t> alone = {static_cast<std::int32_t>(id)};
    if (meanings[id].type == PieceType::control && source.encode(text, true) == alone) out += text;
  }
  return out;
}

Difference compare_texts(const Pair& tokenizers, const Sides& sides, std::span<const std::string> documents,
                         bool parse_special, std::uint64_t& tokens) {
  const auto& [a, b] = tokenizers;
  Difference out;
  for (const std::string& document : documents) {
    const auto ids = a->encode(document, parse_special), others = b->encode(document, parse_special);
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
  const InOneForm form = in_one_form(*source.vocabulary, *candidate.vocabulary);
  const Vocabulary &expected = form.source, &found = form.candidate;
  Difference ids = compare_ids(form, sides);
  report.items.push_back({"vocabulary", ids.count == 0,
                          ids.count == 0 ? plural(id_meanings(*source.vocabulary).size(), "id") + ", all equal"
                                         : differ_text(ids.count) + ": " + ids.first});
  if (expected.gguf_bpe && found.gguf_bpe) {
    const Difference bpe = compare_bpe(*expected.gguf_bpe, *found.gguf_bpe, sides);
    report.items.push_back({"merges", bpe.count == 0,
                            bpe.count == 0 ? plural(expected.gguf_bpe->merges.size(), "merge") +
                                                 " and pre-tokenizer '" + found.gguf_bpe->pre + "': the same"
                                           : bpe.first});
    ids.count += bpe.count;
  }
  const Difference special = compare_special(expected, found, sides);
  report.items.push_back(
      {"special tokens", special.count == 0,
       special.count == 0 ? "bos, eos, unk, pad and what is added to a text: the same" : special.first});
  std::uint64_t differing = ids.count + special.count;
  if (!documents.empty()) {
    std::uint64_t tokens = 0;
    const Pair tokenizers{formats::Tokenizer::create(*source.vocabulary),
                          formats::Tokenizer::create(*candidate.vocabulary)};
    const Difference texts = compare_texts(tokenizers, sides, documents, false, tokens);
    report.items.push_back({"ids", texts.count == 0,
                            texts.count == 0
                                ? plural(tokens, "id") + " of the text, all equal under each one's own rules"
                                : "the text gives other ids: " + texts.first});
    differing += texts.count;
    const std::string controls = control_texts(form, *tokenizers.source);
    const Difference special_ids = compare_texts(tokenizers, sides, std::span(&controls, 1), true, tokens);
    if (special_ids.count != 0)
      report.items.push_back({"special ids", false, "control tokens' texts give other ids: " + special_ids.first});
    differing += special_ids.count;
  }
  report.gates.push_back(gate_on("tokenizer", static_cast<double>(differing), Bound::max, 0));
  compare_chat_templates(*source.vocabulary, *candidate.vocabulary, sides, report);
}

}  // namespace ropewalk::verify
