#include "verify/kv_cache.h"

#include <algorithm>

namespace ropewalk::verify {

void KvCache::reserve(std::size_t n_kv_heads, std::size_t head_dim, std::size_t positions) {
  head_dim_ = head_dim;
  capacity_ = std::max(capacity_, whole_panels(positions));
  keys_.grow(n_kv_heads * capacity_ * head_dim);
  values_.grow(n_kv_heads * capacity_ * value_stride());
}

void KvCache::store(std::size_t kv_head, std::size_t position, const float* key, const float* value) {
  float* column = keys_.data() + (kv_head * capacity_ + position / kPanel * kPanel) * head_dim_ + position % kPanel;
  for (std::size_t channel = 0; channel < head_dim_; ++channel) column[channel * kPanel] = key[channel];
  std::copy_n(value, head_dim_, values_.data() + (kv_head * capacity_ + position) * value_stride());
}

}  // namespace ropewalk::verify
