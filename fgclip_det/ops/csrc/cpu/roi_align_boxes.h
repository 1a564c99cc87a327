#pragma once

// The boxes of a call of the CPU operator: which map each is pooled from, and its weights. Compiled
// with the compiler's default instructions: fused multiply-adds would move samples.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "../roi_align_common.h"
#include "roi_align_problem.h"

namespace fgclip_det {

// What a call takes besides tensors of values.
struct Settings {
  std::vector<double> spatial_scales;  // of each level
  int64_t sampling_ratio;
  bool aligned;

  template <typename T>
  Sampling<T> sampling(int64_t level) const {
    return {static_cast<T>(spatial_scales[level]), static_cast<T>(sampling_ratio), aligned};
  }
};

// Which boxes belong to which image of which level. Problems of one level take its boxes alone.
struct Batch {
  std::vector<int64_t> level_of, image_of;  // (K,)
  std::vector<int64_t> order;               // (K,): by level, by image, in their order
  std::vector<int64_t> level_begin;         // (levels + 1,): where those of a level begin in it
  std::vector<int64_t> image_begin;         // (levels, images + 1): likewise, within the level

  // rois: (K, 5); levels: (K,), or null where there is one.
  Batch(const float* rois, const int64_t* levels, int64_t num_rois, int64_t num_levels,
        int64_t images)
      : level_of(num_rois),
        image_of(num_rois),
        order(num_rois),
        level_begin(num_levels + 1),
        image_begin(num_levels * (images + 1)) {
    for (int64_t roi = 0; roi < num_rois; ++roi) {
      const float index = rois[roi * 5];
      TORCH_CHECK_VALUE(
          index >= 0 && index < static_cast<float>(images) && index == std::floor(index), "rois[",
          roi, ", 0] names image ", index, ", but the features hold ", images,
          " images; batch indices start at 0 and are whole numbers");
      image_of[roi] = static_cast<int64_t>(index);
      if (levels != nullptr) {
        level_of[roi] = levels[roi];
        TORCH_CHECK_VALUE(levels[roi] >= 0 && levels[roi] < num_levels, "levels[", roi, "] is ",
                          levels[roi], ", but there are ", num_levels, " maps; levels start at 0");
      }
      ++level_begin[level_of[roi] + 1];
      ++image_begin[level_of[roi] * (images + 1) + image_of[roi] + 1];
    }
    for (int64_t level = 0; level < num_levels; ++level) {
      level_begin[level + 1] += level_begin[level];
      for (int64_t image = 0; image < images; ++image) {
        image_begin[level * (images + 1) + image + 1] += image_begin[level * (images + 1) + image];
      }
    }
    std::vector<int64_t> next(image_begin);
    for (int64_t roi = 0; roi < num_rois; ++roi) {
      const int64_t level = level_of[roi];
      order[level_begin[level] + next[level * (images + 1) + image_of[roi]]++] = roi;
    }
  }
};

// The memory behind an AxisWeights. Spans are found at once, the weights by fill().
template <typename T>
class WeightStorage {
 public:
  // low: column of the rois with the lower edge, 1 for x and 2 for y; sizes: cells of each level.
  WeightStorage(const float* rois, const Batch& batch, int low, int64_t bins,
                const std::vector<int>& sizes, const Settings& settings)
      : rois_(rois),
        level_of_(batch.level_of.data()),
        low_(low),
        bins_(bins),
        sizes_(sizes),
        reaches_(batch.order.size()),
        spans_(batch.order.size() * bins),
        offsets_(batch.order.size() * bins) {
    for (size_t level = 0; level < sizes.size(); ++level) {
      samplings_.push_back(settings.sampling<T>(level));
    }
    int64_t total = 0;
    for (int64_t roi = 0; roi < static_cast<int64_t>(reaches_.size()); ++roi) {
      const Axis<T> axis = axis_of(roi);
      const int size = sizes_[level_of_[roi]];
      int32_t first = 0, end = 0;
      for (int64_t bin = 0; bin < bins; ++bin) {
        const int index = static_cast<int>(bin);
        const Span span = cells_of(axis, index, size, samples_inside(axis, index, size));
        spans_[roi * bins + bin] = span;
        offsets_[roi * bins + bin] = total;
        total += span.count;
        if (span.count > 0) {
          first = end == 0 ? span.first : std::min(first, span.first);
          end = std::max(end, span.first + span.count);
        }
      }
      reaches_[roi] = {first, end - first};
    }
    values_.reset(new T[total]);
  }

  // Writes the weights of boxes [begin, end).
  void fill(int64_t begin, int64_t end) {
    for (int64_t roi = begin; roi < end; ++roi) {
      const Axis<T> axis = axis_of(roi);
      const int size = sizes_[level_of_[roi]];
      for (int64_t bin = 0; bin < bins_; ++bin) {
        const int index = static_cast<int>(bin);
        const int64_t item = roi * bins_ + bin;
        fill_weights(axis, index, size, samples_inside(axis, index, size), spans_[item],
                     &values_[offsets_[item]]);
      }
    }
  }

  AxisWeights<T> view() const {
    return {bins_, reaches_.data(), spans_.data(), offsets_.data(), values_.get()};
  }

 private:
  Axis<T> axis_of(int64_t roi) const {
    const float* box = rois_ + roi * 5;
    return make_axis(static_cast<T>(box[low_]), static_cast<T>(box[low_ + 2]),
                     static_cast<int>(bins_), samplings_[level_of_[roi]]);
  }

  const float* rois_;        // (K, 5)
  const int64_t* level_of_;  // (K,)
  int low_;
  int64_t bins_;
  std::vector<int> sizes_;
  std::vector<Sampling<T>> samplings_;
  std::vector<Span> reaches_, spans_;
  std::vector<int64_t> offsets_;
  std::unique_ptr<T[]> values_;
};

}  // namespace fgclip_det
