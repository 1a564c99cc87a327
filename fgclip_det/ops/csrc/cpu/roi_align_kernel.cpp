#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../roi_align_common.h"
#include "../roi_align_tensors.h"

// The inner loops are compiled a second time for AVX2 and chosen when they run, so that a build
// serves every x86-64 processor. The geometry is not: fused multiply-adds in it would move samples.
#if defined(__GNUC__) && defined(__x86_64__)
#define FGCLIP_DET_AVX2 1
#endif
#if defined(__GNUC__)
#define FGCLIP_DET_INLINE inline __attribute__((always_inline))
#else
#define FGCLIP_DET_INLINE inline
#endif

namespace fgclip_det {
namespace {

// Channels that one task works on: few enough for the sums to stay in registers.
template <typename T>
constexpr int64_t kSlab = 256 / sizeof(T);

// Rows of the map that one task of the backward pass owns.
constexpr int64_t kBand = 8;

// Separable weights of all boxes along one axis.
template <typename T>
struct AxisWeights {
  int64_t bins;
  int64_t size;
  std::unique_ptr<Span[]> spans;  // (K, bins)
  std::unique_ptr<T[]> weights;   // (K, bins, size), written inside the spans only

  Span span(int64_t roi, int64_t bin) const { return spans[roi * bins + bin]; }
  const T* of(int64_t roi, int64_t bin) const { return &weights[(roi * bins + bin) * size]; }
};

// low: column of the rois with the lower edge, 1 for x and 2 for y.
template <typename T>
AxisWeights<T> make_weights(const float* rois, int64_t num_rois, int low, int64_t bins,
                            int64_t size, const Sampling<T>& sampling) {
  AxisWeights<T> result{bins, size, std::unique_ptr<Span[]>(new Span[num_rois * bins]),
                        std::unique_ptr<T[]>(new T[num_rois * bins * size])};
  at::parallel_for(0, num_rois, 64, [&](int64_t begin, int64_t end) {
    for (int64_t roi = begin; roi < end; ++roi) {
      const float* box = rois + roi * 5;
      const Axis<T> axis = make_axis(static_cast<T>(box[low]), static_cast<T>(box[low + 2]),
                                     static_cast<int>(bins), sampling);
      for (int64_t bin = 0; bin < bins; ++bin) {
        T* weights = &result.weights[(roi * bins + bin) * size];
        result.spans[roi * bins + bin] =
            fill_bin_weights(axis, static_cast<int>(bin), static_cast<int>(size), weights);
      }
    }
  });
  return result;
}

std::vector<int64_t> batch_indices(const float* rois, int64_t num_rois, int64_t batch_size) {
  std::vector<int64_t> result(num_rois);
  for (int64_t roi = 0; roi < num_rois; ++roi) {
    const float index = rois[roi * 5];
    TORCH_CHECK_VALUE(index >= 0 && index < static_cast<float>(batch_size), "rois[", roi,
                      ", 0] names image ", index, ", but the features hold ", batch_size,
                      " images; batch indices start at 0");
    result[roi] = static_cast<int64_t>(index);
  }
  return result;
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

  T* at(int64_t a, int64_t b, int64_t d, int64_t channel) const {
    return data + a * stride_a + b * stride_b + d * stride_d + channel;
  }
};

template <typename T>
struct Problem {
  Maps<T> features;  // (N, C, h, w)
  Maps<T> pooled;    // (K, C, oh, ow)
  int64_t channels;
  const AxisWeights<T>& wy;
  const AxisWeights<T>& wx;
  const std::vector<int64_t>& images;                 // (K,)
  const std::vector<std::vector<int64_t>>& by_image;  // boxes of each image; backward only

