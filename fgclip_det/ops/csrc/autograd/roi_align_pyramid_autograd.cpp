#include <torch/library.h>

#include "../roi_align_tensors.h"
#include "autograd.h"

// As roi_align_autograd.cpp, for several maps in one call.

namespace fgclip_det {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kForward = "fgclip_det::roi_align_pyramid";
constexpr const char* kBackward = "fgclip_det::roi_align_pyramid_backward";

using Scales = at::ArrayRef<double>;
using Forward = at::Tensor(at::TensorList, const at::Tensor&, const at::Tensor&, Scales, int64_t,
                           int64_t, int64_t, bool);
using Backward = std::vector<at::Tensor>(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                         Scales, c10::SymInt, c10::SymInt, c10::SymIntArrayRef,
                                         c10::SymIntArrayRef, int64_t, bool, bool);

const c10::TypedOperatorHandle<Forward>& forward_operator() {
  static const auto found = find_operator<Forward>(kForward);
  return found;
}

const c10::TypedOperatorHandle<Backward>& backward_operator() {
  static const auto found = find_operator<Backward>(kBackward);
  return found;
}

// What both passes share, kept in a node of the graph.
struct Geometry {
  std::vector<double> spatial_scales;
  int64_t sampling_ratio;
  bool aligned;

  void save(AutogradContext* context) const {
    context->saved_data["spatial_scales"] = spatial_scales;
    context->saved_data["sampling_ratio"] = sampling_ratio;
    context->saved_data["aligned"] = aligned;
  }
  static Geometry of(AutogradContext* context) {
    return {context->saved_data["spatial_scales"].toDoubleVector(),
            context->saved_data["sampling_ratio"].toInt(), context->saved_data["aligned"].toBool()};
  }
};

struct MapSizes {
  c10::SymInt batch_size, channels;
  std::vector<c10::SymInt> heights, widths;
};

struct RoIAlignPyramid : torch::autograd::Function<RoIAlignPyramid> {
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, const at::Tensor& rois,
                            const at::Tensor& levels, c10::DispatchKeySet keys, Geometry geometry,
                            int64_t pooled_height, int64_t pooled_width) {
    const at::Tensor pooled = forward_operator().redispatch(
        below_autograd(keys), inputs, rois, levels, geometry.spatial_scales, pooled_height,
        pooled_width, geometry.sampling_ratio, geometry.aligned);
    MapSizes sizes{inputs[0].sym_size(0), inputs[0].sym_size(1), {}, {}};
    for (const at::Tensor& input : inputs) {
      sizes.heights.push_back(input.sym_size(2));
      sizes.widths.push_back(input.sym_size(3));
    }
    context->save_for_backward({rois, levels});
    geometry.save(context);
    context->saved_data["batch_size"] = sizes.batch_size;
    context->saved_data["channels"] = sizes.channels;
    context->saved_data["heights"] = c10::SymIntArrayRef(sizes.heights);
    context->saved_data["widths"] = c10::SymIntArrayRef(sizes.widths);
    context->saved_data["channels_last"] = is_channels_last(inputs[0]);
    return pooled;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Geometry geometry = Geometry::of(context);
    const auto saved = context->get_saved_variables();
    const auto heights = context->saved_data["heights"].toSymIntVector();
    const auto widths = context->saved_data["widths"].toSymIntVector();
    auto spread = backward_operator().call(
        gradients[0], saved[0], saved[1], geometry.spatial_scales,
        context->saved_data["batch_size"].toSymInt(), context->saved_data["channels"].toSymInt(),
        heights, widths, geometry.sampling_ratio, geometry.aligned,
        context->saved_data["channels_last"].toBool());
    return gradients_of(std::move(spread), heights.size() + 6);
  }
};

struct RoIAlignPyramidBackward : torch::autograd::Function<RoIAlignPyramidBackward> {
  static variable_list forward(AutogradContext* context, const at::Tensor& grad_output,
                               const at::Tensor& rois, const at::Tensor& levels,
                               c10::DispatchKeySet keys, Geometry geometry, MapSizes sizes,
                               bool channels_last) {
    auto spread = backward_operator().redispatch(
        below_autograd(keys), grad_output, rois, levels, geometry.spatial_scales, sizes.batch_size,
        sizes.channels, sizes.heights, sizes.widths, geometry.sampling_ratio, geometry.aligned,
        channels_last);
    context->save_for_backward({rois, levels});
    geometry.save(context);
    context->saved_data["pooled_height"] = grad_output.sym_size(2).guard_int(__FILE__, __LINE__);
    context->saved_data["pooled_width"] = grad_output.sym_size(3).guard_int(__FILE__, __LINE__);
    return spread;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Geometry geometry = Geometry::of(context);
    const auto saved = context->get_saved_variables();
    const at::Tensor pooled = forward_operator().call(
        gradients, saved[0], saved[1], geometry.spatial_scales,
        context->saved_data["pooled_height"].toInt(), context->saved_data["pooled_width"].toInt(),
        geometry.sampling_ratio, geometry.aligned);
    return gradients_of({pooled}, 7);
  }
};

at::Tensor roi_align_pyramid_autograd(c10::DispatchKeySet keys, at::TensorList inputs,
                                      const at::Tensor& rois, const at::Tensor& levels,
                                      Scales spatial_scales, int64_t pooled_height,
                                      int64_t pooled_width, int64_t sampling_ratio, bool aligned) {
  bool recorded = false;
  for (const at::Tensor& input : inputs) {
    recorded = is_recorded(input, kForward) || recorded;
  }
  if (recorded) {
    return RoIAlignPyramid::apply(inputs, rois, levels, keys,
                                  Geometry{spatial_scales.vec(), sampling_ratio, aligned},
                                  pooled_height, pooled_width);
  }
  return forward_operator().redispatch(below_autograd(keys), inputs, rois, levels, spatial_scales,
                                       pooled_height, pooled_width, sampling_ratio, aligned);
}

std::vector<at::Tensor> roi_align_pyramid_backward_autograd(
    c10::DispatchKeySet keys, const at::Tensor& grad_output, const at::Tensor& rois,
    const at::Tensor& levels, Scales spatial_scales, c10::SymInt batch_size, c10::SymInt channels,
    c10::SymIntArrayRef heights, c10::SymIntArrayRef widths, int64_t sampling_ratio, bool aligned,
    bool channels_last) {
  if (is_recorded(grad_output, kBackward)) {
    return RoIAlignPyramidBackward::apply(
        grad_output, rois, levels, keys, Geometry{spatial_scales.vec(), sampling_ratio, aligned},
        MapSizes{batch_size, channels, heights.vec(), widths.vec()}, channels_last);
  }
  return backward_operator().redispatch(below_autograd(keys), grad_output, rois, levels,
                                        spatial_scales, batch_size, channels, heights, widths,
                                        sampling_ratio, aligned, channels_last);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, Autograd, m) {
  m.impl("roi_align_pyramid", TORCH_FN(roi_align_pyramid_autograd));
  m.impl("roi_align_pyramid_backward", TORCH_FN(roi_align_pyramid_backward_autograd));
}

}  // namespace fgclip_det
