"""PyTorch on the same device: a loop over models, the same compiled, and repeats side by side by `torch.func`.

Products are in TF32 on a GPU, as JAX's are by default.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from bench import harness
from bench.sweep_training import torch_adam, torch_loop, torch_model, torch_on_device
from jaxhash.training.mlp import TrainConfig

LOOP, COMPILED, FUNC = "PyTorch loop, fused Adam", "torch.compile", "torch.func"
WIDTHS_COMPILED = 3
"""Each width compiles its own program, in tens of seconds: the narrowest, the widest and those between, so many."""


class Peer(NamedTuple):
    """What is timed, and how many steps of a model it makes."""

    run: Callable[[], Any]
    model_steps: int


def peers(
    widths: tuple[int, ...], repeats: int, train: TrainConfig, x: np.ndarray, y: np.ndarray
) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that work here, warmed up; and why the others do not."""
    if harness.peer("torch") is None:
        return {}, dict.fromkeys((LOOP, COMPILED, FUNC), "torch is not installed")
    torch, device = torch_on_device()
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    if jax.default_backend() != "cpu" and device == "cpu":
        return {}, dict.fromkeys((LOOP, COMPILED, FUNC), "torch is installed without this device")
    steps = len(x) // train.batch_size
    few = tuple(
        widths[i] for i in np.linspace(0, len(widths) - 1, min(WIDTHS_COMPILED, len(widths))).round().astype(int)
    )
    makers: dict[str, Callable[[], Peer]] = {
        LOOP: lambda: Peer(partial(torch_loop, widths, train, x, y, True), len(widths) * steps),
        FUNC: lambda: Peer(partial(side_by_side, widths, repeats, train, x, y), len(widths) * repeats * steps),
        COMPILED: lambda: Peer(compiled(few, train, x, y), len(few) * steps),
    }
    found, failed = {}, {}
    for name, make in makers.items():
        harness.say(f"{name}: first run")
        try:
            peer = make()
            peer.run()
        except Exception as error:  # a peer may need a compiler, or a newer driver: ours is measured all the same
            failed[name] = f"{type(error).__name__}: {error}"[-500:]
        else:
            found[name] = peer
    return found, failed


def side_by_side(widths: tuple[int, ...], repeats: int, train: TrainConfig, x: np.ndarray, y: np.ndarray) -> float:
    """The repeats of a width in one vmapped step, one width after the other; the last loss.

    Without running statistics, which vmap cannot write: a little less work than ours.
    """
    torch, device = torch_on_device()
    inputs, labels = torch.from_numpy(x).to(device), torch.from_numpy(y.astype(np.int64)).to(device)
    last = torch.zeros(())
    for width in widths:
        nets = [torch_model(x.shape[1], width, train, True, running=False)[0] for _ in range(repeats)]
        stacked, _ = torch.func.stack_module_state(nets)
        # Detached, for else autograd keeps a graph around each step.
        parameters = {name: parameter.detach() for name, parameter in stacked.items()}
        optimiser = torch_adam(parameters, train, True)
        bare = copy.deepcopy(nets[0]).to("meta")

        def loss(own: Any, some: Any, right: Any, bare: Any = bare) -> Any:
            return torch.nn.functional.cross_entropy(torch.func.functional_call(bare, own, (some,)), right)

        step = torch.func.vmap(torch.func.grad_and_value(loss))
        orders = torch.stack([torch.randperm(len(inputs)) for _ in range(repeats)])
        for batch in orders.split(train.batch_size, dim=1):
            gradients, losses = step(parameters, inputs[batch], labels[batch])
            for name, parameter in parameters.items():
                parameter.grad = gradients[name]
            optimiser.step()
            last = losses
    return float(last.mean())  # waits for the device


def compiled(widths: tuple[int, ...], train: TrainConfig, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """The loop with `torch.compile` of each model; on a GPU as CUDA graphs. Compiles at the first call."""
    torch, device = torch_on_device()
    inputs, labels = torch.from_numpy(x).to(device), torch.from_numpy(y.astype(np.int64)).to(device)
    models = [torch_model(x.shape[1], width, train, True) for width in widths]
    mode = "reduce-overhead" if device == "cuda" else "default"
    programs = [torch.compile(net, mode=mode) for net, _ in models]

    def run() -> float:
        last = 0.0
        for net, (_, optimiser) in zip(programs, models, strict=True):
            order = torch.randperm(len(inputs))
            for batch in order.split(train.batch_size):
                optimiser.zero_grad()
                loss = torch.nn.functional.cross_entropy(net(inputs[batch]), labels[batch])
                loss.backward()
                optimiser.step()
            last = float(loss)  # waits for the device
        return last

    return run
