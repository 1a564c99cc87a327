#include <ATen/AccumulateType.h>
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/macros/Macros.h>
#include <torch/library.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "../roi_align_common.h"
#include "../roi_align_tensors.h"
#include "roi_align_kernels.cuh"
#include "roi_align_workspace.cuh"

namespace fgclip_det {
namespace {

constexpr int64_t kUsualShared = 48 * 1024;  // a kernel that takes more must ask for it first

int ask_device(cudaDeviceAttr attribute) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, c10::cuda::current_device()));
  return value;
}

Device current_device() {
  return {ask_device(cudaDevAttrMultiProcessorCount),
          ask_device(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
}

// Launches on the current stream and never waits for it.
struct Launch {
  cudaStream_t stream = c10::cuda::getCurrentCUDAStream();

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int blocks, int threads, int64_t shared_bytes,
                  Arguments&&... arguments) const {
    if (shared_bytes > kUsualShared) {
      // All there is, whatever this launch takes: another thread may be about to launch with more.
      C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          ask_device(cudaDevAttrMaxSharedMemoryPerBlockOptin)));
    }
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
// some sixty times over. as_planes() and plan_slabs() say which maps need no copy.
at::Tensor channels_innermost(const at::Tensor& tensor) {
  return tensor.stride(1) == 1 || tensor.size(1) == 1 ? tensor : transposed(tensor, true);
}

// `maps` of any strides, with channels first, from level `first` on.
template <typename scalar_t>
Planes<scalar_t> planes_of(at::TensorList maps, int64_t first, int64_t count) {
  Planes<scalar_t> planes{};
  for (int64_t slot = 0; slot < count; ++slot) {
    const at::Tensor& map = maps[first + slot];
    planes.levels[slot] = {map.const_data_ptr<scalar_t>(), map.stride(0), map.stride(1),
                           map.stride(2), map.stride(3)};
  }
  return planes;
}

// Pools one map, of any strides.
template <typename scalar_t, typename T>
void pool_cells(const at::Tensor& input, const Boxes<T>& boxes, bool channels_last,
                const at::Tensor& output) {
  const int64_t channels = input.size(1);
  scalar_t* pooled = output.mutable_data_ptr<scalar_t>();
  const Slabs slabs = plan_slabs(boxes, sizeof(scalar_t), channels, current_device());
  if (slabs.bands == 0) {
    const at::Tensor features = channels_innermost(input);
    launch_forward(boxes, maps_of<scalar_t>(features), channels, pooled, channels_last, Launch());
    return;
  }
  // What boxes in several bands sum up to; in the result itself, if that is precise enough.
  at::Tensor partial = output;
  if (slabs.bands > 1 && !std::is_same_v<T, scalar_t>) {
    partial = at::empty(output.sizes(), output.options().dtype(c10::CppTypeToScalarType<T>::value));
  }
  launch_slabs(boxes, maps_of<scalar_t>(input), channels > 1 ? input.stride(1) : 1, channels, slabs,
               static_cast<T*>(partial.mutable_data_ptr()), pooled, Launch());
}

// The largest height (axis 2) or width (axis 3) of some maps.
int64_t largest(at::TensorList maps, int axis) {
  int64_t size = 0;
  for (const at::Tensor& map : maps) {
    size = std::max(size, map.size(axis));
  }
  return size;
}

// Whether all maps are pooled as they are: none has channels innermost, and it takes fewer bytes.
bool as_planes(at::TensorList inputs, int64_t count, int64_t bins_y, int64_t bins_x,
               int64_t sum_bytes) {
  int64_t cells = 0;
  for (const at::Tensor& input : inputs) {
    if (input.stride(1) == 1 || input.size(1) == 1) {
      return false;
    }
    cells += input.size(2) * input.size(3);
  }
  return takes_planes(bins_y, bins_x, count, inputs[0].size(0), cells, inputs.size(),
                      largest(inputs, 3), sum_bytes);
}

at::Tensor pool(at::TensorList inputs, const at::Tensor& rois, const at::Tensor& levels,
                const Settings& settings, int64_t pooled_height, int64_t pooled_width) {
  const at::Tensor& first = inputs[0];
  const c10::cuda::CUDAGuard guard(first.device());
  const bool last = is_channels_last(first);
  const at::Tensor output =
      at::empty({rois.size(0), first.size(1), pooled_height, pooled_width}, first.options(),
                last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  if (output.numel() == 0) {
    return output;
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, first.scalar_type(), "roi_align_cuda", [&] {
        using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
        const int64_t count = inputs.size(), height = largest(inputs, 2),
                      width = largest(inputs, 3);
        const Workspace<T> workspace(rois, levels, count, first.size(0), pooled_height,
                                     pooled_width, height, width);
        const bool planes = as_planes(inputs, rois.size(0), pooled_height, pooled_width, sizeof(T));
        for (int64_t level = 0; level < count; level += kMaxLevels) {
          const int64_t launched = std::min<int64_t>(count - level, kMaxLevels);
          const Boxes<T> boxes = workspace.boxes(level, launched);
          launch_weights(boxes, settings.scene<T>(inputs, level, launched), Launch());
          if (planes) {
            launch_planes(boxes, planes_of<scalar_t>(inputs, level, launched), output.size(1),
                          output.mutable_data_ptr<scalar_t>(), Launch());
            continue;
          }
          for (int64_t one = level; one < level + launched; ++one) {
            pool_cells<scalar_t>(inputs[one], workspace.boxes(one, inputs[one]), last, output);
          }
        }
      });
  return output;
}

// Whether the gradient of a map of this width is written with channels first: if that is asked for
// and possible; otherwise with channels last, and copied.
bool writes_first(bool channels_last, int64_t width) {
  return !channels_last && writes_rows(width);
}

template <typename scalar_t>
Targets<scalar_t> targets_of(at::TensorList results, int64_t first, int64_t count,
                             bool channels_last) {
  Targets<scalar_t> targets{};
  for (int64_t slot = 0; slot < count; ++slot) {
    const at::Tensor& result = results[first + slot];
    targets.data[slot] = result.mutable_data_ptr<scalar_t>();
    targets.channels_first[slot] = writes_first(channels_last, result.size(3));
  }
  return targets;
}

// The gradients of maps; `results` are dense, laid out as writes_first() says.
void spread(at::TensorList results, const at::Tensor& grad_output, const at::Tensor& rois,
            const at::Tensor& levels, const Settings& settings, bool channels_last) {
  const c10::cuda::CUDAGuard guard(grad_output.device());
  if (grad_output.numel() == 0) {
    for (const at::Tensor& result : results) {
      result.zero_();
    }
    return;
  }
  const at::Tensor gradient = channels_innermost(grad_output);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, gradient.scalar_type(), "roi_align_backward_cuda", [&] {
        using T = at::acc_type<scalar_t, /*is_cuda=*/true>;
        const int64_t count = results.size(), channels = gradient.size(1);
        const Workspace<T> workspace(rois, levels, count, results[0].size(0), gradient.size(2),
                                     gradient.size(3), largest(results, 2), largest(results, 3));
        const bool vectors = takes_vectors(maps_of<scalar_t>(gradient), channels) &&
                             std::all_of(results.begin(), results.end(), [](const at::Tensor& map) {
                               return is_aligned(map.const_data_ptr());
                             });
        for (int64_t level = 0; level < count; level += kMaxLevels) {
          const int64_t launched = std::min<int64_t>(count - level, kMaxLevels);
          const Boxes<T> boxes = workspace.boxes(level, launched);
          const Scene<T> scene = settings.scene<T>(results, level, launched);
          const SpreadPlan plan = plan_spreading<scalar_t>(boxes, scene, channels, vectors);
          if (plan.tilings.tiles == 0) {
            continue;  // no images
          }
          const at::Tensor words =
              at::empty({plan.lines * mark_groups(boxes.count)}, rois.options().dtype(at::kInt));
          const Marks marks = launch_prepare(
              boxes, scene, plan, static_cast<uint32_t*>(words.mutable_data_ptr()), Launch());
          launch_backward(boxes, marks, plan, maps_of<scalar_t>(gradient), channels,
                          targets_of<scalar_t>(results, level, launched, channels_last), Launch());
        }
      });
}

at::Tensor roi_align_cuda(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                          int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                          bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
  return pool(input, rois.contiguous(), {}, {spatial_scale, sampling_ratio, aligned}, pooled_height,
              pooled_width);
}

at::Tensor empty_gradient(at::IntArrayRef size, const at::Tensor& like, bool channels_last) {
  return at::empty(size, like.options(),
                   writes_first(channels_last, size[3]) ? at::MemoryFormat::Contiguous
                                                        : at::MemoryFormat::ChannelsLast);
}

// What spread() has written, in the layout that is asked for.
at::Tensor laid_out(const at::Tensor& result, bool channels_last) {
  return channels_last || writes_first(channels_last, result.size(3)) ? result
                                                                      : transposed(result, false);
}

at::Tensor roi_align_backward_cuda(const at::Tensor& grad_output, const at::Tensor& rois,
                                   double spatial_scale, int64_t batch_size, int64_t channels,
                                   int64_t height, int64_t width, int64_t sampling_ratio,
                                   bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width, sampling_ratio);
  check_batch_size(batch_size);
  const at::Tensor result =
      empty_gradient({batch_size, channels, height, width}, grad_output, channels_last);
  spread(result, grad_output, rois.contiguous(), {}, {spatial_scale, sampling_ratio, aligned},
         channels_last);
  return laid_out(result, channels_last);
}

