#include <ATen/AccumulateType.h>
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>

#include "../roi_align_common.h"
#include "../roi_align_tensors.h"

// Compiled with -fmad=false, so that the geometry gives the same bits as on the CPU; where a fused
// multiply-add is wanted it is written out.

namespace fgclip_det {
namespace {

constexpr int kMaxThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// A (A, C, B, D) tensor with channels innermost, addressed as [a][b][d][c].
template <typename T>
struct Maps {
  T* data;
  int64_t stride_a, stride_b, stride_d;

  explicit Maps(const at::Tensor& tensor)
      : data(tensor.data_ptr<T>()),
        stride_a(tensor.stride(0)),
        stride_b(tensor.stride(2)),
        stride_d(tensor.stride(3)) {}

  __device__ __forceinline__ T* at(int64_t a, int64_t b, int64_t d) const {
    return data + a * stride_a + b * stride_b + d * stride_d;
  }
};

// Separable weights of all boxes along one axis, in device memory.
template <typename T>
struct AxisWeights {
  int64_t bins;
  int64_t size;
  Span* spans;  // (K, bins)
  T* weights;   // (K, bins, size), written inside the spans only

  __device__ __forceinline__ Span span(int64_t roi, int64_t bin) const {
    return spans[roi * bins + bin];
  }
  __device__ __forceinline__ const T* of(int64_t roi, int64_t bin) const {
    return weights + (roi * bins + bin) * size;
  }
};

template <typename T>
struct Problem {
  const float* rois;  // (K, 5)
  int64_t num_rois, batch_size, channels;
  AxisWeights<T> wy, wx;

  // The index cannot be checked on the host without waiting for the device.
  __device__ __forceinline__ int64_t image(int64_t roi) const {
    const float index = rois[roi * 5];
    CUDA_KERNEL_ASSERT(index >= 0 && index < static_cast<float>(batch_size) &&
                       "rois[:, 0] must name an image of the batch, starting at 0");
    return static_cast<int64_t>(index);
  }
};

// One thread for each (box, bin). low: column of the rois with the lower edge, 1 for x, 2 for y.
template <typename T>
__global__ void weights_kernel(const float* rois, int64_t num_rois, int low, Sampling<T> sampling,
                               AxisWeights<T> out) {
  const int64_t total = num_rois * out.bins;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < total;
       item += step) {
    const float* box = rois + item / out.bins * 5;
    const Axis<T> axis = make_axis(static_cast<T>(box[low]), static_cast<T>(box[low + 2]),
                                   static_cast<int>(out.bins), sampling);
    out.spans[item] = fill_bin_weights(axis, static_cast<int>(item % out.bins),
                                       static_cast<int>(out.size), out.weights + item * out.size);
  }
}

// One block for each bin of each box, its threads across the channels.
template <typename scalar_t, typename T>
__global__ void forward_kernel(Problem<T> problem, Maps<scalar_t> features, Maps<scalar_t> pooled) {
  const int64_t total = problem.num_rois * problem.wy.bins * problem.wx.bins;
  for (int64_t item = blockIdx.x; item < total; item += gridDim.x) {
    const int64_t q = item % problem.wx.bins;
    const int64_t p = item / problem.wx.bins % problem.wy.bins;
    const int64_t roi = item / problem.wx.bins / problem.wy.bins;
    const int64_t image = problem.image(roi);
    const Span rows = problem.wy.span(roi, p);
    const Span columns = problem.wx.span(roi, q);
    const T* wy = problem.wy.of(roi, p) + rows.first;
    const T* wx = problem.wx.of(roi, q) + columns.first;
    for (int64_t channel = threadIdx.x; channel < problem.channels; channel += blockDim.x) {
      T total_sum = 0;
      for (int row = 0; row < rows.count; ++row) {
        const scalar_t* cell = features.at(image, rows.first + row, columns.first) + channel;
        T sum = 0;
        for (int column = 0; column < columns.count; ++column) {
          sum = multiply_add(wx[column], static_cast<T>(*cell), sum);
          cell += features.stride_d;
        }
        total_sum = multiply_add(wy[row], sum, total_sum);
      }
      pooled.at(roi, p, q)[channel] = static_cast<scalar_t>(total_sum);
    }
  }
}

// One block for each cell of the maps, its threads across the channels. Each cell gathers from the
// boxes in their order: no atomics, hence the same bits in every run.
template <typename scalar_t, typename T>
__global__ void backward_kernel(Problem<T> problem, Maps<scalar_t> pooled,
                                Maps<scalar_t> features) {
  const AxisWeights<T>& wy = problem.wy;
  const AxisWeights<T>& wx = problem.wx;
  const int64_t total = problem.batch_size * wy.size * wx.size;
  for (int64_t item = blockIdx.x; item < total; item += gridDim.x) {
    const int64_t x = item % wx.size;
    const int64_t y = item / wx.size % wy.size;
    const int64_t image = item / wx.size / wy.size;
    for (int64_t channel = threadIdx.x; channel < problem.channels; channel += blockDim.x) {
      T sum = 0;
      for (int64_t roi = 0; roi < problem.num_rois; ++roi) {
        if (problem.image(roi) != image) {
          continue;
        }
        for (int64_t p = 0; p < wy.bins; ++p) {
          if (!wy.span(roi, p).contains(y)) {
            continue;
          }
          T row_sum = 0;
          for (int64_t q = 0; q < wx.bins; ++q) {
            if (wx.span(roi, q).contains(x)) {
              row_sum = multiply_add(wx.of(roi, q)[x],
                                     static_cast<T>(pooled.at(roi, p, q)[channel]), row_sum);
            }
          }
          sum = multiply_add(wy.of(roi, p)[y], row_sum, sum);
        }
      }
      features.at(image, y, x)[channel] = static_cast<scalar_t>(sum);
    }
  }
}

int64_t blocks_for(int64_t items) { return std::min(items, kMaxBlocks); }

int threads_for(int64_t channels) {
  const int64_t warps = (channels + 31) / 32;
  return static_cast<int>(std::min<int64_t>(warps * 32, kMaxThreads));
}

// The memory of the separable weights, which must outlive the launches only on the host's side:
// the caching allocator hands it out again in stream order.
struct Workspace {
  at::Tensor spans, weights;

