#include <torch/library.h>

#include "../roi_align_tensors.h"
#include "autograd.h"

// Reverse mode of the two operators, each of which is the other's transpose. In C++ since the same
// in Python takes four times as long as pooling a few boxes. PyTorch allows no forward mode and no
// functorch transforms here; ops/transforms.py has them.

namespace fgclip_det {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kForward = "fgclip_det::roi_align";
constexpr const char* kBackward = "fgclip_det::roi_align_backward";

using Forward = at::Tensor(const at::Tensor&, const at::Tensor&, double, int64_t, int64_t, int64_t,
                           bool);
using Backward = at::Tensor(const at::Tensor&, const at::Tensor&, double, c10::SymInt, c10::SymInt,
                            c10::SymInt, c10::SymInt, int64_t, bool, bool);

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
  double spatial_scale;
  int64_t sampling_ratio;
  bool aligned;

  void save(AutogradContext* context) const {
    context->saved_data["spatial_scale"] = spatial_scale;
    context->saved_data["sampling_ratio"] = sampling_ratio;
    context->saved_data["aligned"] = aligned;
  }
  static Geometry of(AutogradContext* context) {
    return {context->saved_data["spatial_scale"].toDouble(),
            context->saved_data["sampling_ratio"].toInt(), context->saved_data["aligned"].toBool()};
  }
};

struct RoIAlign : torch::autograd::Function<RoIAlign> {
  static constexpr bool is_traceable = true;

  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& rois, c10::DispatchKeySet keys, Geometry geometry,
                            int64_t pooled_height, int64_t pooled_width) {
    const at::Tensor pooled = forward_operator().redispatch(
        below_autograd(keys), input, rois, geometry.spatial_scale, pooled_height, pooled_width,
        geometry.sampling_ratio, geometry.aligned);
    context->save_for_backward({rois});
    geometry.save(context);
    context->saved_data["size"] = input.sym_sizes();
    context->saved_data["channels_last"] = is_channels_last(input);
    return pooled;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Geometry geometry = Geometry::of(context);
    const auto size = context->saved_data["size"].toSymIntVector();
    return gradients_of({backward_operator().call(
                            gradients[0], context->get_saved_variables()[0], geometry.spatial_scale,
                            size[0], size[1], size[2], size[3], geometry.sampling_ratio,
                            geometry.aligned, context->saved_data["channels_last"].toBool())},
                        6);
  }
};

struct RoIAlignBackward : torch::autograd::Function<RoIAlignBackward> {
  static constexpr bool is_traceable = true;

  static at::Tensor forward(AutogradContext* context, const at::Tensor& grad_output,
                            const at::Tensor& rois, c10::DispatchKeySet keys, Geometry geometry,
                            const std::vector<c10::SymInt>& size, bool channels_last) {
    const at::Tensor spread = backward_operator().redispatch(
        below_autograd(keys), grad_output, rois, geometry.spatial_scale, size[0], size[1], size[2],
        size[3], geometry.sampling_ratio, geometry.aligned, channels_last);
    context->save_for_backward({rois});
    geometry.save(context);
    context->saved_data["pooled_height"] = grad_output.sym_size(2).guard_int(__FILE__, __LINE__);
    context->saved_data["pooled_width"] = grad_output.sym_size(3).guard_int(__FILE__, __LINE__);
    return spread;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Geometry geometry = Geometry::of(context);
    return gradients_of({forward_operator().call(gradients[0], context->get_saved_variables()[0],
                                                 geometry.spatial_scale,
                                                 context->saved_data["pooled_height"].toInt(),
                                                 context->saved_data["pooled_width"].toInt(),
                                                 geometry.sampling_ratio, geometry.aligned)},
                        6);
  }
};

// Only the first argument has a gradient: boxes get none, as in torchvision.
at::Tensor roi_align_autograd(c10::DispatchKeySet keys, const at::Tensor& input,
                              const at::Tensor& rois, double spatial_scale, int64_t pooled_height,
                              int64_t pooled_width, int64_t sampling_ratio, bool aligned) {
  if (is_recorded(input, kForward)) {
    return RoIAlign::apply(input, rois, keys, Geometry{spatial_scale, sampling_ratio, aligned},
                           pooled_height, pooled_width);
  }
  return forward_operator().redispatch(below_autograd(keys), input, rois, spatial_scale,
                                       pooled_height, pooled_width, sampling_ratio, aligned);
}

at::Tensor roi_align_backward_autograd(c10::DispatchKeySet keys, const at::Tensor& grad_output,
                                       const at::Tensor& rois, double spatial_scale,
                                       c10::SymInt batch_size, c10::SymInt channels,
                                       c10::SymInt height, c10::SymInt width,
                                       int64_t sampling_ratio, bool aligned, bool channels_last) {
  if (is_recorded(grad_output, kBackward)) {
    return RoIAlignBackward::apply(
        grad_output, rois, keys, Geometry{spatial_scale, sampling_ratio, aligned},
        std::vector<c10::SymInt>{batch_size, channels, height, width}, channels_last);
  }
  return backward_operator().redispatch(below_autograd(keys), grad_output, rois, spatial_scale,
                                        batch_size, channels, height, width, sampling_ratio,
                                        aligned, channels_last);
}

}  // namespace

TORCH_LIBRARY_IMPL(fgclip_det, Autograd, m) {
  m.impl("roi_align", TORCH_FN(roi_align_autograd));
  m.impl("roi_align_backward", TORCH_FN(roi_align_backward_autograd));
}

}  // namespace fgclip_det
