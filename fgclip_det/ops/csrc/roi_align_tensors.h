#pragma once

// What the CPU and the CUDA operator do with tensors before and after their kernels run; autograd
// sees symbols for sizes while a graph is traced.

#include <ATen/core/Tensor.h>
#include <algorithm>
#include <climits>
#include <cmath>

namespace fgclip_det {

// The output follows the input: channels last in, channels last out. ops/roi_align.py decides
// alike. Tokens behind a class token are a view that is not dense, so strides decide.
inline bool is_channels_last(const at::Tensor& input) {
  return input.sym_stride(1) == 1 && !input.is_contiguous();
}

// A (K, C, oh, ow) tensor whose bins are evenly spaced, and either bins or channels side by side.
inline at::Tensor with_whole_rows(const at::Tensor& tensor) {
  const bool even = tensor.size(2) == 1 || tensor.stride(2) == tensor.size(3) * tensor.stride(3);
  const bool side_by_side = tensor.stride(1) == 1 || tensor.stride(3) == 1;
  return even && side_by_side ? tensor : tensor.contiguous();
}

inline void check_rois(const at::Tensor& rois, const at::Tensor& other) {
  TORCH_CHECK_VALUE(rois.dim() == 2 && rois.size(1) == 5, "rois must be (K, 5), batch index and ",
                    "xyxy, not of shape ", rois.sizes());
  TORCH_CHECK_VALUE(rois.scalar_type() == at::kFloat, "rois must be float32 whatever the ",
                    "features are, not ", rois.scalar_type(), "; pass rois.float()");
  TORCH_CHECK_VALUE(rois.device() == other.device(), "rois are on ", rois.device(),
                    " and features on ", other.device(), "; move one of them");
}

inline void check_map(int64_t height, int64_t width) {
  TORCH_CHECK_VALUE(height > 0 && width > 0 && height < INT_MAX && width < INT_MAX, "features of ",
                    height, " x ", width, " cells have nothing to pool");
}

// Samples per bin and axis: each is visited.
constexpr int64_t kMaxSamples = 1 << 16;

inline void check_ratio(int64_t sampling_ratio) {
  TORCH_CHECK_VALUE(sampling_ratio <= kMaxSamples, "sampling_ratio must be at most ", kMaxSamples,
                    ", not ", sampling_ratio, "; -1 takes as many samples as a bin has cells");
}

inline void check_forward(const at::Tensor& input, const at::Tensor& rois, int64_t pooled_height,
                          int64_t pooled_width, int64_t sampling_ratio) {
  TORCH_CHECK_VALUE(input.dim() == 4, "features must be (N, C, h, w), not of shape ",
                    input.sizes());
  TORCH_CHECK_VALUE(
      pooled_height > 0 && pooled_width > 0 && pooled_height < INT_MAX && pooled_width < INT_MAX,
      "output_size must be positive, not (", pooled_height, ", ", pooled_width, ")");
  check_map(input.size(2), input.size(3));
  check_rois(rois, input);
  check_ratio(sampling_ratio);
}

inline void check_backward(const at::Tensor& grad_output, const at::Tensor& rois, int64_t channels,
                           int64_t height, int64_t width, int64_t sampling_ratio) {
  TORCH_CHECK_VALUE(grad_output.dim() == 4 && grad_output.size(0) == rois.size(0) &&
                        grad_output.size(1) == channels,
                    "grad_output must be (", rois.size(0), ", ", channels,
                    ", oh, ow), not of shape ", grad_output.sizes());
  check_map(height, width);
  check_rois(rois, grad_output);
  check_ratio(sampling_ratio);
}

inline void check_batch_size(int64_t batch_size) {
  TORCH_CHECK_VALUE(batch_size >= 0 && batch_size < INT_MAX, "batch_size must not be negative and ",
                    "below 2^31, not ", batch_size);
}

inline void check_sides(at::IntArrayRef heights, at::IntArrayRef widths) {
  TORCH_CHECK_VALUE(heights.size() == widths.size(), "there are ", heights.size(), " heights and ",
                    widths.size(), " widths");
}

// The maps of a pyramid share all but their size in cells.
inline void check_alike(const at::Tensor& input, const at::Tensor& first) {
  TORCH_CHECK_VALUE(input.size(0) == first.size(0) && input.size(1) == first.size(1) &&
                        input.scalar_type() == first.scalar_type() &&
                        input.device() == first.device(),
                    "the maps of a pyramid must have one batch size, number of channels, dtype and "
                    "device, not ",
                    first.sizes(), " of ", first.scalar_type(), " on ", first.device(), " and ",
                    input.sizes(), " of ", input.scalar_type(), " on ", input.device());
}

inline void check_levels(const at::Tensor& levels, const at::Tensor& rois, size_t maps,
                         at::ArrayRef<double> scales) {
  TORCH_CHECK_VALUE(maps > 0 && maps == scales.size() &&
                        std::all_of(scales.begin(), scales.end(),
                                    [](double scale) { return scale > 0 && std::isfinite(scale); }),
                    "a pyramid needs a positive spatial_scale for each of its ", maps,
                    " maps, not ", scales);
  TORCH_CHECK_VALUE(rois.dim() == 2 && levels.dim() == 1 && levels.size(0) == rois.size(0),
                    "levels must be (K,), one for each of (K, 5) rois, not of shape ",
                    levels.sizes(), " for ", rois.sizes());
  TORCH_CHECK_VALUE(levels.scalar_type() == at::kLong, "levels must be int64, not ",
                    levels.scalar_type(), "; pass levels.long()");
  TORCH_CHECK_VALUE(levels.device() == rois.device(), "levels are on ", levels.device(),
                    " and rois on ", rois.device(), "; move one of them");
}

}  // namespace fgclip_det
