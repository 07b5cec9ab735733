"""Neural code of any JAX function: a function transformation, as `jax.grad` is one.

In: a traceable function of examples. Out: a function that gives its `Code`, a bit for every ReLU-like unit, with the
layer each bit is from and what was skipped. A rule of one's own takes an `Op` and returns a `Match`.

transform       encode, encode_with_output
jaxpr_graph     a traced function as a flat graph of operations; equations: what depends on the version of JAX
unit_rules      the table of rules: which operations are units, and the bit of each
expressions     questions of the rules: is a value a function of x alone, a multiple, a guard?
units           the units of a graph; interpret: evaluates them, inside `scan`, `cond` and `while` too
example_axis    which axis of an array holds the examples
reductions      fewer bits than units: one a channel, a sample of the units
"""

from jaxhash.encoding.jaxpr_graph import Op
from jaxhash.encoding.transform import encode, encode_with_output
from jaxhash.encoding.unit_rules import Match

__all__ = ["Match", "Op", "encode", "encode_with_output"]
