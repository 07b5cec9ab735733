"""Linear regions of a ReLU network, exactly: where the code changes along a line, and how large a region is.

In: the layers of a trained network (`affine_layers`; `stack_models` for many networks) and points float [n, features].
Out: the regions between two points and where each begins (`cut_points`), and how far the region around a point reaches
in a direction (`region_sides`). All in float64, solved and not sampled.

paths       the functions above, for multilayer perceptrons
"""

from jaxhash.regions.paths import Affine, Cuts, Sides, affine_layers, cut_points, region_sides, stack_models

__all__ = ["Affine", "Cuts", "Sides", "affine_layers", "cut_points", "region_sides", "stack_models"]
