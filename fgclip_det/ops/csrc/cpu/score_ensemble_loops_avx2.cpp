// The loop for x86-64 processors since 2013; elsewhere the baseline under another name.

#include "avx2_begin.h"

#include "score_ensemble_loops.h"

namespace fgclip_det {

const ScoreLoop kScoreLoopAvx2 = find_likely;

}  // namespace fgclip_det

#include "avx2_end.h"
