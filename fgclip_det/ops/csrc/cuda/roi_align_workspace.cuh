#pragma once

// What a call's launches share besides tensors of values: settings, and memory for weights.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <climits>
#include <cstdint>

#include "roi_align_kernels.cuh"

namespace fgclip_det {

// What a call takes besides tensors of values.
struct Settings {
  at::ArrayRef<double> spatial_scales;  // of each level
  int64_t sampling_ratio;
  bool aligned;

  // maps: of all levels, or their gradients; first, count: levels of a launch.
  template <typename T>
  Scene<T> scene(at::TensorList maps, int64_t first, int64_t count) const {
    Scene<T> scene{};
    for (int64_t slot = 0; slot < count; ++slot) {
      const at::Tensor& map = maps[first + slot];
      scene.sampling[slot] = {static_cast<T>(spatial_scales[first + slot]),
                              static_cast<T>(sampling_ratio), aligned};
      scene.heights[slot] = static_cast<int>(map.size(2));
      scene.widths[slot] = static_cast<int>(map.size(3));
    }
    return scene;
  }
};

// The memory of the separable weights, in one piece, for all boxes whatever map they are of. It
// must outlive the launches only on the host's side: the caching allocator hands it out again in
// stream order.
template <typename T>
class Workspace {
 public:
  // levels: (K,) contiguous, or undefined where there is one map; bins: of both axes; height and
  // width: of the largest map along each axis.
  Workspace(const at::Tensor& rois, const at::Tensor& levels, int64_t num_levels,
            int64_t batch_size, int64_t bins_y, int64_t bins_x, int64_t height, int64_t width)
      : rois_(rois),
        levels_(levels),
        num_levels_(num_levels),
        batch_size_(batch_size),
        bins_{bins_y, bins_x},
        pitch_{height, width} {
    TORCH_CHECK_VALUE(batch_size < INT_MAX, "a batch of ", batch_size, " images is too large");
    const int64_t count = rois.size(0);
    const int64_t bytes[kParts] = {
        count * bins_y * static_cast<int64_t>(sizeof(Span)),
        count * bins_x * static_cast<int64_t>(sizeof(Span)),
        count * bins_y * height * static_cast<int64_t>(sizeof(T)),
        count * bins_x * width * static_cast<int64_t>(sizeof(T)),
    };
    int64_t total = 0;
    for (int part = 0; part < kParts; ++part) {
      begins_[part] = total;
      total += ceil_div(bytes[part], kAlignment) * kAlignment;
    }
    memory_ = at::empty({total}, rois.options().dtype(at::kByte));
  }

  // For a launch about so many maps from level `first` on.
  Boxes<T> boxes(int64_t first, int64_t launched) const {
    return {rois_.const_data_ptr<float>(),
            rois_.size(0),
            batch_size_,
            axis(0, pitch_[0]),
            axis(1, pitch_[1]),
            levels_.defined() ? levels_.const_data_ptr<int64_t>() : nullptr,
            num_levels_,
            first,
            launched};
  }

  // For a launch about one map.
  Boxes<T> boxes(int64_t level, const at::Tensor& map) const {
    Boxes<T> boxes = this->boxes(level, 1);
    boxes.wy = axis(0, map.size(2));
    boxes.wx = axis(1, map.size(3));
    return boxes;
  }

 private:
  static constexpr int kParts = 4;
  static constexpr int64_t kAlignment = 256;

  template <typename Part>
  Part* part(int index) const {
    return reinterpret_cast<Part*>(static_cast<uint8_t*>(memory_.mutable_data_ptr()) +
                                   begins_[index]);
  }

  AxisWeights<T> axis(int which, int64_t size) const {
    return {static_cast<int>(bins_[which]), static_cast<int>(size), static_cast<int>(pitch_[which]),
            part<Span>(which), part<T>(2 + which)};
  }

  const at::Tensor& rois_;
  const at::Tensor& levels_;
  at::Tensor memory_;
  int64_t num_levels_, batch_size_, bins_[2], pitch_[2], begins_[kParts];
};

}  // namespace fgclip_det
