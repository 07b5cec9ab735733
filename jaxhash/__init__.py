"""Neural networks as hash functions, in JAX."""