  int64_t slabs() const { return (channels + kSlab<T> - 1) / kSlab<T>; }
  int64_t bands() const { return (wy.size + kBand - 1) / kBand; }
};

// Pools `lanes` channels of one bin.
template <typename T>
FGCLIP_DET_INLINE void pool_bin(const Problem<T>& problem, int64_t roi, int64_t p, int64_t q,
                                int64_t channel, int64_t lanes) {
  const Span rows = problem.wy.span(roi, p);
  const Span columns = problem.wx.span(roi, q);
  const T* wy = problem.wy.of(roi, p) + rows.first;
  const T* wx = problem.wx.of(roi, q) + columns.first;
  T total[kSlab<T>] = {};
  for (int64_t row = 0; row < rows.count; ++row) {
    const T* cell =
        problem.features.at(problem.images[roi], rows.first + row, columns.first, channel);
    T sum[kSlab<T>] = {};
    for (int64_t column = 0; column < columns.count; ++column) {
      const T weight = wx[column];
      for (int64_t i = 0; i < lanes; ++i) {
        sum[i] += weight * cell[i];
      }
      cell += problem.features.stride_d;
    }
    for (int64_t i = 0; i < lanes; ++i) {
      total[i] += wy[row] * sum[i];
    }
  }
  std::copy(total, total + lanes, problem.pooled.at(roi, p, q, channel));
}

// Tasks are (channel slab, box), slabs outermost: the boxes of a slab share a part of the map that
// fits into the cache.
template <typename T>
FGCLIP_DET_INLINE void forward_tasks(const Problem<T>& problem, int64_t begin, int64_t end) {
  const int64_t num_rois = static_cast<int64_t>(problem.images.size());
  for (int64_t task = begin; task < end; ++task) {
    const int64_t roi = task % num_rois;
    const int64_t channel = task / num_rois * kSlab<T>;
    const int64_t lanes = std::min(kSlab<T>, problem.channels - channel);
    for (int64_t p = 0; p < problem.wy.bins; ++p) {
      for (int64_t q = 0; q < problem.wx.bins; ++q) {
        // A constant number of lanes lets the compiler keep the sums in registers.
        if (lanes == kSlab<T>) {
          pool_bin(problem, roi, p, q, channel, kSlab<T>);
        } else {
          pool_bin(problem, roi, p, q, channel, lanes);
        }
      }
    }
  }
}

// Adds to `lanes` channels of one row of the map what bins (all p, q) of one box send there.
template <typename T>
FGCLIP_DET_INLINE void spread_to_row(const Problem<T>& problem, int64_t roi, int64_t q, int64_t row,
                                     int64_t channel, int64_t lanes) {
  T sum[kSlab<T>] = {};
  for (int64_t p = 0; p < problem.wy.bins; ++p) {
    if (!problem.wy.span(roi, p).contains(row)) {
      continue;
    }
    const T weight = problem.wy.of(roi, p)[row];
    const T* gradient = problem.pooled.at(roi, p, q, channel);
    for (int64_t i = 0; i < lanes; ++i) {
      sum[i] += weight * gradient[i];
    }
  }
  const Span columns = problem.wx.span(roi, q);
  const T* wx = problem.wx.of(roi, q) + columns.first;
  T* cell = problem.features.at(problem.images[roi], row, columns.first, channel);
  for (int64_t column = 0; column < columns.count; ++column) {
    for (int64_t i = 0; i < lanes; ++i) {
      cell[i] += wx[column] * sum[i];
    }
    cell += problem.features.stride_d;
  }
}

// Tasks are (image, channel slab, band of rows). A task owns its cells and visits the boxes in
// their order, so the sums do not depend on the number of threads and need no atomics.
template <typename T>
FGCLIP_DET_INLINE void backward_tasks(const Problem<T>& problem, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t band_begin = task % problem.bands() * kBand;
    const int64_t channel = task / problem.bands() % problem.slabs() * kSlab<T>;
    const int64_t image = task / problem.bands() / problem.slabs();
    const int64_t lanes = std::min(kSlab<T>, problem.channels - channel);
    for (const int64_t roi : problem.by_image[image]) {
      int64_t row_begin = problem.wy.size, row_end = 0;
      for (int64_t p = 0; p < problem.wy.bins; ++p) {
        const Span rows = problem.wy.span(roi, p);
        if (rows.count > 0) {
          row_begin = std::min<int64_t>(row_begin, rows.first);
          row_end = std::max<int64_t>(row_end, rows.first + rows.count);
        }
      }
      row_end = std::min(row_end, band_begin + kBand);
      for (int64_t row = std::max(row_begin, band_begin); row < row_end; ++row) {
        for (int64_t q = 0; q < problem.wx.bins; ++q) {
          if (lanes == kSlab<T>) {
            spread_to_row(problem, roi, q, row, channel, kSlab<T>);
          } else {
            spread_to_row(problem, roi, q, row, channel, lanes);
          }
        }
      }
    }
  }
}

template <typename T>
using Tasks = void (*)(const Problem<T>&, int64_t, int64_t);

template <typename T>
void forward_baseline(const Problem<T>& problem, int64_t begin, int64_t end) {
  forward_tasks(problem, begin, end);
}

template <typename T>
void backward_baseline(const Problem<T>& problem, int64_t begin, int64_t end) {
  backward_tasks(problem, begin, end);
}

#if defined(FGCLIP_DET_AVX2)
template <typename T>
__attribute__((target("avx2,fma"))) void forward_avx2(const Problem<T>& problem, int64_t begin,
                                                      int64_t end) {
  forward_tasks(problem, begin, end);
}

template <typename T>
__attribute__((target("avx2,fma"))) void backward_avx2(const Problem<T>& problem, int64_t begin,
                                                       int64_t end) {
  backward_tasks(problem, begin, end);
}
#endif

bool has_avx2() {
#if defined(FGCLIP_DET_AVX2)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

template <typename T>
Tasks<T> select(Tasks<T> baseline, [[maybe_unused]] Tasks<T> avx2) {
  return has_avx2() ? avx2 : baseline;
}

template <typename T>
void run_forward(const Problem<T>& problem) {
#if defined(FGCLIP_DET_AVX2)
  const Tasks<T> tasks = select<T>(forward_baseline<T>, forward_avx2<T>);
#else
  const Tasks<T> tasks = forward_baseline<T>;
#endif
  const int64_t count = problem.slabs() * static_cast<int64_t>(problem.images.size());
  const int64_t grain = std::max<int64_t>(1, 128 / (problem.wy.bins * problem.wx.bins));
  at::parallel_for(0, count, grain,
                   [&](int64_t begin, int64_t end) { tasks(problem, begin, end); });
}

template <typename T>
void run_backward(const Problem<T>& problem) {
#if defined(FGCLIP_DET_AVX2)
  const Tasks<T> tasks = select<T>(backward_baseline<T>, backward_avx2<T>);
#else
  const Tasks<T> tasks = backward_baseline<T>;
#endif
  const int64_t images = static_cast<int64_t>(problem.by_image.size());
  at::parallel_for(0, images * problem.slabs() * problem.bands(), 1,
                   [&](int64_t begin, int64_t end) { tasks(problem, begin, end); });
}

// float16 and bfloat16 are pooled, and summed, in float32.
at::ScalarType sum_dtype(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check_dtype(const at::Tensor& tensor) {
  const at::ScalarType dtype = tensor.scalar_type();
  TORCH_CHECK_VALUE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      "features must be float16, bfloat16, float32 or float64, not ", dtype);
}

at::Tensor roi_align_cpu(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                         int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                         bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width);
  check_dtype(input);
  const at::Tensor features = with_channels_innermost(input.to(sum_dtype(input)));
  const at::Tensor boxes = rois.contiguous();
  const int64_t num_rois = boxes.size(0);
  const auto images = batch_indices(boxes.data_ptr<float>(), num_rois, input.size(0));
  const at::Tensor output = at::empty({num_rois, input.size(1), pooled_height, pooled_width},
                                      features.options(), at::MemoryFormat::ChannelsLast);
  if (output.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "roi_align_cpu", [&] {
      const Sampling<scalar_t> sampling{static_cast<scalar_t>(spatial_scale),
                                        static_cast<scalar_t>(sampling_ratio), aligned};
      const float* box = boxes.data_ptr<float>();
      const auto wy = make_weights(box, num_rois, 2, pooled_height, input.size(2), sampling);
      const auto wx = make_weights(box, num_rois, 1, pooled_width, input.size(3), sampling);
      run_forward<scalar_t>(
          {Maps<scalar_t>(features), Maps<scalar_t>(output), input.size(1), wy, wx, images, {}});
    });
  }
  return in_layout(output.to(input.scalar_type()), is_channels_last(input));
}

