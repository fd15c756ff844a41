#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>

#include "formats/adapters/expert_parameters.h"
#include "formats/adapters/kinds.h"
#include "formats/adapters/peft.h"
#include "formats/adapters/peft_targets.h"
#include "formats/tied_head.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/best_of_rank.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/nearest_word.h"
#include "lib/number_text.h"
#include "lib/recipes.h"
#include "lib/unmerged.h"

namespace ropewalk::formats {
namespace {

std::string number(double value) { return number_text(value, 6); }

/// One change with whose it is and the user's factor.
struct Applied {
  const AdapterModule* module;
  const PeftAdapter* adapter;
  double factor;
};
using Plan = std::map<std::size_t, std::vector<Applied>>;  // by place of the tensor

const std::string& key_of(const AdapterModule& module) { return module.factors.front()->name(); }

[[noreturn]] void fail(const Applied& applied, const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::bad_input, {.path = applied.adapter->weights.string()}, problem, fix);
}

std::string other_base(const PeftAdapter& adapter) {
  return "the adapter was trained on another base" +
         (adapter.base_model.empty() ? std::string() : ": it names '" + adapter.base_model + "'");
}

[[noreturn]] void fail_no_target(const Applied& applied, const std::vector<TensorPtr>& base) {
  const AdapterModule& module = *applied.module;
  refuse_classification_head(*applied.adapter, module);
  std::vector<std::string> names;
  for (const TensorPtr& tensor : base) names.push_back(tensor->name());
  const std::string near = nearest_word(module.target, names, module.target.size() / 4).value_or("");
  if (std::holds_alternative<LowRankChange>(module.change) && module.kind.ends_with(kOfExperts))
    fail(applied,
         "key '" + key_of(module) + "' changes the parameter '" + module.target +
             "', which the base's files do not have",
         "the adapter was trained on another base, or transformers loads these files under other names: merge it "
         "with PEFT");
  fail(applied, "key '" + key_of(module) + "' targets '" + module.target + "', which the base does not have",
       near.empty() ? "the adapter was trained on another base"
                    : "nearest in the base: '" + near + "'; was the adapter trained on another base?");
}

double scale_of(const Applied& applied) {
  const double scale = applied.module->scale * applied.factor;
  if (!std::isfinite(scale))
    throw Error(ErrorKind::bad_input, {.path = applied.adapter->folder.string()},
                "its scale is past the largest number: " + number(applied.factor) + " times " +
                    number(applied.module->scale) + " of its configuration",
                "give a smaller scale");
  return scale;
}

/// The factors as the weight's rows and columns need them; Error(bad_input) naming keys and shapes if they do not fit.
LowRankTerm term_of(const Applied& applied, const LazyTensor& weight) {
  const AdapterModule& module = *applied.module;
  const LowRankChange& change = std::get<LowRankChange>(module.change);
  TensorPtr a = change.a;
  const TensorPtr& b = change.b;
  const std::vector<std::uint64_t>& shape = weight.info().shape;
  if (shape.size() != 2)
    fail(applied,
         "'" + key_of(module) + "' targets '" + weight.name() + "' of shape " + shape_text(shape) +
             ", expected a matrix",
         "the adapter was trained on another architecture");
  if (change.shared_a && a->info().shape[1] > shape[1]) a = upper_left(a, module.rank, shape[1]);
  const std::uint64_t in = a->info().shape[1], out = b->info().shape[0];
  if (stands_transposed(change, weight)) return {transposed(b), transposed(a), scale_of(applied)};
  const auto refuse = [&](const TensorPtr& factor, const char* axis, std::uint64_t found, std::uint64_t expected) {
    fail(applied,
         "'" + factor->name() + "' has shape " + shape_text(factor->info().shape) + ": " + std::to_string(found) + " " +
             axis + ", expected " + std::to_string(expected) + " as '" + weight.name() + "' " + shape_text(shape) +
             " of the base has",
         other_base(*applied.adapter));
  };
  if (in != shape[1]) refuse(a, "inputs", in, shape[1]);
  if (out != shape[0]) refuse(b, "outputs", out, shape[0]);
  return {a, b, scale_of(applied)};
}

/// The tensor in a base tensor's place. It may have another number of rows: a vocabulary grows.
TensorPtr replacement(const Applied& applied, const LazyTensor& weight) {
  const TensorPtr& tensor = std::get<ReplacementChange>(applied.module->change).tensor;
  const std::vector<std::uint64_t>&found = tensor->info().shape, &expected = weight.info().shape;
  const bool vocabulary = weight.name() == kEmbeddingWeight || weight.name() == kHeadWeight;
  const bool fits = found == expected || (vocabulary && found.size() == 2 && found[0] > 0 && found[1] == expected[1]);
  if (!fits)
    fail(applied,
         "'" + tensor->name() + "' has shape " + shape_text(found) + ", expected " + shape_text(expected) + " as '" +
             weight.name() + "' of the base has",
         other_base(*applied.adapter));
  TensorPtr out = labelled(renamed(tensor, weight.name()), weight.info().pairs);
  if (applied.factor == 1) return out;
  if (found != expected)
    throw Error(ErrorKind::usage, {.path = applied.adapter->folder.string()},
                "its scale is " + number(applied.factor) + ", but '" + tensor->name() + "' " + shape_text(found) +
                    " takes the place of '" + weight.name() + "' " + shape_text(expected) +
                    ": of another shape, it cannot be taken in part",
                "give no scale");
  return out;
}

/// Which changes apply to which tensor of `result.base`, to which a head that is tied no longer is added. Lives as long as
/// its plan.
class Planner {
 public:
  Planner(MergeResult& result, const MergeOptions& options) : result_(result), tied_(options.tied_head) {
    for (std::size_t i = 0; i < result.base.size(); ++i) index_.emplace(result.base[i]->name(), i);
    tied_ = tied_ && index_.contains(kEmbeddingWeight) && !index_.contains(kHeadWeight);
  }

