"""Training, compared with programs of Flax and Optax."""

QUICKLY = {"xla_backend_optimization_level": "0"}
"""How these programs are compiled: they run for milliseconds, and to optimise them is what takes time. That the same
program gives the same bits again is asked of sweeps, which compile as users do."""