  Workspace(const at::Tensor& rois, int64_t bins, int64_t size, at::ScalarType dtype)
      : spans(at::empty({rois.size(0), bins, 2}, rois.options().dtype(at::kInt))),
        weights(at::empty({rois.size(0), bins, size}, rois.options().dtype(dtype))) {}

  template <typename T>
  AxisWeights<T> fill(const at::Tensor& rois, int low, const Sampling<T>& sampling) const {
    const AxisWeights<T> result{spans.size(1), weights.size(2),
                                reinterpret_cast<Span*>(spans.data_ptr<int32_t>()),
                                weights.data_ptr<T>()};
    const int64_t items = rois.size(0) * result.bins;
    weights_kernel<T>
        <<<blocks_for((items + 127) / 128), 128, 0, c10::cuda::getCurrentCUDAStream()>>>(
            rois.data_ptr<float>(), rois.size(0), low, sampling, result);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return result;
  }
};

at::ScalarType sum_dtype(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor roi_align_cuda(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                          int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                          bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor features = with_channels_innermost(input);
  const at::Tensor boxes = rois.contiguous();
  const int64_t num_rois = boxes.size(0);
  const at::Tensor output = at::empty({num_rois, input.size(1), pooled_height, pooled_width},
                                      input.options(), at::MemoryFormat::ChannelsLast);
  if (output.numel() > 0) {
    const Workspace y(boxes, pooled_height, input.size(2), sum_dtype(input));
    const Workspace x(boxes, pooled_width, input.size(3), sum_dtype(input));
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, input.scalar_type(), "roi_align_cuda", [&] {
          using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
          const Sampling<T> sampling{static_cast<T>(spatial_scale), static_cast<T>(sampling_ratio),
                                     aligned};
          const Problem<T> problem{boxes.data_ptr<float>(),
                                   num_rois,
                                   input.size(0),
                                   input.size(1),
                                   y.fill<T>(boxes, 2, sampling),
                                   x.fill<T>(boxes, 1, sampling)};
          forward_kernel<scalar_t, T>
              <<<blocks_for(num_rois * pooled_height * pooled_width), threads_for(input.size(1)), 0,
                 c10::cuda::getCurrentCUDAStream()>>>(problem, Maps<scalar_t>(features),
                                                      Maps<scalar_t>(output));
          C10_CUDA_KERNEL_LAUNCH_CHECK();
        });
  }
  return in_layout(output, is_channels_last(input));
}

at::Tensor roi_align_backward_cuda(const at::Tensor& grad_output, const at::Tensor& rois,
                                   double spatial_scale, int64_t batch_size, int64_t channels,
                                   int64_t height, int64_t width, int64_t sampling_ratio,
                                   bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width);
  const c10::cuda::CUDAGuard guard(grad_output.device());
  const at::Tensor gradient = with_channels_innermost(grad_output);
  const at::Tensor boxes = rois.contiguous();
  const int64_t num_rois = boxes.size(0);
  const at::Tensor result = at::empty({batch_size, channels, height, width}, gradient.options(),
                                      at::MemoryFormat::ChannelsLast);
  if (num_rois == 0) {
    result.zero_();
  } else if (result.numel() > 0) {
    const Workspace y(boxes, gradient.size(2), height, sum_dtype(gradient));
    const Workspace x(boxes, gradient.size(3), width, sum_dtype(gradient));
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, gradient.scalar_type(), "roi_align_backward_cuda", [&] {
          using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
          const Sampling<T> sampling{static_cast<T>(spatial_scale), static_cast<T>(sampling_ratio),
                                     aligned};
          const Problem<T> problem{boxes.data_ptr<float>(),
                                   num_rois,
                                   batch_size,
                                   channels,
                                   y.fill<T>(boxes, 2, sampling),
                                   x.fill<T>(boxes, 1, sampling)};
          backward_kernel<scalar_t, T>
              <<<blocks_for(batch_size * height * width), threads_for(channels), 0,
                 c10::cuda::getCurrentCUDAStream()>>>(problem, Maps<scalar_t>(gradient),
                                                      Maps<scalar_t>(result));
          C10_CUDA_KERNEL_LAUNCH_CHECK();
        });
  }
  return in_layout(result, channels_last);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CUDA, m) {
  m.impl("roi_align", &roi_align_cuda);
  m.impl("roi_align_backward", &roi_align_backward_cuda);
}

}  // namespace fgclip_det
