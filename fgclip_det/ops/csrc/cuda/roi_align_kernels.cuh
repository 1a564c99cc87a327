#pragma once

// How the kernels are launched; free of ATen, so that a test can run all of it on the CPU. Whoever
// includes this defines CUDA_KERNEL_ASSERT before, and passes
//   launch(kernel, blocks, threads, bytes of dynamic shared memory, arguments of the kernel...).

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "roi_align_backward.cuh"
#include "roi_align_forward.cuh"
#include "roi_align_planes.cuh"
#include "roi_align_slab.cuh"
#include "roi_align_weights.cuh"
#include "transpose.cuh"

namespace fgclip_det {

constexpr int kVectorBytes = 16;
constexpr int kStagingBytes = 40960;        // shared memory for bins that are written transposed
constexpr int64_t kMaxBlocks = 1 << 20;     // kernels loop over what is left
constexpr int kListingThreads = 128;        // of a block that goes through all boxes, at the least
constexpr int64_t kManyBlocks = 512;        // enough for any GPU to be busy
constexpr int64_t kMostNumbered = 1 << 30;  // values that pool_slab_kernel numbers with 32 bits
constexpr int64_t kHalfOfShared = 48 * 1024;  // of a multiprocessor's shared memory, on any GPU

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int blocks_for(int64_t items) {
  return static_cast<int>(items < kMaxBlocks ? items : kMaxBlocks);
}

// Enough lanes for all channels, a power of two, at most a warp: 512 bytes of a cell.
inline Lanes lanes_for(int64_t channels, int vector) {
  const int64_t vectors = ceil_div(channels, vector);
  int count = 1;
  while (count < kWarp && count < vectors) {
    count *= 2;
  }
  return {count, channels, ceil_div(vectors, count)};
}

inline bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % kVectorBytes == 0;
}

// Whether 16-byte accesses reach every cell of `maps`.
template <typename scalar_t>
bool takes_vectors(const Maps<scalar_t>& maps, int64_t channels) {
  constexpr int64_t kVector = kVectorBytes / sizeof(scalar_t);
  return is_aligned(maps.data) && maps.stride_a % kVector == 0 && maps.stride_b % kVector == 0 &&
         maps.stride_d % kVector == 0 && channels % kVector == 0;
}

// Threads for each bin of weights_kernel: one bin may be as long as the map, one of several hardly
// is.
template <typename T>
int weight_lanes(const Boxes<T>& boxes) {
  return boxes.wy.bins == 1 && boxes.wx.bins == 1 ? kWarp : kWarp / 4;
}

// Before all else, for all maps that fit in a launch.
template <typename T, typename Launch>
void launch_weights(const Boxes<T>& boxes, const Scene<T>& scene, const Launch& launch) {
  const int lanes = weight_lanes(boxes);
  launch(weights_kernel<T>, blocks_for(weight_blocks(boxes, lanes)), kThreads, 0, boxes, scene,
         lanes);
}

template <int V, typename scalar_t, typename T, typename Launch>
void launch_bins(const Boxes<T>& boxes, const Maps<scalar_t>& features, int64_t channels,
                 const Pooled<scalar_t>& where, const Launch& launch) {
  Pooled<scalar_t> pooled = where;
  Lanes lanes = lanes_for(channels, V);
  const int64_t height = boxes.wy.bins, width = boxes.wx.bins;
  const int64_t lane_bytes = height * width * V * static_cast<int64_t>(sizeof(scalar_t));
  if (!pooled.channels_last && lane_bytes <= kStagingBytes / 4) {
    pooled.staged = true;
    while (lanes.count * lane_bytes > kStagingBytes) {
      lanes.count /= 2;
    }
    lanes.tiles = ceil_div(ceil_div(channels, V), lanes.count);
  }
  // About 16 tasks for each box: long enough a chain of loads is what a large box takes.
  const int64_t wanted = ceil_div(16, height);
  const int parts = static_cast<int>(wanted < width ? wanted : width);
  const int64_t tasks = height * parts, room = kBinThreads / lanes.count;
  const int64_t groups = ceil_div(tasks, ceil_div(tasks, room));
  launch(pool_bins_kernel<scalar_t, T, V>, blocks_for(boxes.count * lanes.tiles),
         static_cast<int>(groups) * lanes.count, pooled.staged ? lanes.count * lane_bytes : 0,
         boxes, features, lanes, parts, pooled);
}

