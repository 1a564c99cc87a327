#include <ATen/AccumulateType.h>
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/macros/Macros.h>
#include <torch/library.h>

#include <climits>
#include <cstdint>
#include <utility>

#include "../roi_align_common.h"
#include "../roi_align_tensors.h"
#include "roi_align_kernels.cuh"

namespace fgclip_det {
namespace {

// Launches on the current stream and never waits for it.
struct Launch {
  cudaStream_t stream = c10::cuda::getCurrentCUDAStream();

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int blocks, int threads, int64_t shared_bytes,
                  Arguments&&... arguments) const {
    kernel<<<blocks, threads, shared_bytes, stream>>>(std::forward<Arguments>(arguments)...);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

template <typename scalar_t>
Maps<scalar_t> maps_of(const at::Tensor& tensor) {
  // The stride of an axis of one cell may be anything and is never used.
  const auto stride = [&](int axis) { return tensor.size(axis) > 1 ? tensor.stride(axis) : 0; };
  return {tensor.const_data_ptr<scalar_t>(), stride(0), stride(2), stride(3)};
}

// Copies `from`, of any strides, to the dense `to`, which has the other order of axes: channels
// last if `channels_first`, otherwise channels first.
template <typename bits_t>
void transpose(const at::Tensor& from, const at::Tensor& to, bool channels_first) {
  const int64_t channels = from.size(1), height = from.size(2), width = from.size(3);
  Matrices<bits_t> in{static_cast<const bits_t*>(from.const_data_ptr()), from.size(0)};
  in.stride_b = from.stride(0);
  if (channels_first) {
    in.rows = channels, in.columns = height * width, in.width = width;
    in.stride_i = from.stride(1), in.stride_row = from.stride(2), in.stride_column = from.stride(3);
  } else {
    in.rows = height * width, in.columns = channels, in.width = channels;
    in.stride_i = channels, in.stride_row = 0, in.stride_column = 1;
  }
  launch_transpose(in, static_cast<bits_t*>(to.mutable_data_ptr()), Launch());
}

at::Tensor transposed(const at::Tensor& from, bool channels_first) {
  const at::Tensor to =
      at::empty(from.sizes(), from.options(),
                channels_first ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  if (to.numel() > 0) {
    switch (from.element_size()) {
      case 2:
        transpose<uint16_t>(from, to, channels_first);
        break;
      case 4:
        transpose<uint32_t>(from, to, channels_first);
        break;
      default:
        transpose<uint64_t>(from, to, channels_first);
    }
  }
  return to;
}

// A (A, C, B, D) tensor whose channels lie side by side. Maps with channels first are copied: that
// is 2 * C * h * w values in all, each box then reads 16 bytes at a time, and 1000 boxes read a map
// some sixty times over. Reading such maps as they are pays only where boxes are few and small.
at::Tensor channels_innermost(const at::Tensor& tensor) {
  return tensor.stride(1) == 1 || tensor.size(1) == 1 ? tensor : transposed(tensor, true);
}

at::ScalarType sum_dtype(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// The memory of the separable weights, which must outlive the launches only on the host's side:
// the caching allocator hands it out again in stream order.
struct Workspace {
  at::Tensor rois, y_spans, y_weights, x_spans, x_weights;
  int64_t batch_size, bins[2], size[2];

  Workspace(const at::Tensor& boxes, const at::Tensor& pooled, int64_t batch_size_,
            int64_t pooled_height, int64_t pooled_width, int64_t height, int64_t width)
      : rois(boxes.contiguous()),
        batch_size(batch_size_),
        bins{pooled_height, pooled_width},
        size{height, width} {
    TORCH_CHECK_VALUE(batch_size < INT_MAX, "a batch of ", batch_size, " images is too large");
    const auto ints = rois.options().dtype(at::kInt);
    const auto sums = rois.options().dtype(sum_dtype(pooled));
    y_spans = at::empty({rois.size(0), bins[0], 2}, ints);
    x_spans = at::empty({rois.size(0), bins[1], 2}, ints);
    y_weights = at::empty({rois.size(0), bins[0], size[0]}, sums);
    x_weights = at::empty({rois.size(0), bins[1], size[1]}, sums);
  }

  template <typename T>
  AxisWeights<T> axis(int which, const at::Tensor& spans, const at::Tensor& weights) const {
    return {static_cast<int>(bins[which]), static_cast<int>(size[which]),
            reinterpret_cast<Span*>(spans.mutable_data_ptr<int32_t>()),
            weights.mutable_data_ptr<T>()};
  }

  template <typename T>
  Boxes<T> boxes() const {
    return {rois.const_data_ptr<float>(), rois.size(0), batch_size, axis<T>(0, y_spans, y_weights),
            axis<T>(1, x_spans, x_weights)};
  }
};

template <typename T>
Sampling<T> sampling_of(double spatial_scale, int64_t sampling_ratio, bool aligned) {
  return {static_cast<T>(spatial_scale), static_cast<T>(sampling_ratio), aligned};
}

at::Tensor roi_align_cuda(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                          int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                          bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
  const c10::cuda::CUDAGuard guard(input.device());
  const bool last = is_channels_last(input);
  const at::Tensor output =
      at::empty({rois.size(0), input.size(1), pooled_height, pooled_width}, input.options(),
                last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  if (output.numel() == 0) {
    return output;
  }
  const at::Tensor features = channels_innermost(input);
  const Workspace workspace(rois, output, input.size(0), pooled_height, pooled_width, input.size(2),
                            input.size(3));
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_align_cuda", [&] {
        using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
        launch_forward(workspace.boxes<T>(), sampling_of<T>(spatial_scale, sampling_ratio, aligned),
                       maps_of<scalar_t>(features), input.size(1),
                       output.mutable_data_ptr<scalar_t>(), last, Launch());
      });
  return output;
}

at::Tensor roi_align_backward_cuda(const at::Tensor& grad_output, const at::Tensor& rois,
                                   double spatial_scale, int64_t batch_size, int64_t channels,
                                   int64_t height, int64_t width, int64_t sampling_ratio,
                                   bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width, sampling_ratio);
  const c10::cuda::CUDAGuard guard(grad_output.device());
  const at::Tensor result = at::empty({batch_size, channels, height, width}, grad_output.options(),
                                      at::MemoryFormat::ChannelsLast);
  if (result.numel() > 0 && grad_output.numel() == 0) {
    result.zero_();
  } else if (result.numel() > 0) {
    const at::Tensor gradient = channels_innermost(grad_output);
    const Workspace workspace(rois, gradient, batch_size, gradient.size(2), gradient.size(3),
                              height, width);
    const at::Tensor windows =
        at::empty({rois.size(0), static_cast<int64_t>(sizeof(Window) / sizeof(int32_t))},
                  rois.options().dtype(at::kInt));
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, gradient.scalar_type(), "roi_align_backward_cuda", [&] {
          using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
          launch_backward(
              workspace.boxes<T>(), sampling_of<T>(spatial_scale, sampling_ratio, aligned),
              reinterpret_cast<Window*>(windows.mutable_data_ptr<int32_t>()),
              maps_of<scalar_t>(gradient), channels, result.mutable_data_ptr<scalar_t>(), Launch());
        });
  }
  return channels_last ? result : transposed(result, false);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CUDA, m) {
  m.impl("roi_align", &roi_align_cuda);
  m.impl("roi_align_backward", &roi_align_backward_cuda);
}

}  // namespace fgclip_det
