"""MMDetection's assigner and sampler for a whole batch, without waiting for a GPU at each box."""
