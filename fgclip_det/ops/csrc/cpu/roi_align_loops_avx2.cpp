// The loops for x86-64 processors since 2013; elsewhere the baseline under another name.

#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define FGCLIP_DET_F16C
#endif

#include "roi_align_loops.h"

namespace fgclip_det {

template <typename scalar_t>
const Loops<scalar_t>& avx2_loops() {
  return kLoops<scalar_t>;
}

template const Loops<float>& avx2_loops<float>();
template const Loops<double>& avx2_loops<double>();
template const Loops<Half>& avx2_loops<Half>();
template const Loops<BFloat16>& avx2_loops<BFloat16>();

}  // namespace fgclip_det

#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
