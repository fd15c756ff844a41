#include "verify/cuda/attentions.h"

namespace ropewalk::verify {

Attentions::Attentions(DeviceMemory& memory, AttentionBy by) : by_(by) {
  if (by != AttentionBy::own) workspace_ = DeviceBuffer(memory, "cuDNN's workspace", CudnnSdpa::kWorkspaceBytes);
  if (by != AttentionBy::cudnn) return;
  library_.emplace();
  if (!library_->why_not().empty()) throw no_cudnn(library_->why_not());
}

bool Attentions::try_library(const SdpaShape& shape, const CudnnSdpa::Pointers& at, Stream& stream, std::string& why) {
  if (!library_) library_.emplace();
  why = library_->plan(shape).why;
  if (!why.empty()) return false;
  constexpr const char* kName = "attention (cuDNN)";
  const std::initializer_list<std::uint64_t> sizes{shape.windows, shape.rows, shape.keys, shape.n_heads,
                                                   shape.head_dim};
  if (const std::string said = library_->run(shape, at, workspace_.as<std::byte>().data, stream.get()); !said.empty())
    stream.failed(kName, sizes, library_->name(), said);
  stream.queued(kName, sizes);
  return true;
}

template <class Element>
void Attentions::attend(const AttentionArgs<Element>& args, std::uint64_t windows, std::uint64_t positions,
                        Stream& stream) {
  if (by_ == AttentionBy::cudnn || (by_ == AttentionBy::automatic && positions >= kFewestPositions)) {
    std::string why;
    const std::optional<SdpaShape> shape = sdpa_shape(args, windows, positions, why);
    if (shape && try_library(*shape, {args.q, args.k, args.v, args.out, args.lse}, stream, why)) {
      ran_library_ = true;
      return;
    }
    if (by_ == AttentionBy::cudnn)
      throw Error(ErrorKind::unsupported, {}, "this attention is not for cuDNN: " + why, "use --attention auto");
    if (refused_.empty()) refused_ = why;
  }
  attention<Element>(args, windows, stream);
  ran_own_ = true;
}
template void Attentions::attend(const AttentionArgs<float>&, std::uint64_t, std::uint64_t, Stream&);
template void Attentions::attend(const AttentionArgs<Bf16>&, std::uint64_t, std::uint64_t, Stream&);
template void Attentions::attend(const AttentionArgs<Fp16>&, std::uint64_t, std::uint64_t, Stream&);

std::string Attentions::name() const {
  const std::string reason = refused_.empty() ? "" : " (" + refused_ + ")";
  if (!ran_library_) return "own attention" + reason;
  if (!ran_own_) return library_->name();
  return library_->name() + ", and own attention " +
         (refused_.empty() ? "of short windows" : "where it refuses" + reason);
}

}  // namespace ropewalk::verify
