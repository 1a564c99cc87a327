#pragma once

// What the kernels share: vectors of channels, and the separable weights of all boxes.
//
// Compiled with -fmad=false, so that the geometry gives the same bits as on the CPU; where a fused
// multiply-add is wanted it is written out. Every sum has an order that depends on shapes, and on
// the kind of GPU, alone: no atomics, hence the same bits in every run.

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../roi_align_common.h"

// Whether a box that names no image stops the program; setup.py says how to leave that out. Either
// way it reads and writes nothing outside: its result is 0, and it has no gradient.
#if defined(FGCLIP_DET_NO_INDEX_ASSERTION)
#define FGCLIP_DET_ASSERT_INDEX(condition) static_cast<void>(0)
#else
#define FGCLIP_DET_ASSERT_INDEX(condition) CUDA_KERNEL_ASSERT(condition)
#endif

namespace fgclip_det {

constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of a block, at most

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// V neighbouring channels, read and written in one go: 16 bytes, or one channel. Two values of 16
// bits stay one word: kept apart, they cost the compiler an instruction each to bring together.
template <typename scalar_t, int V>
struct alignas(V * sizeof(scalar_t)) Pack {
  static constexpr bool kPaired = sizeof(scalar_t) == 2 && V > 1;
  using Part = std::conditional_t<kPaired, uint32_t, scalar_t>;
  Part parts[kPaired ? V / 2 : V];
};

template <int V, typename scalar_t>
__device__ __forceinline__ Pack<scalar_t, V> load(const scalar_t* from) {
  return *reinterpret_cast<const Pack<scalar_t, V>*>(from);
}

template <int V, typename scalar_t, typename T>
__device__ __forceinline__ void store(scalar_t* to, const T (&sums)[V]) {
  scalar_t values[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    values[v] = static_cast<scalar_t>(sums[v]);
  }
  Pack<scalar_t, V> pack;
  memcpy(&pack, values, sizeof(pack));
  *reinterpret_cast<Pack<scalar_t, V>*>(to) = pack;
}

template <typename scalar_t, typename T, int V>
__device__ __forceinline__ void add(T weight, const Pack<scalar_t, V>& pack, T (&sums)[V]) {
  if constexpr (Pack<scalar_t, V>::kPaired) {
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
      T low, high;
      if constexpr (std::is_same_v<scalar_t, c10::BFloat16>) {
        // Each is one operation away from float32; the compiler takes two.
        low = __uint_as_float(pack.parts[i] << 16);
        high = __uint_as_float(pack.parts[i] & 0xffff0000u);
      } else {
        scalar_t pair[2];
        memcpy(pair, &pack.parts[i], sizeof(pair));
        low = static_cast<T>(pair[0]), high = static_cast<T>(pair[1]);
      }
      sums[2 * i] = multiply_add(weight, low, sums[2 * i]);
      sums[2 * i + 1] = multiply_add(weight, high, sums[2 * i + 1]);
    }
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      sums[v] = multiply_add(weight, static_cast<T>(pack.parts[v]), sums[v]);
    }
  }
}

// A (A, C, B, D) tensor with channels innermost, addressed as [a][b][d][c].
template <typename scalar_t>
struct Maps {
  const scalar_t* data;
  int64_t stride_a, stride_b, stride_d;

  __device__ __forceinline__ int64_t offset(int64_t a, int64_t b, int64_t d) const {
    return a * stride_a + b * stride_b + d * stride_d;
  }
  __device__ __forceinline__ const scalar_t* at(int64_t a, int64_t b, int64_t d) const {
    return data + offset(a, b, d);
  }
};

// Threads side by side on the channels of a cell, V channels each.
struct Lanes {
  int count;         // a power of two, at most a warp
  int64_t channels;  // C
  int64_t tiles;     // how often `count` lanes go into C

  __device__ __forceinline__ int lane() const { return threadIdx.x % count; }
  __device__ __forceinline__ int group() const { return threadIdx.x / count; }
  __device__ __forceinline__ int groups() const { return blockDim.x / count; }
};

// Separable weights of all boxes along one axis, in device memory.
template <typename T>
struct AxisWeights {
  int bins;
  int size;     // cells of the map along the axis, where a launch is about one map
  int pitch;    // the most cells of any map
  Span* spans;  // (K, bins)
  T* weights;   // (K, bins, pitch), written inside the spans only

  __device__ __forceinline__ Span span(int64_t roi, int64_t bin) const {
    return spans[roi * bins + bin];
  }
  __device__ __forceinline__ const T* of(int64_t roi, int64_t bin) const {
    return weights + (roi * bins + bin) * pitch;
  }
};

// The cells [begin, end) of an axis that any bin of a box touches; end 0 where there are none.
template <typename T>
__device__ __forceinline__ void cover(const AxisWeights<T>& weights, int64_t roi, int32_t& begin,
                                      int32_t& end) {
  begin = INT_MAX;
  end = 0;
  for (int bin = 0; bin < weights.bins; ++bin) {
    const Span span = weights.span(roi, bin);
    if (span.count > 0) {
      begin = span.first < begin ? span.first : begin;
      end = span.first + span.count > end ? span.first + span.count : end;
    }
  }
}

template <typename T>
struct Boxes {
  const float* rois;  // (K, 5)
  int64_t count;      // K
  int64_t batch_size;
  AxisWeights<T> wy, wx;

  // Of a pyramid: which map each box is pooled from, (K,), the number of maps, and those that a
  // launch is about: the first of them, and how many.
  const int64_t* levels = nullptr;
  int64_t num_levels = 1, level = 0, launched = 1;

