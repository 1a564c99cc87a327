#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../roi_align_common.h"
#include "../roi_align_tensors.h"
#include "roi_align_problem.h"

// The geometry is computed here, with the compiler's default instructions: fused multiply-adds in
// it would move samples. The loops over channels stand in roi_align_loops.h.

namespace fgclip_det {
namespace {

// Bytes of packed map rows that a task works on: the innermost cache, or the next one where each
// visit of a box costs more than adding one row.
constexpr int64_t kInnerBytes = 24 << 10;
constexpr int64_t kOuterBytes = 128 << 10;
// Bytes that the summed rows of a bin may take.
constexpr int64_t kSumBytes = 512 << 10;

// What a scalar type of PyTorch is stored as.
template <typename scalar_t>
struct StorageOf {
  using type = scalar_t;
};
template <>
struct StorageOf<at::Half> {
  using type = Half;
};
template <>
struct StorageOf<at::BFloat16> {
  using type = BFloat16;
};

// The memory behind an AxisWeights. Spans are found at once, the weights by fill().
template <typename T>
class WeightStorage {
 public:
  // low: column of the rois with the lower edge, 1 for x and 2 for y.
  WeightStorage(const float* rois, int64_t num_rois, int low, int64_t bins, int64_t size,
                const Sampling<T>& sampling)
      : rois_(rois),
        low_(low),
        bins_(bins),
        size_(static_cast<int>(size)),
        sampling_(sampling),
        reaches_(num_rois),
        spans_(num_rois * bins),
        offsets_(num_rois * bins) {
    int64_t total = 0;
    for (int64_t roi = 0; roi < num_rois; ++roi) {
      const Axis<T> axis = axis_of(roi);
      int32_t first = 0, end = 0;
      for (int64_t bin = 0; bin < bins; ++bin) {
        const int index = static_cast<int>(bin);
        const Span span = cells_of(axis, index, size_, samples_inside(axis, index, size_));
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
      for (int64_t bin = 0; bin < bins_; ++bin) {
        const int index = static_cast<int>(bin);
        const int64_t item = roi * bins_ + bin;
        fill_weights(axis, index, size_, samples_inside(axis, index, size_), spans_[item],
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
                     static_cast<int>(bins_), sampling_);
  }

  const float* rois_;  // (K, 5)
  int low_;
  int64_t bins_;
  int size_;
  Sampling<T> sampling_;
  std::vector<Span> reaches_, spans_;
  std::vector<int64_t> offsets_;
  std::unique_ptr<T[]> values_;
};

// Which boxes belong to which image.
struct Batch {
  std::vector<int64_t> image_of, order, image_begin;

  Batch(const float* rois, int64_t num_rois, int64_t images)
      : image_of(num_rois), order(num_rois), image_begin(images + 1) {
    for (int64_t roi = 0; roi < num_rois; ++roi) {
      const float index = rois[roi * 5];
      TORCH_CHECK_VALUE(
          index >= 0 && index < static_cast<float>(images) && index == std::floor(index), "rois[",
          roi, ", 0] names image ", index, ", but the features hold ", images,
          " images; batch indices start at 0 and are whole numbers");
      image_of[roi] = static_cast<int64_t>(index);
      ++image_begin[image_of[roi] + 1];
    }
    for (int64_t image = 0; image < images; ++image) {
      image_begin[image + 1] += image_begin[image];
    }
    std::vector<int64_t> next(image_begin.begin(), image_begin.end());
    for (int64_t roi = 0; roi < num_rois; ++roi) {
      order[next[image_of[roi]]++] = roi;
    }
  }
};

template <typename scalar_t>
const Loops<scalar_t>& loops() {
#if defined(__GNUC__) && defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return avx2_loops<scalar_t>();
  }
#endif
  return baseline_loops<scalar_t>();
}

template <typename scalar_t>
Maps<scalar_t> maps_of(const at::Tensor& tensor) {
  return {static_cast<scalar_t*>(tensor.data_ptr()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2), tensor.stride(3)};
}

// The geometry of a call, and the memory that a Problem points to.
template <typename scalar_t>
class Call {
 public:
  using T = sum_t<scalar_t>;

  // map: (N, C, h, w); pooled: (K, C, oh, ow); rois: (K, 5) contiguous.
  Call(const at::Tensor& map, const at::Tensor& pooled, const at::Tensor& rois,
       const Sampling<T>& sampling)
      : batch_(rois.data_ptr<float>(), rois.size(0), map.size(0)),
        wy_(rois.data_ptr<float>(), rois.size(0), 2, pooled.size(2), map.size(2), sampling),
        wx_(rois.data_ptr<float>(), rois.size(0), 1, pooled.size(3), map.size(3), sampling),
        problem_{maps_of<scalar_t>(map),
                 maps_of<scalar_t>(pooled),
                 map.size(0),
                 map.size(1),
                 map.size(2),
                 map.size(3),
                 rois.size(0),
                 wy_.view(),
                 wx_.view(),
                 batch_.image_of.data(),
                 batch_.order.data(),
                 batch_.image_begin.data(),
                 1,
                 1,
                 kSlab<T>,
                 1,
                 false} {
    at::parallel_for(0, rois.size(0), 128, [&](int64_t begin, int64_t end) {
      wy_.fill(begin, end);
      wx_.fill(begin, end);
    });
  }

  void forward() {
    if (bins() > 1) {
      if (problem_.map.stride_c != 1) {
        // The rows of a box lie far apart in each plane: stay in few planes for all boxes.
        problem_.slab = kSlab<T> / 2;
        problem_.slabs_first = true;
      } else if (problem_.pooled.stride_c == 1) {
        // Long reads are the fastest; split them where threads would idle or the sums of a row of
        // bins would leave the cache.
        const int64_t fitting = std::max<int64_t>(kSumBytes / (problem_.width * kSlabBytes), 1);
        const int64_t wanted = 4 * at::get_num_threads() / problem_.num_rois + 1;
        const int64_t shared = (problem_.slabs() + wanted - 1) / wanted;
        problem_.part = std::min({problem_.slabs(), fitting, shared});
      }
      run(loops<scalar_t>().pool, problem_.num_rois * problem_.parts(), pool_scratch(problem_));
      return;
    }
    const int64_t tasks = problem_.images * problem_.slabs();
    // Each part of the boxes packs the map again: split them only where threads would idle.
    const int64_t wanted = (2 * at::get_num_threads() + tasks - 1) / tasks;
    problem_.groups = std::clamp<int64_t>(wanted, 1, 1 + problem_.num_rois / 64);
    problem_.band = band_of(kInnerBytes);
    run(loops<scalar_t>().sweep, tasks * problem_.groups, sweep_scratch(problem_));
  }

  void backward() {
    problem_.band = band_of(bins() > 1 ? kOuterBytes : kInnerBytes);
    run(loops<scalar_t>().spread, problem_.images * problem_.slabs() * problem_.bands(),
        spread_scratch(problem_));
  }

 private:
  int64_t bins() const { return problem_.wy.bins * problem_.wx.bins; }

  int64_t band_of(int64_t bytes) const {
    return std::clamp<int64_t>(bytes / (problem_.width * kSlabBytes), 1, problem_.height);
  }

  void run(typename Loops<scalar_t>::Run work, int64_t tasks, int64_t scratch) const {
    at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      // Vectors that straddle cache lines are slow.
      constexpr int64_t kLine = 64 / sizeof(T);
      const std::unique_ptr<T[]> memory(new T[scratch + kLine]);
      const auto address = reinterpret_cast<uintptr_t>(memory.get());
      work(problem_, begin, end, memory.get() + (64 - address % 64) % 64 / sizeof(T));
    });
  }

