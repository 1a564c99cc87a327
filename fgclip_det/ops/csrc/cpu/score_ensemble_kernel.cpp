#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <torch/library.h>

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <vector>

#include "instruction_sets.h"
#include "score_ensemble_sums.h"

// The loop over names stands in score_ensemble_loops.h.

namespace fgclip_det {
namespace {

// Names whose logits are made at a time: those of a hundred regions with them stay in the cache.
constexpr int64_t kNames = 512;
// What rounding may add to the logarithm of a score.
constexpr float kSlack = 1e-3f;

// A name that a region may have.
struct Likely {
  int32_t column;
  float det, vlm;  // logits
  float score;     // once all names are known
};

void check(const at::Tensor& tensor, const char* name, at::IntArrayRef size) {
  TORCH_CHECK_VALUE(tensor.sizes() == size, name, " must be of shape ", size, ", not ",
                    tensor.sizes());
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat, name, " must be float32, not ",
                    tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.is_cpu(), name, " must be on the CPU, as det is");
}

// Both sums of all regions, and what may be above the threshold.
class Scores {
 public:
  // det, vlm: (K, D); backgrounds: (2, D).
  Scores(const at::Tensor& det, const at::Tensor& vlm, const at::Tensor& backgrounds)
      : count_(det.size(0)), regions_(at::cat({det, vlm})), sums_(2 * count_), likely_(count_) {
    const at::Tensor own[] = {det.mv(backgrounds[0]), vlm.mv(backgrounds[1])};
    for (int64_t i = 0; i < 2 * count_; ++i) {
      const float logit = own[i / count_].const_data_ptr<float>()[i % count_];
      // The loop sees that names are finite, and the background is the first of the sum.
      sums_[i] = {logit, std::isfinite(logit) ? 1.0f : NAN};
    }
  }

  // names: (C, D); weight: (C,), contiguous.
  void look_for(const at::Tensor& names, const at::Tensor& weight, double score_thr) {
    const float least = score_thr > 0 ? std::log(score_thr) - kSlack : -INFINITY;
    const ScoreLoop loop = runs_avx2() ? kScoreLoopAvx2 : kScoreLoopBaseline;
    for (int64_t start = 0; start < names.size(0); start += kNames) {
      const int64_t columns = std::min(kNames, names.size(0) - start);
      if (start == 0 || columns < kNames) {
        logits_ = at::empty({2 * count_, columns}, regions_.options());
      }
      at::mm_out(logits_, regions_, names.narrow(0, start, columns).t());
      const float* det = logits_.const_data_ptr<float>();
      const float* vlm = det + count_ * columns;
      const float* weights = weight.const_data_ptr<float>() + start;
      at::parallel_for(0, count_, 16, [&](int64_t begin, int64_t end) {
        int32_t found[kNames + 1];
        for (int64_t i = begin; i < end; ++i) {
          const float *own_det = det + i * columns, *own_vlm = vlm + i * columns;
          const int64_t total =
              loop(own_det, own_vlm, weights, columns, least, &sums_[i], &sums_[count_ + i], found);
          for (int64_t j = 0; j < total; ++j) {
            const int32_t column = static_cast<int32_t>(start) + found[j];
            likely_[i].push_back({column, own_det[found[j]], own_vlm[found[j]], 0});
          }
        }
      });
    }
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor> above(const at::Tensor& weight, double score_thr) {
    const float* weights = weight.const_data_ptr<float>();
    const float threshold = std::clamp<double>(score_thr, -FLT_MAX, FLT_MAX);
    std::vector<int64_t> ends(count_ + 1);
    at::parallel_for(0, count_, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        keep_above(threshold, weights, sums_[i], sums_[count_ + i], weight.size(0), &likely_[i]);
        ends[i + 1] = likely_[i].size();
      }
    });
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    const at::Tensor rows = at::empty({ends[count_]}, at::kLong), columns = at::empty_like(rows),
                     scores = at::empty({ends[count_]}, at::kFloat);
    int64_t* to_rows = rows.mutable_data_ptr<int64_t>();
    int64_t* to_columns = columns.mutable_data_ptr<int64_t>();
    float* to_scores = scores.mutable_data_ptr<float>();
    at::parallel_for(0, count_, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t at = ends[i];
        for (const Likely& name : likely_[i]) {
          to_rows[at] = i;
          to_columns[at] = name.column;
          to_scores[at++] = name.score;
        }
      }
    });
    return {rows, columns, scores};
  }

 private:
  // Gives the names of one region their scores, and drops those below the threshold.
  static void keep_above(float threshold, const float* weights, const LogSum& det,
                         const LogSum& vlm, int64_t num_names, std::vector<Likely>* names) {
    const float det_log = std::log(det.total), vlm_log = std::log(vlm.total);
    if (std::isnan(det_log + vlm_log)) {
      names->assign(num_names > 0 ? 1 : 0, {0, NAN, NAN, NAN});
      return;
    }
    size_t kept = 0;
    for (Likely name : *names) {
      const float weight = weights[name.column];
      name.score = std::exp((1 - weight) * (name.det - det.peak - det_log) +
                            weight * (name.vlm - vlm.peak - vlm_log));
      if (!(name.score <= threshold)) {
        (*names)[kept++] = name;
      }
    }
    names->resize(kept);
  }

  int64_t count_;
  at::Tensor regions_, logits_;  // (2K, D), the detector's first; (2K, some names)
  std::vector<LogSum> sums_;
  std::vector<std::vector<Likely>> likely_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> score_ensemble_above_cpu(
    const at::Tensor& det, const at::Tensor& vlm, const at::Tensor& names,
    const at::Tensor& backgrounds, const at::Tensor& weight, double score_thr) {
  TORCH_CHECK_VALUE(det.dim() == 2 && names.dim() == 2, "det and names must be (K, D) and (C, D), ",
                    "not of shape ", det.sizes(), " and ", names.sizes());
  TORCH_CHECK_VALUE(names.size(0) < INT_MAX, "names are more than ", INT_MAX);
  check(det, "det", det.sizes());
  check(vlm, "vlm", det.sizes());
  check(names, "names", {names.size(0), det.size(1)});
  check(backgrounds, "backgrounds", {2, det.size(1)});
  check(weight, "weight", {names.size(0)});
  const at::Tensor weights = weight.contiguous();
  Scores scores(det, vlm, backgrounds);
  scores.look_for(names, weights, score_thr);
  return scores.above(weights, score_thr);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CPU, m) {
  m.impl("score_ensemble_above", &score_ensemble_above_cpu);
}

}  // namespace fgclip_det
