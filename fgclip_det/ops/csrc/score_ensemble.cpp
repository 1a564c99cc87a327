#include <torch/library.h>

// A kernel exists for the CPU alone, in cpu/; ops/score_ensemble.py serves other devices.
TORCH_LIBRARY_FRAGMENT(fgclip_det, m) {
  m.def(
      "score_ensemble_above(Tensor det, Tensor vlm, Tensor names, Tensor backgrounds, "
      "Tensor weight, float score_thr) -> (Tensor, Tensor, Tensor)");
}