// What the host knows of the device.
struct Device {
  int64_t multiprocessors;
  int64_t shared_bytes;  // that one block may have, where it asks for more than usual
};

// How pool_slab_kernel shares out its work.
struct Slabs {
  int64_t bands = 0;  // none: pool_box_kernel does it
  int64_t band_rows = 0;
  int64_t parts = 1;  // blocks for the boxes of one slab
};

// Chooses between the kernels for one bin by the bytes that a multiprocessor reads; the host knows
// neither where boxes are nor how large. A box is taken to cover 1/16 of the map (COCO's mix: 6 %).
// A byte from the second-level cache counts as 4 from shared memory: some 32 a cycle against 128.
//   pool_box_kernel:  cached bytes of all boxes' cells / multiprocessors
//   pool_slab_kernel: (cached bytes of a slab + shared bytes of a part of its boxes) * waves
template <typename T>
Slabs plan_slabs(const Boxes<T>& boxes, int64_t value_bytes, int64_t channels,
                 const Device& device) {
  constexpr int64_t kAreaShare = 16, kCached = 4;
  Slabs plan;
  const int64_t row_bytes = static_cast<int64_t>(boxes.wx.size) * kSlabBytes;
  const int64_t most = std::max<int64_t>({channels, boxes.wy.pitch, boxes.wx.pitch});
  if (boxes.wy.bins != 1 || boxes.wx.bins != 1 || boxes.batch_size == 0 || boxes.count == 0 ||
      row_bytes > device.shared_bytes || most > kMostNumbered / boxes.count) {
    return plan;
  }
  const int64_t height = boxes.wy.size, slab_bytes = height * row_bytes;
  const int64_t count = ceil_div(boxes.count, boxes.num_levels);
  const int64_t cells = height * boxes.wx.size, box_cells = ceil_div(cells, kAreaShare);
  const int64_t slabs = boxes.batch_size * ceil_div(channels * value_bytes, kSlabBytes);
  int64_t least =
      kCached * ceil_div(count * box_cells * channels * value_bytes, device.multiprocessors);
  for (int64_t waves = 1; waves <= 4; ++waves) {
    const int64_t parts = std::max<int64_t>(1, waves * device.multiprocessors / slabs);
    const int64_t part_bytes = ceil_div(count, boxes.batch_size * parts) * box_cells * kSlabBytes;
    const int64_t bytes =
        ceil_div(slabs * parts, device.multiprocessors) * (kCached * slab_bytes + part_bytes);
    if (bytes < least) {
      least = bytes;
      plan.parts = parts;
      plan.bands = ceil_div(height, device.shared_bytes / row_bytes);
      plan.band_rows = ceil_div(height, plan.bands);
    }
  }
  return plan;
}

// One map of any strides; launch_weights() has been called. pooled: dense, (K, C); partial: room
// for as much if there are several bands, which may be `pooled` where T is scalar_t.
template <typename scalar_t, typename T, typename Launch>
void launch_slabs(const Boxes<T>& boxes, const Maps<scalar_t>& features, int64_t stride_c,
                  int64_t channels, const Slabs& plan, T* partial, scalar_t* pooled,
                  const Launch& launch) {
  constexpr int V = kVectorBytes / sizeof(scalar_t);
  const int64_t bytes = plan.band_rows * boxes.wx.size * kSlabBytes;
  const int64_t blocks = boxes.batch_size * ceil_div(channels, kCellLanes * V) * plan.parts;
  // Where two blocks share a multiprocessor, half as many threads each.
  const int threads = bytes > kHalfOfShared ? kSlabThreads : kSlabThreads / 2;
  launch(pool_slab_kernel<scalar_t, T, V>, blocks_for(blocks), threads, bytes, boxes, features,
         stride_c, stride_c == 1 && takes_vectors(features, channels), static_cast<int>(channels),
         static_cast<int>(plan.band_rows), static_cast<int>(plan.parts), partial, pooled);
}

