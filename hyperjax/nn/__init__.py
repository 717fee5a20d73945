"""flax.nnx modules that own parameters."""