at::Tensor roi_align_backward_cpu(const at::Tensor& grad_output, const at::Tensor& rois,
                                  double spatial_scale, int64_t batch_size, int64_t channels,
                                  int64_t height, int64_t width, int64_t sampling_ratio,
                                  bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width);
  check_dtype(grad_output);
  const at::Tensor gradient = with_channels_innermost(grad_output.to(sum_dtype(grad_output)));
  const at::Tensor boxes = rois.contiguous();
  const int64_t num_rois = boxes.size(0);
  const auto images = batch_indices(boxes.data_ptr<float>(), num_rois, batch_size);
  std::vector<std::vector<int64_t>> by_image(batch_size);
  for (int64_t roi = 0; roi < num_rois; ++roi) {
    by_image[images[roi]].push_back(roi);
  }
  const at::Tensor result = at::empty({batch_size, channels, height, width}, gradient.options(),
                                      at::MemoryFormat::ChannelsLast)
                                .zero_();
  if (result.numel() > 0 && gradient.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "roi_align_backward_cpu", [&] {
      const Sampling<scalar_t> sampling{static_cast<scalar_t>(spatial_scale),
                                        static_cast<scalar_t>(sampling_ratio), aligned};
      const float* box = boxes.data_ptr<float>();
      const auto wy = make_weights(box, num_rois, 2, gradient.size(2), height, sampling);
      const auto wx = make_weights(box, num_rois, 1, gradient.size(3), width, sampling);
      run_backward<scalar_t>(
          {Maps<scalar_t>(result), Maps<scalar_t>(gradient), channels, wy, wx, images, by_image});
    });
  }
  return in_layout(result.to(grad_output.scalar_type()), channels_last);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CPU, m) {
  m.impl("roi_align", &roi_align_cpu);
  m.impl("roi_align_backward", &roi_align_backward_cpu);
}

}  // namespace fgclip_det