template <int V, typename scalar_t, typename T, typename Launch>
void launch_pooling(const Boxes<T>& boxes, const Maps<scalar_t>& features, int64_t channels,
                    const Pooled<scalar_t>& pooled, const Launch& launch) {
  if (boxes.wy.bins == 1 && boxes.wx.bins == 1) {
    const Lanes lanes = lanes_for(channels, V);
    launch(pool_box_kernel<scalar_t, T, V>, blocks_for(boxes.count * lanes.tiles), kThreads, 0,
           boxes, features, lanes, pooled.data);
  } else {
    launch_bins<V>(boxes, features, channels, pooled, launch);
  }
}

// One map, where plan_slabs() plans none; launch_weights() has been called. pooled: dense
// (K, C, oh, ow), or (K, oh, ow, C) if channels_last.
template <typename scalar_t, typename T, typename Launch>
void launch_forward(const Boxes<T>& boxes, const Maps<scalar_t>& features, int64_t channels,
                    scalar_t* pooled, bool channels_last, const Launch& launch) {
  const Pooled<scalar_t> where{pooled, channels_last, false};
  if (takes_vectors(features, channels) && is_aligned(pooled)) {
    launch_pooling<kVectorBytes / sizeof(scalar_t)>(boxes, features, channels, where, launch);
  } else {
    launch_pooling<1>(boxes, features, channels, where, launch);
  }
}

// Whether maps with channels first are better pooled as they are than copied to channels last: by
// bytes, since a box's cells are read at about half the rate as they are, and a copy takes the map
// twice through memory. On one map a box is taken to cover 1/16, in a pyramid 256 cells of its map.
inline bool takes_planes(int64_t bins_y, int64_t bins_x, int64_t count, int64_t batch_size,
                         int64_t cells, int64_t num_maps, int64_t widest, int64_t sum_bytes) {
  constexpr int64_t kReadsOfMap = 8;
  const int64_t box_cells = num_maps == 1 ? ceil_div(cells, 16) : 256;
  return bins_y * bins_x > 1 && bins_x <= kMostPlaneBins && widest * sum_bytes <= kPlaneBytes &&
         count * box_cells <= kReadsOfMap * batch_size * cells;
}

// All maps of the launch; launch_weights() has been called. pooled: dense (K, C, oh, ow).
template <typename scalar_t, typename T, typename Launch>
void launch_planes(const Boxes<T>& boxes, const Planes<scalar_t>& maps, int64_t channels,
                   scalar_t* pooled, const Launch& launch) {
  launch(pool_planes_kernel<scalar_t, T>,
         blocks_for(boxes.count * ceil_div(channels, kPlaneChannels)), kPlaneThreads, 0, boxes,
         maps, channels, pooled);
}

// How the backward pass takes the maps of a launch.
struct SpreadPlan {
  bool vectors;  // 16 bytes at a time
  Tilings tilings;
  int64_t lines;  // of Marks
  int digits;
};

template <int V, typename T>
Tilings tile_maps(const Boxes<T>& boxes, const Scene<T>& scene, int64_t channels, int rows) {
  Tilings tilings;
  tilings.rows = rows, tilings.columns = kTileColumns<V>;
  for (int64_t slot = 0; slot < boxes.launched; ++slot) {
    const int height = scene.heights[slot], width = scene.widths[slot];
    const int64_t down = ceil_div(height, rows), across = ceil_div(width, kTileColumns<V>);
    tilings.maps[slot] = {height, width, down, across, 0, tilings.tiles};
    tilings.tiles += boxes.batch_size * down * across;
  }
  // A few small maps get lower tiles, so that more multiprocessors have one.
  const int64_t blocks = tilings.tiles * lanes_for(channels, V).tiles;
  return rows > 2 && blocks < kManyBlocks ? tile_maps<V>(boxes, scene, channels, rows / 2)
                                          : tilings;
}

