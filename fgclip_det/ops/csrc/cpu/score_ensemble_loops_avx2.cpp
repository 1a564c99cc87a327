// The loop for x86-64 processors since 2013; elsewhere the baseline under another name.

#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define FGCLIP_DET_F16C
#endif

#include "score_ensemble_loops.h"

namespace fgclip_det {

const ScoreLoop kScoreLoopAvx2 = find_likely;

}  // namespace fgclip_det

#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
