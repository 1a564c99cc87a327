#include <torch/library.h>

// fgclip_det/ops/_library.py repeats the first two schemas for machines without the extension; a
// test compares them. The backends register themselves in cpu/ and cuda/, reverse mode in
// autograd/; fake kernels and docstrings stand in ops/*.py.
TORCH_LIBRARY(fgclip_det, m) {
  m.def(
      "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
      "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "roi_align_backward(Tensor grad_output, Tensor rois, float spatial_scale, "
      "SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, "
      "bool aligned, bool channels_last) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "roi_align_pyramid(Tensor[] inputs, Tensor rois, Tensor levels, float[] spatial_scales, "
      "int pooled_height, int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "roi_align_pyramid_backward(Tensor grad_output, Tensor rois, Tensor levels, "
      "float[] spatial_scales, SymInt batch_size, SymInt channels, SymInt[] heights, "
      "SymInt[] widths, int sampling_ratio, bool aligned, bool channels_last) -> Tensor[]",
      {at::Tag::pt2_compliant_tag});
}
