// The loops for every processor that the compiler targets by default.

#include "roi_align_loops.h"

namespace fgclip_det {

template <typename scalar_t>
const Loops<scalar_t>& baseline_loops() {
  return kLoops<scalar_t>;
}

template const Loops<float>& baseline_loops<float>();
template const Loops<double>& baseline_loops<double>();
template const Loops<Half>& baseline_loops<Half>();
template const Loops<BFloat16>& baseline_loops<BFloat16>();

}  // namespace fgclip_det
