#pragma once

// Geometry of average RoIAlign, for host and device compilers; free of ATen.
//
// Every rule of RoIAlign acts on one axis at a time: where the samples of a bin lie, which of them
// count, how a sample spreads over its two neighbouring cells. The average over the samples of bin
// (p, q) is therefore exactly  sum_y sum_x wy[p][y] * wx[q][x] * F[y][x],  and the gradient is the
// transpose. This file makes the weights of one bin along one axis.

#include <cfloat>
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define FGCLIP_DET_HOST_DEVICE __host__ __device__ inline
#else
#define FGCLIP_DET_HOST_DEVICE inline
#endif

namespace fgclip_det {

// Cells [first, first + count) of an axis that a bin touches; count 0 where it touches none.
struct Span {
  int32_t first;
  int32_t count;

  FGCLIP_DET_HOST_DEVICE bool contains(int64_t cell) const {
    return cell >= first && cell < static_cast<int64_t>(first) + count;
  }
};

// One axis of one box, in cells of the feature map.
template <typename T>
struct Axis {
  T start;    // lower edge of the box
  T bin;      // length of a bin
  T samples;  // samples per bin, a whole number; 0 where the box is not usable
};

// How boxes become samples: the arguments of the operator that concern geometry.
template <typename T>
struct Sampling {
  T spatial_scale;  // cells per pixel
  T ratio;          // samples per bin and axis; <= 0: as many as a bin has cells, rounded up
  bool aligned;     // shift by half a cell; otherwise boxes are at least one cell long
};

// low, high: edges of the box along the axis, in pixels.
// The order of operations is torchvision's, because ceil() turns a last bit into a whole sample.
template <typename T>
FGCLIP_DET_HOST_DEVICE Axis<T> make_axis(T low, T high, int bins, const Sampling<T>& sampling) {
  const T offset = sampling.aligned ? T(0.5) : T(0);
  const T start = low * sampling.spatial_scale - offset;
  const T end = high * sampling.spatial_scale - offset;
  T extent = end - start;
  // NaN fails both comparisons; an infinite edge makes the extent infinite or NaN.
  const bool finite = extent >= -T(FLT_MAX) && extent <= T(FLT_MAX);
  if (!finite || (sampling.aligned && extent < T(0))) {
    return {T(0), T(0), T(0)};
  }
  if (!sampling.aligned && extent < T(1)) {
    extent = T(1);
  }
  const T bin = extent / static_cast<T>(bins);
  return {start, bin, sampling.ratio > T(0) ? sampling.ratio : std::ceil(bin)};
}

// Position of a sample of bin `index` in cells. `sample` is of type T since boxes may be larger
// than any integer.
template <typename T>
FGCLIP_DET_HOST_DEVICE T sample_position(const Axis<T>& axis, int index, T sample) {
  return axis.start + static_cast<T>(index) * axis.bin +
         (sample + T(0.5)) * axis.bin / axis.samples;
}

// Samples first, first + 1, ... first + count - 1 of a bin.
template <typename T>
struct SampleRange {
  T first;
  int64_t count;
};

// The samples of a bin that lie inside [-1, size]; the others weigh nothing, and a box of 1e30
// pixels has too many of them to look at.
template <typename T>
FGCLIP_DET_HOST_DEVICE SampleRange<T> samples_inside(const Axis<T>& axis, int index, int size) {
  if (!(axis.samples > T(0))) {
    return {T(0), 0};
  }
  const double base = static_cast<double>(axis.start + static_cast<T>(index) * axis.bin);
  const double step = static_cast<double>(axis.bin / axis.samples);
  const double samples = static_cast<double>(axis.samples);
  double first = 0;
  double count = samples;
  if (step > 0) {
    // Two samples of margin on each side: sample_position() rounds differently from this estimate.
    first = std::floor((-1.0 - base) / step - 0.5) - 2.0;
    first = first < 0 ? 0 : (first > samples ? samples : first);
    const double visible = (static_cast<double>(size) + 1.0) / step + 5.0;
    count = samples - first < visible ? samples - first : visible;
  }
  SampleRange<T> range{static_cast<T>(first), static_cast<int64_t>(count)};
  while (range.count > 0 && sample_position(axis, index, range.first) < T(-1)) {
    range.first += T(1);
    --range.count;
  }
  while (range.count > 0 &&
         sample_position(axis, index, range.first + static_cast<T>(range.count - 1)) > T(size)) {
    --range.count;
  }
  return range;
}

// Positions in [-1, 0] read cell 0, positions in [size - 1, size] the last cell.
template <typename T>
FGCLIP_DET_HOST_DEVICE T clamp_to_map(T position, int size) {
  const T last = static_cast<T>(size - 1);
  return position < T(0) ? T(0) : (position > last ? last : position);
}

// The cells that samples of bin `index` read. Samples outside the map read none.
template <typename T>
FGCLIP_DET_HOST_DEVICE Span cells_of(const Axis<T>& axis, int index, int size,
                                     const SampleRange<T>& range) {
  if (range.count <= 0) {
    return {0, 0};
  }
  const T last_sample = range.first + static_cast<T>(range.count - 1);
  const T lowest = clamp_to_map(sample_position(axis, index, range.first), size);
  const T highest = clamp_to_map(sample_position(axis, index, last_sample), size);
  const int first = static_cast<int>(lowest);
  const int end = static_cast<int>(highest) + 2;
  return {first, (end < size ? end : size) - first};
}

// Writes the weights of the cells of `span`, as found by cells_of(), to weights[0 ... count).
// Samples outside the map weigh nothing but still divide.
template <typename T>
FGCLIP_DET_HOST_DEVICE void fill_weights(const Axis<T>& axis, int index, int size,
                                         const SampleRange<T>& range, const Span& span,
                                         T* weights) {
  for (int cell = 0; cell < span.count; ++cell) {
    weights[cell] = T(0);
  }
  const T share = T(1) / axis.samples;
  for (int64_t i = 0; i < range.count; ++i) {
    const T sample = range.first + static_cast<T>(i);
    const T position = clamp_to_map(sample_position(axis, index, sample), size);
    const int cell = static_cast<int>(position);
    const T fraction = position - static_cast<T>(cell);
    weights[cell - span.first] += (T(1) - fraction) * share;
    if (cell - span.first + 1 < span.count) {
      weights[cell - span.first + 1] += fraction * share;
    }
  }
}

}  // namespace fgclip_det