  Plan plan(const std::vector<ScaledAdapter>& adapters) {
    std::vector<Applied> all;
    const ExpertTensors experts(result_.base);
    for (const ScaledAdapter& scaled : adapters)
      for (const AdapterModule& module : scaled.adapter->modules) {
        if (is_idle_copy(module, *scaled.adapter)) continue;
        if (!std::holds_alternative<ExpertsChange>(module.change)) {
          all.push_back({&module, scaled.adapter, scaled.scale});
          continue;
        }
        for (AdapterModule& one : experts.changes(module, *scaled.adapter))
          all.push_back({&made_.emplace_back(std::move(one)), scaled.adapter, scaled.scale});
      }
    if (tied_) untie_if_needed(all);
    Plan plan;
    for (const Applied& applied : all) {
      if (dropped_.contains(applied.module) && !result_.untied) continue;
      const auto found = index_.find(applied.module->target);
      const bool head = tied_ && applied.module->target == kHeadWeight;  // is the embedding
      if (found == index_.end() && applied.module->if_there) continue;
      if (found == index_.end() && !head) fail_no_target(applied, result_.base);
      result_.modules.push_back(
          {applied.module->target, applied.module->kind, applied.module->rank, scale_of(applied)});
      plan[head ? index_.at(kEmbeddingWeight) : found->second].push_back(applied);
      if (result_.untied && applied.module->tied_too && !has_own(applied))
        plan[index_.at(applied.module->target == kHeadWeight ? kEmbeddingWeight : kHeadWeight)].push_back(applied);
    }
    return plan;
  }

 private:
  /// A whole tensor that is the base's: what PEFT saves beside adapters of an embedding or a head, trained by nobody.
  bool as_in_base(const AdapterModule& module) const {
    const auto* saved = std::get_if<ReplacementChange>(&module.change);
    const auto found = index_.find(tied_ && module.target == kHeadWeight ? kEmbeddingWeight : module.target);
    return saved && found != index_.end() && same_values(*saved->tensor, *result_.base[found->second]);
  }
  /// A copy that changes nothing. One that does cannot be combined.
  bool is_idle_copy(const AdapterModule& copy, const PeftAdapter& adapter) const {
    if (!copy.base_copy) return false;
    const bool idle = as_in_base(copy);
    if (!idle && adapter.kind == "combination")
      throw Error(ErrorKind::unsupported, {.path = adapter.weights.string()},
                  "'" + key_of(copy) + "' is another tensor than '" + copy.target +
                      "' of the base, and only LoRA deltas are combined",
                  "leave --combine out: changes apply one after the other then");
    return idle;
  }
  /// Of embedding and head, the other has a change of this kind, or a tensor, of its own.
  static bool has_own(const Applied& one) {
    const std::string other = one.module->target == kHeadWeight ? kEmbeddingWeight : kHeadWeight;
    return std::ranges::any_of(one.adapter->modules, [&](const AdapterModule& module) {
      const bool whole = std::holds_alternative<ReplacementChange>(module.change) && !module.base_copy;
      return module.target == other && (whole || module.kind == one.module->kind);
    });
  }

