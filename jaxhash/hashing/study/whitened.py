"""Whitened output layer: a policy whose last layer reads decorrelated features of keys, and starts spread and sharp.

As a network is drawn, its hidden units are correlated over the keys: a step for one key moves the logits of all
others, and all logits are near 0, where a policy gradient is nearly none. Here the last layer reads the hidden units
after an affine map, found once from the keys, that makes them uncorrelated (as in batch whitening; Y. LeCun and others,
"Efficient BackProp", 1998, section 4.3). Two affine maps are one, so the policy that comes out is the plain network
(`folded`).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, output_layer

RIDGE = 0.1
"""Added to the variance of each direction, as a share of the mean variance: directions of little variance are noise."""
TINY = 1e-12
"""A variance below this is none."""


class Whitening(NamedTuple):
    """The affine map of the hidden units, as a layer."""

    kernel: Float[Array, "units units"]
    bias: Float[Array, " units"]


class Policy(NamedTuple):
    """A policy in training."""

    params: Params
    """Those of the network, but that the last layer reads whitened units."""
    whitening: Whitening


def sharp_deviation(num_bins: int) -> float:
    """sqrt(2 log bins): about where a softmax of so many normal logits comes to rest on few bins.

    In the random energy model (B. Derrida, Physical Review Letters 45, 1980) it is the deviation at which the entropy
    of the softmax, over log(bins), goes to 0. Softer, keys do not feel which bins others leave; sharper, they are
    settled before they begin.
    """
    return math.sqrt(2 * math.log(max(num_bins, 2)))


def plain(params: Params) -> Policy:
    """A network as it is, not whitened."""
    units = output_layer(params)[1]["kernel"].shape[0]
    return Policy(params, Whitening(jnp.eye(units), jnp.zeros(units)))


def whitened(config: NetworkConfig, params: Params, tokens: Tokens, deviation: float) -> Policy:
    """The same network, whitened, and every bin's logits of mean 0 and this standard deviation over the keys.

    That spreads the keys over the bins as a random hash does. Cost: a forward pass, and 10 * units^3 FLOPs.
    """
    hidden = features(config, plain(params), tokens)
    mean = hidden.mean(0)
    covariance = (hidden - mean).T @ (hidden - mean) / hidden.shape[0]
    variances, directions = jnp.linalg.eigh(covariance)
    kernel = (directions / jnp.sqrt(variances + RIDGE * variances.mean() + TINY)) @ directions.T
    name, output = output_layer(params)
    mixed = kernel @ output["kernel"]
    spread = jnp.sqrt(jnp.maximum((mixed * (covariance @ mixed)).sum(0), TINY))
    start = {"kernel": output["kernel"] * deviation / spread, "bias": jnp.zeros_like(output["bias"])}
    return Policy({"params": params["params"] | {name: start}}, Whitening(kernel, -mean @ kernel))


def features(config: NetworkConfig, policy: Policy, tokens: Tokens) -> Float[Array, "n units"]:
    """The whitened units of each key: what a network gives whose last layer is the whitening."""
    name, _ = output_layer(policy.params)
    layers = policy.params["params"] | {name: policy.whitening._asdict()}
    return make_network(config, config.hidden[-1]).apply({"params": layers}, tokens)


def logits(config: NetworkConfig, policy: Policy, tokens: Tokens) -> Float[Array, "n bins"]:
    """Logits of each key."""
    _, output = output_layer(policy.params)
    return features(config, policy, tokens) @ output["kernel"] + output["bias"]


def folded(policy: Policy) -> Params:
    """The parameters of the plain network that gives the same logits."""
    name, output = output_layer(policy.params)
    kernel, bias = policy.whitening
    both = {"kernel": kernel @ output["kernel"], "bias": bias @ output["kernel"] + output["bias"]}
    return {"params": policy.params["params"] | {name: both}}
