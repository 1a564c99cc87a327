#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../roi_align_tensors.h"
#include "instruction_sets.h"
#include "roi_align_boxes.h"
#include "roi_align_problem.h"

// The loops over channels stand in roi_align_loops.h.

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

template <typename scalar_t>
const Loops<scalar_t>& loops() {
  return runs_avx2() ? avx2_loops<scalar_t>() : baseline_loops<scalar_t>();
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

  // maps: (N, C, h_l, w_l) of each level; pooled: (K, C, oh, ow); rois: (K, 5) contiguous; levels:
  // (K,) contiguous, or undefined where there is one.
  Call(at::TensorList maps, const at::Tensor& pooled, const at::Tensor& rois,
       const at::Tensor& levels, const Settings& settings)
      : maps_(maps),
        pooled_(pooled),
        batch_(rois.data_ptr<float>(), levels.defined() ? levels.data_ptr<int64_t>() : nullptr,
               rois.size(0), maps.size(), maps[0].size(0)),
        wy_(rois.data_ptr<float>(), batch_, 2, pooled.size(2), sizes_of(maps, 2), settings),
        wx_(rois.data_ptr<float>(), batch_, 1, pooled.size(3), sizes_of(maps, 3), settings) {
    at::parallel_for(0, rois.size(0), 128, [&](int64_t begin, int64_t end) {
      wy_.fill(begin, end);
      wx_.fill(begin, end);
    });
  }

  void forward() {
    for (size_t level = 0; level < maps_.size(); ++level) {
      Problem<scalar_t> problem = problem_of(level);
      if (problem.num_rois > 0) {
        forward(problem);
      }
    }
  }

  void backward() {
    for (size_t level = 0; level < maps_.size(); ++level) {
      Problem<scalar_t> problem = problem_of(level);
      if (maps_[level].numel() > 0) {
        problem.band = band_of(problem, bins_of(problem) > 1 ? kOuterBytes : kInnerBytes);
        run(problem, loops<scalar_t>().spread, problem.images * problem.slabs() * problem.bands(),
            spread_scratch(problem));
      }
    }
  }

 private:
  static std::vector<int> sizes_of(at::TensorList maps, int axis) {
    std::vector<int> sizes;
    for (const at::Tensor& map : maps) {
      sizes.push_back(static_cast<int>(map.size(axis)));
    }
    return sizes;
  }

  Problem<scalar_t> problem_of(int64_t level) const {
    const at::Tensor& map = maps_[level];
    return {maps_of<scalar_t>(map),
            maps_of<scalar_t>(pooled_),
            map.size(0),
            map.size(1),
            map.size(2),
            map.size(3),
            batch_.level_begin[level + 1] - batch_.level_begin[level],
            wy_.view(),
            wx_.view(),
            batch_.image_of.data(),
            batch_.order.data() + batch_.level_begin[level],
            batch_.image_begin.data() + level * (map.size(0) + 1),
            1,
            1,
            kSlab<T>,
            1,
            false};
  }

  static void forward(Problem<scalar_t>& problem) {
    if (bins_of(problem) > 1) {
      if (problem.map.stride_c != 1) {
        // The rows of a box lie far apart in each plane: stay in few planes for all boxes.
        problem.slab = kSlab<T> / 2;
        problem.slabs_first = true;
      } else if (problem.pooled.stride_c == 1) {
        // Long reads are the fastest; split them where threads would idle or the sums of a row of
        // bins would leave the cache.
        const int64_t fitting = std::max<int64_t>(kSumBytes / (problem.width * kSlabBytes), 1);
        const int64_t wanted = 4 * at::get_num_threads() / problem.num_rois + 1;
        const int64_t shared = (problem.slabs() + wanted - 1) / wanted;
        problem.part = std::min({problem.slabs(), fitting, shared});
      }
      run(problem, loops<scalar_t>().pool, problem.num_rois * problem.parts(),
          pool_scratch(problem));
      return;
    }
    const int64_t tasks = problem.images * problem.slabs();
    // Each part of the boxes packs the map again: split them only where threads would idle.
    const int64_t wanted = (2 * at::get_num_threads() + tasks - 1) / tasks;
    problem.groups = std::clamp<int64_t>(wanted, 1, 1 + problem.num_rois / 64);
    problem.band = band_of(problem, kInnerBytes);
    run(problem, loops<scalar_t>().sweep, tasks * problem.groups, sweep_scratch(problem));
  }

  static int64_t bins_of(const Problem<scalar_t>& problem) {
    return problem.wy.bins * problem.wx.bins;
  }

  static int64_t band_of(const Problem<scalar_t>& problem, int64_t bytes) {
    return std::clamp<int64_t>(bytes / (problem.width * kSlabBytes), 1, problem.height);
  }

  static void run(const Problem<scalar_t>& problem, typename Loops<scalar_t>::Run work,
                  int64_t tasks, int64_t scratch) {
    at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      // Vectors that straddle cache lines are slow.
      constexpr int64_t kLine = 64 / sizeof(T);
      const std::unique_ptr<T[]> memory(new T[scratch + kLine]);
      const auto address = reinterpret_cast<uintptr_t>(memory.get());
      work(problem, begin, end, memory.get() + (64 - address % 64) % 64 / sizeof(T));
    });
  }

  at::TensorList maps_;
  const at::Tensor& pooled_;
  Batch batch_;
  WeightStorage<T> wy_, wx_;
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

