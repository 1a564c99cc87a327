// The loops for x86-64 processors since 2013; elsewhere the baseline under another name.

#include "avx2_begin.h"

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

#include "avx2_end.h"
