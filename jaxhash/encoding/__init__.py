"""The neural code of any JAX function.

transform      encode and encode_with_output
dataflow       a traced function as a flat graph of operations
unit_rules     which operations are units, and each one's bit
units          the units of a graph
interpret      evaluates a graph and its units, control flow included
example_axis   which entries belong to which example
reductions     how the pre-activations of a layer become bits
"""

from jaxhash.encoding.transform import encode, encode_with_output

__all__ = ["encode", "encode_with_output"]
