#pragma once

// What the kernel of the ensemble of scores and its inner loop tell each other; no ATen.

#include <cstdint>

namespace fgclip_det {

// A sum of exponentials of logits: total * e^peak, where peak is the largest of them. NaN where one
// was not finite.
struct LogSum {
  float peak, total;
};

// Adds the logits of one region with `count` more names to both sums, and writes down which of
// these names may have a score above a threshold.
//
// det, vlm, weight: (count,). least: a little less than the threshold's logarithm; shares only fall
// when more names are added, so nothing is missed. likely: has room for count + 1; places in
// [0, count), rising. Returns how many; none where a sum is NaN.
using ScoreLoop = int64_t (*)(const float* det, const float* vlm, const float* weight,
                              int64_t count, float least, LogSum* det_sum, LogSum* vlm_sum,
                              int32_t* likely);

extern const ScoreLoop kScoreLoopAvx2;
extern const ScoreLoop kScoreLoopBaseline;

}  // namespace fgclip_det