  /// A tied head becomes a tensor of its own if an adapter changes one of the two, or both but differently.
  void untie_if_needed(const std::vector<Applied>& all) {
    bool embedding = false, head = false;
    for (const Applied& one : all) {
      const bool of_head = one.module->target == kHeadWeight;
      if (of_head ? drop_double(one, all) : one.module->target != kEmbeddingWeight) continue;
      if (one.module->tied_too && as_in_base(*one.module)) continue;
      if (of_head && one.module->tied_too) head = embedding = true;  // saved both, and not the same
      if (!one.module->tied_too && !has_double(one, all)) (of_head ? head : embedding) = true;
    }
    if (!embedding && !head) return;
    if (embedding != head)
      note(
          "adapters change the " + std::string(head ? "head" : "embedding") + " but not the " +
          (head ? "embedding" : "head") +
          " tied to it: the two are apart in what was trained, so lm_head.weight is written and tie_word_embeddings is "
          "false; PEFT 0.21.2 merges low-rank deltas into the one tensor of both");
    else
      note(
          "adapters change the embedding and the head tied to it, each in its own way: lm_head.weight is written and "
          "tie_word_embeddings is false");
    tied_ = false;
    result_.untied = true;
    index_.emplace(kHeadWeight, result_.base.size());
    result_.base.push_back(renamed(result_.base[index_.at(kEmbeddingWeight)], kHeadWeight));
  }

  static bool same_change(const Applied& embedding, const Applied& head) {
    if (embedding.adapter != head.adapter || embedding.module->target != kEmbeddingWeight ||
        head.module->target != kHeadWeight || embedding.module->kind != head.module->kind ||
        embedding.module->scale != head.module->scale)
      return false;
    const auto *e = std::get_if<LowRankChange>(&embedding.module->change),
               *h = std::get_if<LowRankChange>(&head.module->change);
    if (e && h) return same_values(*e->a, *h->a) && same_values(*e->b, *h->b);
    const auto whole = [](const Applied& one) { return std::holds_alternative<ReplacementChange>(one.module->change); };
    return !e && !h && (embedding.module->tied_too || (whole(embedding) && whole(head))) &&
           embedding.module->rows == head.module->rows &&
           same_values(*embedding.module->factors.front(), *head.module->factors.front());
  }
  static bool has_double(const Applied& embedding, const std::vector<Applied>& all) {
    return std::ranges::any_of(all, [&](const Applied& other) { return same_change(embedding, other); });
  }
  /// What an adapter does to embedding and head alike, while they are one, is done once.
  bool drop_double(const Applied& head, const std::vector<Applied>& all) {
    const bool same = std::ranges::any_of(all, [&](const Applied& other) { return same_change(other, head); });
    if (!same) return false;
    dropped_.insert(head.module);
    if (std::holds_alternative<LowRankChange>(head.module->change))
      note("embedding and head are one tensor, for which '" + head.adapter->folder.string() +
           "' has one delta under two names: it is added once, as it was trained; PEFT 0.21.2 adds it twice");
    return true;
  }

  void note(const std::string& line) { result_.notes.push_back(line); }

