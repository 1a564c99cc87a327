#pragma once

// What the autograd functions of the operators share.

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace fgclip_det {

template <typename Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Whether autograd has to know of what is made of `tensor`.
inline bool is_recorded(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_NOT_IMPLEMENTED(!tensor._fw_grad(/*level=*/0).defined(), name,
                              " has no forward-mode derivative when it is called by its name; the ",
                              "functions of fgclip_det.ops have one");
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

inline c10::DispatchKeySet below_autograd(c10::DispatchKeySet keys) {
  return keys & c10::after_ADInplaceOrView_keyset;
}

// Gradients of the first arguments; the others, up to `count`, have none.
inline torch::autograd::variable_list gradients_of(torch::autograd::variable_list first,
                                                   size_t count) {
  first.resize(count);
  return first;
}

}  // namespace fgclip_det
