"""Neural networks that learn a hash function: keys, tables, learners, hashers."""
