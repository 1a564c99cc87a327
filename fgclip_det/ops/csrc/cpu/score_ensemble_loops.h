#pragma once

// The inner loop of the ensemble of scores on the CPU, over the logits of one region with some of
// the names.
//
// score_ensemble_loops_*.cpp compile this file once for each instruction set, as those of RoIAlign
// do theirs, and the same holds for what may be included.

#include <cstdint>

#include "roi_align_vector.h"
#include "score_ensemble_sums.h"

namespace fgclip_det {
namespace {

typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));

constexpr int kWide = 4;  // vectors that are worked on at a time
constexpr int kStep = kWide * kLanes<float>;

FGCLIP_DET_INLINE Vector<float> all_of(float value) { return Vector<float>{} + value; }

FGCLIP_DET_INLINE Bits bits_of(Vector<float> value) {
  Bits bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

FGCLIP_DET_INLINE Vector<float> floats_of(Bits bits) {
  Vector<float> value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

FGCLIP_DET_INLINE bool is_any(const Bits& mask) {
  typedef int64_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = bits_as<Words>(mask);
  return (words[0] | words[1] | words[2] | words[3]) != 0;
}

// e^x for x <= 0, to two units of the last place; what is smaller than the smallest normal number
// gives about that.
//
// e^x = 2^n e^r with r in [-ln 2 / 2, ln 2 / 2]. Adding 1.5 * 2^23 rounds to an integer and leaves
// it in the last bits; ln 2 is taken off in two parts, the first of which times n is exact. The
// polynomial is Taylor's, whose next term is below 2e-8 there, half a unit of the last place.
FGCLIP_DET_INLINE Vector<float> exp_of(Vector<float> x) {
  const Vector<float> least = all_of(-87.0f);
  x = x > least ? x : least;
  const Vector<float> shifted = x * 1.44269504f + 12582912.0f;
  const Vector<float> n = shifted - 12582912.0f;
  const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  constexpr float kFactors[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  Vector<float> series = all_of(1.0f / 5040);
  for (const float factor : kFactors) {
    series = series * r + factor;
  }
  return floats_of(bits_of(series) + (bits_of(shifted) << 23));
}

// Adds the exponentials of more logits to a sum. What is not finite makes it NaN, for good.
FGCLIP_DET_INLINE void add(const float* logits, int64_t count, LogSum* sum) {
  const int64_t whole = count / kStep * kStep;
  Vector<float> peaks[kWide];
  for (Vector<float>& peak : peaks) {
    peak = all_of(sum->peak);
  }
  Bits odd = {};
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int j = 0; j < kWide; ++j) {
      const Vector<float> some = load(logits + i + j * kLanes<float>);
      peaks[j] = some > peaks[j] ? some : peaks[j];
      odd |= some - some != Vector<float>{};
    }
  }
  float peak = sum->peak;
  for (const Vector<float>& some : peaks) {
    for (int lane = 0; lane < kLanes<float>; ++lane) {
      peak = some[lane] > peak ? some[lane] : peak;
    }
  }
  bool is_finite = !is_any(odd);
  for (int64_t i = whole; i < count; ++i) {
    peak = logits[i] > peak ? logits[i] : peak;
    is_finite = is_finite && logits[i] - logits[i] == 0;
  }
  if (!is_finite) {
    sum->total = __builtin_nanf("");
    return;
  }
  Vector<float> totals[kWide] = {};
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int j = 0; j < kWide; ++j) {
      totals[j] += exp_of(load(logits + i + j * kLanes<float>) - peak);
    }
  }
  for (int64_t i = whole; i < count; i += kLanes<float>) {
    // Lanes beyond the last one count as nothing.
    const int64_t left = count - i < kLanes<float> ? count - i : kLanes<float>;
    Vector<float> some = exp_of(load_some(logits + i, left) - peak);
    for (int64_t lane = left; lane < kLanes<float>; ++lane) {
      some[lane] = 0;
    }
    totals[0] += some;
  }
  const Vector<float> total = (totals[0] + totals[1]) + (totals[2] + totals[3]);
  sum->total *= exp_of(all_of(sum->peak - peak))[0];
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    sum->total += total[lane];
  }
  sum->peak = peak;
}

// What is taken off logits to make them logarithms of shares; the peak first, so that what is
// rounded is small where a share is large.
struct Whole {
  explicit FGCLIP_DET_INLINE Whole(const LogSum& sum)
      : peak(sum.peak), log_total(__builtin_logf(sum.total)) {}

  float peak, log_total;
};

FGCLIP_DET_INLINE float ensemble(float det, float vlm, float weight, Whole det_whole,
                                 Whole vlm_whole) {
  return (1.0f - weight) * (det - det_whole.peak - det_whole.log_total) +
         weight * (vlm - vlm_whole.peak - vlm_whole.log_total);
}

FGCLIP_DET_INLINE Vector<float> ensemble(Vector<float> det, Vector<float> vlm, Vector<float> weight,
                                         Whole det_whole, Whole vlm_whole) {
  return (1.0f - weight) * (det - det_whole.peak - det_whole.log_total) +
         weight * (vlm - vlm_whole.peak - vlm_whole.log_total);
}

// See `ScoreLoop`.
int64_t find_likely(const float* det, const float* vlm, const float* weight, int64_t count,
                    float least, LogSum* det_sum, LogSum* vlm_sum, int32_t* likely) {
  add(det, count, det_sum);
  add(vlm, count, vlm_sum);
  if (det_sum->total != det_sum->total || vlm_sum->total != vlm_sum->total) {
    return 0;
  }
  const Whole det_whole(*det_sum), vlm_whole(*vlm_sum);
  int64_t found = 0;
  // What is NaN is not below a threshold.
  const auto look_at = [&](int64_t at) {
    likely[found] = static_cast<int32_t>(at);
    found += !(ensemble(det[at], vlm[at], weight[at], det_whole, vlm_whole) < least);
  };
  const int64_t whole = count / kStep * kStep;
  for (int64_t i = 0; i < whole; i += kStep) {
    Bits hits = {};
    for (int j = 0; j < kWide; ++j) {
      const int64_t at = i + j * kLanes<float>;
      hits |= ~(ensemble(load(det + at), load(vlm + at), load(weight + at), det_whole, vlm_whole) <
                least);
    }
    if (is_any(hits)) {
      for (int64_t at = i; at < i + kStep; ++at) {
        look_at(at);
      }
    }
  }
  for (int64_t at = whole; at < count; ++at) {
    look_at(at);
  }
  return found;
}

}  // namespace
}  // namespace fgclip_det