at::Tensor roi_align_pyramid_cuda(at::TensorList inputs, const at::Tensor& rois,
                                  const at::Tensor& levels, at::ArrayRef<double> spatial_scales,
                                  int64_t pooled_height, int64_t pooled_width,
                                  int64_t sampling_ratio, bool aligned) {
  check_levels(levels, rois, inputs.size(), spatial_scales);
  for (const at::Tensor& input : inputs) {
    check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
    check_alike(input, inputs[0]);
  }
  return pool(inputs, rois.contiguous(), levels.contiguous(),
              {spatial_scales, sampling_ratio, aligned}, pooled_height, pooled_width);
}

std::vector<at::Tensor> roi_align_pyramid_backward_cuda(
    const at::Tensor& grad_output, const at::Tensor& rois, const at::Tensor& levels,
    at::ArrayRef<double> spatial_scales, int64_t batch_size, int64_t channels,
    at::IntArrayRef heights, at::IntArrayRef widths, int64_t sampling_ratio, bool aligned,
    bool channels_last) {
  check_levels(levels, rois, heights.size(), spatial_scales);
  check_batch_size(batch_size);
  check_sides(heights, widths);
  std::vector<at::Tensor> results;
  for (size_t level = 0; level < heights.size(); ++level) {
    check_backward(grad_output, rois, channels, heights[level], widths[level], sampling_ratio);
    results.push_back(empty_gradient({batch_size, channels, heights[level], widths[level]},
                                     grad_output, channels_last));
  }
  spread(results, grad_output, rois.contiguous(), levels.contiguous(),
         {spatial_scales, sampling_ratio, aligned}, channels_last);
  for (at::Tensor& result : results) {
    result = laid_out(result, channels_last);
  }
  return results;
}

// Asked by ops/_library.py; only a build with these kernels has it.
bool cuda_asserts_index() {
#if defined(FGCLIP_DET_NO_INDEX_ASSERTION)
  return false;
#else
  return true;
#endif
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fgclip_det, m) {
  m.def("cuda_asserts_index() -> bool", &cuda_asserts_index);
}

TORCH_LIBRARY_IMPL(fgclip_det, CUDA, m) {
  m.impl("roi_align", &roi_align_cuda);
  m.impl("roi_align_backward", &roi_align_backward_cuda);
  m.impl("roi_align_pyramid", &roi_align_pyramid_cuda);
  m.impl("roi_align_pyramid_backward", &roi_align_pyramid_backward_cuda);
}

}  // namespace fgclip_det
