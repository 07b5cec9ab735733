"""Sweeps: a grid of models (widths x repeats x sample sizes x snapshots) trained, measured, saved, and read again.

In: a `SweepConfig` and a folder. Out: an `xarray.Dataset`, in the folder results.nc and results.csv; and every trained
model, by its coordinates (`load`).

    from jaxhash import sweeps
    results = sweeps.run(sweeps.SweepConfig(widths=(10, 20), repeats=2), "runs/mine")
    model = sweeps.load("runs/mine", width=20, repeat=0)

A run that was interrupted continues with the same call.

grid, presets           what a sweep is; the study's values for each dataset
tasks                   which models are trained by one call; how a grid is cut
engine, task            `run`; one task: train, evaluate, measure, save
inputs                  its data; measuring: what measures its codes
programs                what trains and evaluates the study's MLPs, compiled
any_plan, any_model     models of one's own: checked and cut into tasks; what trains and evaluates them
folder, models, results the folder of a run; `load`; its results
cost, dry_run           time left; what each program of a sweep does and needs, before it is run
log, status, tensorboard            the event log; how a run stands
variants, compare, layers, phase    several sweeps and effect sizes; codes of layers; the phase chart
"""

from jaxhash.sweeps.cost import Cost
from jaxhash.sweeps.engine import plan, prepare, run
from jaxhash.sweeps.folder import RunError
from jaxhash.sweeps.grid import METRICS, RANDOM, SweepConfig
from jaxhash.sweeps.models import Model, load
from jaxhash.sweeps.results import collect, save_results
from jaxhash.sweeps.task import Callback, Interrupted, Progress
from jaxhash.training.mlp import TrainConfig

__all__ = [
    "METRICS",
    "RANDOM",
    "Callback",
    "Cost",
    "Interrupted",
    "Model",
    "Progress",
    "RunError",
    "SweepConfig",
    "TrainConfig",
    "collect",
    "load",
    "plan",
    "prepare",
    "run",
    "save_results",
]