  // Of both axes of a box.
  __host__ __device__ __forceinline__ int64_t bins() const {
    return static_cast<int64_t>(wy.bins) + wx.bins;
  }

  __device__ __forceinline__ bool names_level(int64_t roi) const {
    return levels == nullptr || (levels[roi] >= 0 && levels[roi] < num_levels);
  }

  // The map of this box among those of the launch, or -1; the first sees to boxes that name none.
  __device__ __forceinline__ int slot(int64_t roi) const {
    const int64_t at = (levels != nullptr && names_level(roi) ? levels[roi] : 0) - level;
    return at >= 0 && at < launched ? static_cast<int>(at) : -1;
  }

  __device__ __forceinline__ bool is_mine(int64_t roi) const {
    return levels == nullptr || slot(roi) >= 0;
  }

  // -1 where the box names no image or no map; the host cannot look without waiting for the device.
  __device__ __forceinline__ int64_t image(int64_t roi) const {
    const float index = rois[roi * 5];
    const bool named = index >= 0 && index < static_cast<float>(batch_size);
    FGCLIP_DET_ASSERT_INDEX(named && "rois[:, 0] must name an image of the batch, starting at 0");
    FGCLIP_DET_ASSERT_INDEX(names_level(roi) && "levels must name a map, starting at 0");
    return named && names_level(roi) ? static_cast<int64_t>(index) : -1;
  }
};

// What fill_weights() adds up in `cell`, in its order and so with its bits. It is a gather, so
// that threads share a bin. Within a bin positions never decrease from one sample to the next.
template <typename T>
__device__ __forceinline__ T cell_weight(const Axis<T>& axis, int bin, int size,
                                         const SampleRange<T>& range, int cell) {
  int64_t sample = 0;
  for (int64_t end = range.count; sample < end;) {
    const int64_t middle = sample + (end - sample) / 2;
    const T position = sample_position(axis, bin, range.first + static_cast<T>(middle));
    if (static_cast<int>(clamp_to_map(position, size)) < cell - 1) {
      sample = middle + 1;
    } else {
      end = middle;
    }
  }
  const T share = T(1) / axis.samples;
  T weight = T(0);
  for (; sample < range.count; ++sample) {
    const T position =
        clamp_to_map(sample_position(axis, bin, range.first + static_cast<T>(sample)), size);
    const int left = static_cast<int>(position);
    if (left > cell) {
      break;
    }
    const T fraction = position - static_cast<T>(left);
    weight += (left == cell ? T(1) - fraction : fraction) * share;
  }
  return weight;
}

constexpr int kMaxLevels = 8;  // maps that a launch may be about

// How the maps of a launch are sampled, and their sizes in cells.
template <typename T>
struct Scene {
  Sampling<T> sampling[kMaxLevels];
  int heights[kMaxLevels], widths[kMaxLevels];
};

// One bin of one axis of a box: rows first, `rank` counts on through the columns.
template <typename T>
struct Bin {
  int index, size;  // of the bins and, in cells, of the map along its axis
  Axis<T> axis;
  SampleRange<T> range;
  Span span;

  __device__ __forceinline__ Bin(const Boxes<T>& boxes, const Scene<T>& scene, int64_t roi,
                                 int slot, int64_t rank) {
    const bool vertical = rank < boxes.wy.bins;
    index = static_cast<int>(vertical ? rank : rank - boxes.wy.bins);
    size = vertical ? scene.heights[slot] : scene.widths[slot];
    const float* low = boxes.rois + roi * 5 + (vertical ? 2 : 1);
    axis = make_axis(static_cast<T>(low[0]), static_cast<T>(low[2]),
                     vertical ? boxes.wy.bins : boxes.wx.bins, scene.sampling[slot]);
    range = samples_inside(axis, index, size);
    span = cells_of(axis, index, size, range);
  }
};

// How many blocks of kThreads write_weights() is for, `lanes` threads for each bin of each axis.
template <typename T>
__host__ __device__ __forceinline__ int64_t weight_blocks(const Boxes<T>& boxes, int lanes) {
  const int64_t in_block = kThreads / lanes;
  return (boxes.count * boxes.bins() + in_block - 1) / in_block;
}

template <typename T>
__device__ __forceinline__ void write_weights(const Boxes<T>& boxes, const Scene<T>& scene,
                                              int lanes, int64_t block) {
  const int64_t item = block * (kThreads / lanes) + threadIdx.x / lanes;
  if (item >= boxes.count * boxes.bins()) {
    return;
  }
  const int64_t roi = item / boxes.bins(), rank = item % boxes.bins();
  const int slot = boxes.slot(roi);
  if (slot < 0) {
    return;
  }
  const Bin<T> bin(boxes, scene, roi, slot, rank);
  const AxisWeights<T> out = rank < boxes.wy.bins ? boxes.wy : boxes.wx;
  T* weights = out.weights + (roi * out.bins + bin.index) * out.pitch + bin.span.first;
  for (int i = threadIdx.x % lanes; i < bin.span.count; i += lanes) {
    weights[i] = cell_weight(bin.axis, bin.index, bin.size, bin.range, bin.span.first + i);
  }
  if (threadIdx.x % lanes == 0) {
    out.spans[roi * out.bins + bin.index] = bin.span;
  }
}

// What the forward pass launches before all else.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(Boxes<T> boxes, const __grid_constant__ Scene<T> scene, int lanes) {
  for (int64_t block = blockIdx.x; block < weight_blocks(boxes, lanes); block += gridDim.x) {
    write_weights(boxes, scene, lanes, block);
  }
}

}  // namespace fgclip_det