  MergeResult& result_;
  bool tied_;
  std::unordered_map<std::string, std::size_t> index_;
  std::set<const AdapterModule*> dropped_;
  std::deque<AdapterModule> made_;  // of one module for many experts
};

[[noreturn]] void refuse_unmerged(const Applied& applied) {
  throw Error(
      ErrorKind::unsupported, {.path = applied.adapter->folder.string()},
      "its change of '" + applied.module->target + "' is of kind " + applied.module->kind +
          ", which is no product of two thin matrices: it cannot be computed beside the weight",
      "merge it: what a merge writes is computed without --unmerged, and --measure has nothing to hold it against");
}

/// A tensor and the changes that apply to it, in parts.
struct Changed {
  TensorPtr exact;                  // all but `beside`
  std::vector<LowRankTerm> beside;  // unmerged
};

TensorPtr in_part(const TensorPtr& before, TensorPtr after, double factor) {
  return factor == 1 ? after : with_part_of(before, std::move(after), factor);
}

Changed apply(const TensorPtr& weight, const std::vector<Applied>& changes, bool unmerged) {
  Changed now{weight, {}};
  std::vector<LowRankTerm> terms;
  const auto flush = [&] {
    now.exact = with_low_rank_delta(now.exact, std::move(terms));
    terms.clear();
  };
  const PeftAdapter* before = nullptr;
  for (const Applied& applied : changes) {
    const auto& change = applied.module->change;
    if (std::holds_alternative<LowRankChange>(change)) {
      (unmerged ? now.beside : terms).push_back(term_of(applied, *now.exact));
    } else if (std::holds_alternative<ReplacementChange>(change)) {
      if (before)
        throw Error(ErrorKind::unsupported, {.path = applied.adapter->weights.string()},
                    "'" + key_of(*applied.module) + "' takes the place of '" + weight->name() + "', which '" +
                        before->folder.string() + "' has changed: the change would be lost",
                    "name this adapter first, or merge one of them");
      now.exact = in_part(now.exact, replacement(applied, *now.exact), applied.factor);
    } else if (const auto* delta = std::get_if<DeltaChange>(&change)) {
      if (unmerged && weight->info().shape.size() != 1) refuse_unmerged(applied);
      flush();
      now.exact = delta->add(now.exact, scale_of(applied));
    } else {
      const RewriteChange& rewrite = std::get<RewriteChange>(change);
      if (unmerged && !rewrite.as_trained) refuse_unmerged(applied);
      flush();
      now.exact = in_part(now.exact, rewrite.rewrite(now.exact), applied.factor);
    }
    before = applied.adapter;
  }
  flush();
  return now;
}

/// The type that a tensor is rounded to; nullopt: what was in blocks and is merged stays as exact as it was computed.
std::optional<DType> rounded_to(const LazyTensor& weight, bool merged, const MergeOptions& options) {
  const bool block = is_block_type(weight.dtype());
  if (options.dtype && (is_float(weight.dtype()) || merged || (block && options.blocks))) return options.dtype;
  if (block && options.blocks) return options.blocks;
  if (block && merged) return std::nullopt;
  return weight.dtype();
}

/// A change of a weight in blocks, which no rounding to its type has touched: what takes its place as it is stored, all
/// else as f32 that is read in double.
TensorPtr unrounded(TensorPtr exact) {
  if (exact->has_raw() && is_float(exact->dtype())) return exact;
  TensorInfo info = exact->info();
  info.dtype = DType::f32;
  return std::make_shared<const RelabelledTensor>(std::move(info), std::move(exact));
}

}  // namespace

MergeResult merge_adapters(const std::vector<TensorPtr>& base, const std::vector<ScaledAdapter>& adapters,
                           const MergeOptions& options) {
  MergeResult result;
  result.base = base;
  Planner planner(result, options);
  const Plan plan = planner.plan(adapters);
  for (std::size_t i = 0; i < result.base.size(); ++i) {
    const TensorPtr& weight = result.base[i];
    const auto own = plan.find(i);
    const Changed changed = own == plan.end() ? Changed{weight, {}} : apply(weight, own->second, options.unmerged);
    const bool merged = changed.exact != weight;
    const std::optional<DType> dtype = rounded_to(*weight, merged, options);
    const TensorPtr exact = dtype ? changed.exact : unrounded(changed.exact);
    result.exact.push_back(merged ? exact : nullptr);
    TensorPtr tensor = !dtype                                ? exact
                       : merged || *dtype != weight->dtype() ? cast(exact, *dtype, options.saturate)
                                                             : weight;
    result.tensors.push_back(with_unmerged_delta(std::move(tensor), changed.beside));
  }
  return result;
}

}  // namespace ropewalk::formats
