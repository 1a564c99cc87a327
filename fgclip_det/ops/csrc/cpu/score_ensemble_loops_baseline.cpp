// The loop for every processor that the compiler targets by default.

#include "score_ensemble_loops.h"

namespace fgclip_det {

const ScoreLoop kScoreLoopBaseline = find_likely;

}  // namespace fgclip_det