at::Tensor pool(at::TensorList inputs, const at::Tensor& rois, const at::Tensor& levels,
                const Settings& settings, int64_t pooled_height, int64_t pooled_width) {
  const at::Tensor& first = inputs[0];
  const bool channels_last = is_channels_last(first);
  std::vector<at::Tensor> maps;
  for (const at::Tensor& input : inputs) {
    maps.push_back(is_channels_last(input) || input.stride(3) == 1 ? input : input.contiguous());
  }
  const at::Tensor output = empty_in_layout(
      {rois.size(0), first.size(1), pooled_height, pooled_width}, first, channels_last);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, first.scalar_type(), "roi_align_cpu", [&] {
        Call<typename StorageOf<scalar_t>::type> call(maps, output, rois, levels, settings);
        if (output.numel() > 0) {
          call.forward();
        }
      });
  return output;
}

// Writes the gradients of maps, all of it.
void spread(at::TensorList maps, const at::Tensor& grad_output, const at::Tensor& rois,
            const at::Tensor& levels, const Settings& settings) {
  const at::Tensor gradient = with_whole_rows(grad_output);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, gradient.scalar_type(), "roi_align_backward_cpu", [&] {
        Call<typename StorageOf<scalar_t>::type> call(maps, gradient, rois, levels, settings);
        call.backward();
      });
}

at::Tensor roi_align_cpu(const at::Tensor& input, const at::Tensor& rois, double spatial_scale,
                         int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                         bool aligned) {
  check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
  check_dtype(input);
  return pool(input, rois.contiguous(), {}, {{spatial_scale}, sampling_ratio, aligned},
              pooled_height, pooled_width);
}

at::Tensor roi_align_backward_cpu(const at::Tensor& grad_output, const at::Tensor& rois,
                                  double spatial_scale, int64_t batch_size, int64_t channels,
                                  int64_t height, int64_t width, int64_t sampling_ratio,
                                  bool aligned, bool channels_last) {
  check_backward(grad_output, rois, channels, height, width, sampling_ratio);
  check_batch_size(batch_size);
  check_dtype(grad_output);
  const at::Tensor result =
      empty_in_layout({batch_size, channels, height, width}, grad_output, channels_last);
  spread(result, grad_output, rois.contiguous(), {}, {{spatial_scale}, sampling_ratio, aligned});
  return result;
}

at::Tensor roi_align_pyramid_cpu(at::TensorList inputs, const at::Tensor& rois,
                                 const at::Tensor& levels, at::ArrayRef<double> spatial_scales,
                                 int64_t pooled_height, int64_t pooled_width,
                                 int64_t sampling_ratio, bool aligned) {
  check_levels(levels, rois, inputs.size(), spatial_scales);
  for (const at::Tensor& input : inputs) {
    check_forward(input, rois, pooled_height, pooled_width, sampling_ratio);
    check_alike(input, inputs[0]);
  }
  check_dtype(inputs[0]);
  return pool(inputs, rois.contiguous(), levels.contiguous(),
              {spatial_scales.vec(), sampling_ratio, aligned}, pooled_height, pooled_width);
}

std::vector<at::Tensor> roi_align_pyramid_backward_cpu(
    const at::Tensor& grad_output, const at::Tensor& rois, const at::Tensor& levels,
    at::ArrayRef<double> spatial_scales, int64_t batch_size, int64_t channels,
    at::IntArrayRef heights, at::IntArrayRef widths, int64_t sampling_ratio, bool aligned,
    bool channels_last) {
  check_levels(levels, rois, heights.size(), spatial_scales);
  check_batch_size(batch_size);
  check_dtype(grad_output);
  check_sides(heights, widths);
  std::vector<at::Tensor> results;
  for (size_t level = 0; level < heights.size(); ++level) {
    check_backward(grad_output, rois, channels, heights[level], widths[level], sampling_ratio);
    results.push_back(empty_in_layout({batch_size, channels, heights[level], widths[level]},
                                      grad_output, channels_last));
  }
  spread(results, grad_output, rois.contiguous(), levels.contiguous(),
         {spatial_scales.vec(), sampling_ratio, aligned});
  return results;
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, CPU, m) {
  m.impl("roi_align", &roi_align_cpu);
  m.impl("roi_align_backward", &roi_align_backward_cpu);
  m.impl("roi_align_pyramid", &roi_align_pyramid_cpu);
  m.impl("roi_align_pyramid_backward", &roi_align_pyramid_backward_cpu);
}

}  // namespace fgclip_det
