#pragma once

// What the loops of the CPU operator work on: plain pointers and strides, no ATen.

#include <cstdint>

#include "../roi_align_common.h"

namespace fgclip_det {

// Storage of the 16-bit types; values are computed in float.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// What values of a type are summed in.
template <typename scalar_t>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <typename scalar_t>
using sum_t = typename SumOf<scalar_t>::type;

// Channels are taken slab by slab: few enough for the sums of a slab to stay in registers.
constexpr int kSlabBytes = 256;
template <typename T>
constexpr int kSlab = kSlabBytes / static_cast<int>(sizeof(T));

// Separable weights of all boxes along one axis, without the zeros.
template <typename T>
struct AxisWeights {
  int64_t bins;
  const Span* reaches;     // (K,): the cells of all bins of a box
  const Span* spans;       // (K, bins): the cells of a bin
  const int64_t* offsets;  // (K, bins): where the weights of a bin begin in `values`
  const T* values;

  const Span& span(int64_t roi, int64_t bin) const { return spans[roi * bins + bin]; }
  const T* of(int64_t roi, int64_t bin) const { return values + offsets[roi * bins + bin]; }
};

// A 4-d tensor, (N, C, h, w) or (K, C, oh, ow), by its strides in elements.
template <typename scalar_t>
struct Maps {
  scalar_t* data;
  int64_t stride_n, stride_c, stride_h, stride_w;

  scalar_t* at(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return data + n * stride_n + c * stride_c + y * stride_h + x * stride_w;
  }
};

// In `map` and in `pooled`, channels lie side by side (stride_c == 1) or cells do (stride_w == 1).
// The map is read and `pooled` written by the forward pass, the other way round by the backward
// pass; the side that is only read is never written through its pointer.
template <typename scalar_t>
struct Problem {
  using T = sum_t<scalar_t>;

  Maps<scalar_t> map;     // (N, C, h, w)
  Maps<scalar_t> pooled;  // (K, C, oh, ow)
  int64_t images, channels, height, width, num_rois;
  AxisWeights<T> wy, wx;
  const int64_t* image_of;     // (K,)
  const int64_t* order;        // (K,): boxes sorted by image, in their order
  const int64_t* image_begin;  // (N + 1,): where the boxes of an image begin in `order`
  int64_t band;                // rows of the map that are worked on together
  int64_t groups;              // sweep: parts that the boxes of an image are split into

  int64_t slab;      // channels that are worked on together, at most kSlab
  int64_t part;      // pool: slabs of a box that are worked on together
  bool slabs_first;  // pool: all boxes of one slab before the next slab; `part` is 1 then

  int64_t slabs() const { return (channels + slab - 1) / slab; }
  int64_t parts() const { return (slabs() + part - 1) / part; }
  int64_t bands() const { return (height + band - 1) / band; }
  int64_t group_begin(int64_t image, int64_t group) const {
    const int64_t count = image_begin[image + 1] - image_begin[image];
    return image_begin[image] + count * group / groups;
  }
};

// Each function works on tasks [begin, end) of its kind; `scratch` belongs to the caller's thread
// and holds as many values as the function's *_scratch() says.
template <typename scalar_t>
struct Loops {
  using Run = void (*)(const Problem<scalar_t>&, int64_t begin, int64_t end,
                       sum_t<scalar_t>* scratch);
  Run sweep;   // forward, one bin per box; tasks are (image, slab, group of boxes)
  Run pool;    // forward, several bins per box; tasks are (box, part of the slabs)
  Run spread;  // backward; tasks are (image, slab, band of rows)
};

template <typename scalar_t>
int64_t sweep_scratch(const Problem<scalar_t>& problem) {
  const int64_t boxes = (problem.num_rois + problem.groups - 1) / problem.groups + 1;
  return (boxes + problem.band * problem.width) * kSlab<sum_t<scalar_t>>;
}

template <typename scalar_t>
int64_t pool_scratch(const Problem<scalar_t>& problem) {
  // Vectors along a row may begin before and end after the cells of a box.
  const int64_t window = problem.width * problem.part + 2 * kSlab<sum_t<scalar_t>>;
  return (window + problem.wy.bins * problem.wx.bins) * kSlab<sum_t<scalar_t>>;
}

template <typename scalar_t>
int64_t spread_scratch(const Problem<scalar_t>& problem) {
  const int64_t cells = problem.band * problem.width + problem.wy.bins * problem.wx.bins;
  return cells * kSlab<sum_t<scalar_t>>;
}

template <typename scalar_t>
const Loops<scalar_t>& baseline_loops();
template <typename scalar_t>
const Loops<scalar_t>& avx2_loops();

}  // namespace fgclip_det