// vectors: whether 16-byte accesses reach every cell of the gradient and of all results.
template <typename scalar_t, typename T>
SpreadPlan plan_spreading(const Boxes<T>& boxes, const Scene<T>& scene, int64_t channels,
                          bool vectors) {
  constexpr int V = kVectorBytes / sizeof(scalar_t);
  SpreadPlan plan{vectors,
                  vectors ? tile_maps<V>(boxes, scene, channels, kTileRows)
                          : tile_maps<1>(boxes, scene, channels, kTileRows),
                  0, 0};
  while ((boxes.batch_size - 1) >> plan.digits > 0) {
    ++plan.digits;
  }
  plan.lines = plan.digits;
  for (int64_t slot = 0; slot < boxes.launched; ++slot) {
    Tiling& tiling = plan.tilings.maps[slot];
    tiling.first_line = plan.lines;
    plan.lines += tiling.down + tiling.across;
  }
  return plan;
}

// Words of 32 boxes that each line of marks has.
inline int64_t mark_groups(int64_t boxes) { return ceil_div(boxes, kWarp); }

// For all maps of the launch, in the place of launch_weights(). words: room for plan.lines times
// mark_groups().
template <typename T, typename Launch>
Marks launch_prepare(const Boxes<T>& boxes, const Scene<T>& scene, const SpreadPlan& plan,
                     uint32_t* words, const Launch& launch) {
  const Marks marks{words, mark_groups(boxes.count), plan.digits};
  const int lanes = weight_lanes(boxes);
  launch(prepare_kernel<T>, blocks_for(marks.groups + weight_blocks(boxes, lanes)), kThreads, 0,
         boxes, scene, lanes, marks, plan.tilings);
  return marks;
}

// Whether launch_backward() may write channels first: rows of other widths it would have to write
// value by value, and a copy of the result takes less.
inline bool writes_rows(int64_t width) { return width % kRowValues == 0; }

template <int V, typename scalar_t, typename T, typename Launch>
void launch_spreading(const Boxes<T>& boxes, const Marks& marks, const Tilings& tilings,
                      const Maps<scalar_t>& gradient, int64_t channels,
                      const Targets<scalar_t>& targets, const Launch& launch) {
  const Lanes lanes = lanes_for(channels, V);
  const int threads = std::max(tilings.rows * lanes.count, kListingThreads);
  launch(spread_kernel<scalar_t, T, V>, blocks_for(tilings.tiles * lanes.tiles), threads, 0, boxes,
         marks, tilings, gradient, lanes, targets);
}

// All maps of the launch, which have a cell between them; launch_prepare() has been called.
template <typename scalar_t, typename T, typename Launch>
void launch_backward(const Boxes<T>& boxes, const Marks& marks, const SpreadPlan& plan,
                     const Maps<scalar_t>& gradient, int64_t channels,
                     const Targets<scalar_t>& targets, const Launch& launch) {
  if (plan.vectors) {
    launch_spreading<kVectorBytes / sizeof(scalar_t)>(boxes, marks, plan.tilings, gradient,
                                                      channels, targets, launch);
  } else {
    launch_spreading<1>(boxes, marks, plan.tilings, gradient, channels, targets, launch);
  }
}

template <typename bits_t, typename Launch>
void launch_transpose(Matrices<bits_t> in, bits_t* out, const Launch& launch) {
  if (in.stride_row == in.width * in.stride_column) {
    in.width = in.columns;  // one run, whose parity is that of the whole
  }
  if constexpr (sizeof(bits_t) == 2) {
    if (in.rows % 2 == 0 && is_aligned(out)) {
      if (in.has_words()) {
        launch(transpose_pairs_kernel<2>,
               blocks_for(Piece<2 * kTranspose, 2 * kTranspose>::count(in)), kTransposeThreads, 0,
               in, out);
      } else {
        launch(transpose_pairs_kernel<1>, blocks_for(Piece<2 * kTranspose, kTranspose>::count(in)),
               kTransposeThreads, 0, in, out);
      }
      return;
    }
  }
  launch(transpose_kernel<bits_t>, blocks_for(Piece<kTranspose, kTranspose>::count(in)),
         kTransposeThreads, 0, in, out);
}

}  // namespace fgclip_det