  Batch batch_;
  WeightStorage<T> wy_, wx_;
  Problem<scalar_t> problem_;
};

void check_dtype(const at::Tensor& tensor) {
  const at::ScalarType dtype = tensor.scalar_type();
  TORCH_CHECK_VALUE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      "features must be float16, bfloat16, float32 or float64, not ", dtype);
}

at::Tensor empty_in_layout(at::IntArrayRef size, const at::Tensor& like, bool channels_last) {
  const at::Tensor result =
      at::empty(size, like.options(),
                channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
#if defined(__linux__)
  // Large memory comes fresh from the system, page by page as it is written, which takes longer
  // than pooling. Where huge pages are on request, ask for them; refusals change nothing.
  constexpr uintptr_t kHugePage = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(result.data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + result.nbytes()) / kHugePage * kHugePage;
  if (last > first + kHugePage) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return result;
}

at::Tensor roi_align_cpu(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                         int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                         bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
  check_dtype(input);
  const bool channels_last = is_channels_last(input);
  const at::Tensor features = channels_last || input.stride(3) == 1 ? input : input.contiguous();
  const at::Tensor boxes = rois.contiguous();
  const at::Tensor output = empty_in_layout(
      {boxes.size(0), input.size(1), pooled_height, pooled_width}, input, channels_last);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_align_cpu", [&] {
        using storage_t = typename StorageOf<scalar_t>::type;
        using T = sum_t<storage_t>;
        const Sampling<T> sampling{static_cast<T>(spatial_scale), static_cast<T>(sampling_ratio),
                                   aligned};
        Call<storage_t> call(features, output, boxes, sampling);
        if (output.numel() > 0) {
          call.forward();
        }
      });
  return output;
}

at::Tensor roi_align_backward_cpu(const at::Tensor& grad_output, const at::Tensor& rois,
                                  double spatial_scale, int64_t batch_size, int64_t channels,
                                  int64_t height, int64_t width, int64_t sampling_ratio,
                                  bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width, sampling_ratio);
  TORCH_CHECK_VALUE(batch_size >= 0, "batch_size must not be negative, like ", batch_size);
  check_dtype(grad_output);
  const at::Tensor gradient = with_whole_rows(grad_output);
  const at::Tensor boxes = rois.contiguous();
  const at::Tensor result =
      empty_in_layout({batch_size, channels, height, width}, grad_output, channels_last);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, gradient.scalar_type(), "roi_align_backward_cpu", [&] {
        using storage_t = typename StorageOf<scalar_t>::type;
        using T = sum_t<storage_t>;
        const Sampling<T> sampling{static_cast<T>(spatial_scale), static_cast<T>(sampling_ratio),
                                   aligned};
        Call<storage_t> call(result, gradient, boxes, sampling);
        if (result.numel() > 0) {
          call.backward();
        }
      });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CPU, m) {
  m.impl("roi_align", &roi_align_cpu);
  m.impl("roi_align_backward", &roi_align_backward_cpu);
}

}  // namespace fgclip_det
