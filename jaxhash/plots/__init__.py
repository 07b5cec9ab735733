"""Figures of results: labelled datasets in, Matplotlib figures out.

    sweeps      lines against width, or against any other dimension of a sweep (the study's capacity figure)
    phase       the phase chart: what a model's size and its sample size make of its codes
    compare     effects of factors, and of the layers of deep networks
    hashing     curves, heat maps and histograms of the hash study
    style       colours, lines, and saving a figure with the command that made it in its metadata

Nothing here computes or reads a run: give it what `jaxhash.sweeps.results` or a learner returns.
"""

from jaxhash.plots.phase import phase_chart
from jaxhash.plots.style import save
from jaxhash.plots.sweeps import against, capacity

__all__ = ["against", "capacity", "phase_chart", "save"]
