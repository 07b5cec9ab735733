"""Training of networks, many side by side or one alone: pure functions of a state and keys.

In: what to train (`Block`, a set of MLP widths), how (`TrainConfig`), the examples, a key. Out: a `TrainState`, epoch
by epoch, and what the models make of examples (`Evaluation`: loss, accuracy, neural codes).

    init_state -> TrainState -> make_epoch(block, config)(state, key, order, x, y) -> TrainState, losses
    make_evaluate(block)(params, stats, x, y) -> Evaluation
    split(block, params, stats) -> Flax variables of each model

trainable       what a sweep knows of what it trains; early stop
mlp             the recipe of the study's MLPs: Adam, learning-rate schedule, L2, dropout, early stop
population      MLPs of different widths as one array program
vmapped         any model with any optimiser, to be vmapped
evaluate        loss, accuracy, codes
"""

from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, epoch_order, init_state, make_epoch
from jaxhash.training.population import Block, plan_blocks, split

__all__ = [
    "Block",
    "Evaluation",
    "TrainConfig",
    "TrainState",
    "epoch_order",
    "init_state",
    "make_epoch",
    "make_evaluate",
    "plan_blocks",
    "split",
]
