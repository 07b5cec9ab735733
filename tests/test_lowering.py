"""Every program lowers for GPUs and TPUs, with nothing in it that only a CPU has: no callback, no float64.

Nor does any add floats by a scatter, in an order that a GPU may choose, but for those that are named.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxhash
from bench.accelerator import all_pairs, ceilings
from jaxhash.codes.batched import Models, measure_models
from jaxhash.codes.distinct import first_repeated, num_distinct, without_constant
from jaxhash.codes.hamming import hamming_words, turn
from jaxhash.codes.kmeans import _add_up, _by_bits, _by_means, _hits, _table
from jaxhash.codes.lloyd import _lloyd, draws, seed, tiles_of
from jaxhash.codes.logistic import OneVsOne, _fit, predict
from jaxhash.codes.nearest_words import knn_words
from jaxhash.codes.neighbours import _nearer
from jaxhash.codes.properties import PROPERTIES, RANDOM
from jaxhash.hashing.keys.fingerprint import fingerprint
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect import network_training, seeds, sharded
from jaxhash.hashing.perfect.buckets import cut
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.methods import METHODS
from jaxhash.hashing.perfect.network_training import NetworkMethodConfig
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.perfect.sharded import ShardedConfig
from jaxhash.hashing.study import expected_return
from jaxhash.models import convnets
from jaxhash.models.mlp import ModelConfig
from jaxhash.sweeps.programs import Programs
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.population import Block
from jaxhash.training.vmapped import RECIPE, ModelSpec, make_trainable
from tests.hashing.study.test_learners import LEARNERS

PLATFORMS = ("cuda", "tpu")
KEY = jax.random.key(0)
WORDS = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (100, 2), np.uint32))
LABELS = jnp.asarray(np.arange(100) % 4, jnp.int32)
PRINTS = np.sort(np.random.default_rng(1).integers(0, 2**64, 200, np.uint64))
TOKENS = tokenize([f"word {i}" for i in range(50)])
ZERO = jnp.zeros((), jnp.int32)


def of_sweeps():
    """What trains and evaluates the models of a task."""
    programs = Programs(
        Block((8, 12), ModelConfig(depth=2, dropout=0.2), 6, 3), TrainConfig(batch_size=4, input_noise=0.1)
    )
    repeats = jax.random.split(KEY, 2)
    state = jax.eval_shape(programs.init, repeats)
    x, y = jnp.zeros((20, 6)), jnp.zeros((2, 20), jnp.int32)
    yield "sweep: start", programs.init, (repeats,), {}
    yield "sweep: epoch", programs.epoch, (state, repeats, jnp.zeros((2, 5, 4), jnp.int32), x, y, {}), {}
    yield "sweep: evaluate", programs.evaluate, (state.params, state.stats, x, y, jnp.array([5, 20])), {}


def of_any_model():
    """What trains and looks at a model of one's own: a convolutional network."""
    spec = ModelSpec(convnets.classifier)
    trainable = make_trainable(spec, RECIPE, {"network": "resnet20", "width_factor": 0.25}, (3072,), 10)
    hyper = {"learning_rate": jnp.float32(0.1)}
    x = jnp.zeros((4, 3072))
    state = jax.eval_shape(trainable.init, KEY, hyper, x)
    given = state, KEY, jnp.zeros((1, 2), jnp.int32), x, jnp.zeros(4, jnp.int32), hyper, ZERO
    yield "any model: start", jax.jit(trainable.init), (KEY, hyper, x), {}
    yield "any model: steps", jax.jit(trainable.advance), (*given, ZERO), {}
    yield "any model: step", jax.jit(trainable.step), given, {}
    look = jax.jit(lambda *given: (lambda outputs, code: (outputs, code.words))(*trainable.look(*given)))
    yield "any model: look", look, (jax.eval_shape(trainable.trained_of, state), hyper, x), {}


def of_codes():
    """What measures codes."""
    tiles = tiles_of(WORDS, 32)
    turned = jnp.asarray(turn(np.asarray(WORDS))[0])
    best = jnp.zeros((9, turned.shape[1]), jnp.int32)
    model = OneVsOne(jnp.zeros((6, 64)), jnp.zeros(6), jnp.ones(4, bool))
    yield "distinct codes", num_distinct, (WORDS,), {}
    yield "codes of a sample", first_repeated, (WORDS, 10), {}
    yield "codes without constant bits", without_constant, (WORDS, WORDS), {}
    yield "Hamming distances", hamming_words, (WORDS, WORDS), {}
    yield "K-Means: draws", draws, (KEY, 4, 3, 100), {}
    yield "K-Means: seeding", seed, (draws(KEY, 4, 3, 100), tiles, 100), {}
    start = jnp.zeros((3, 4, 64)), tiles, 100, jnp.float32(1e-4)
    yield "K-Means: iterations", alone(_lloyd, "k", "max_iterations"), start, {"k": 4, "max_iterations": 9}
    yield "K-Means: clusters and labels", _table, (LABELS, LABELS, 100, 4), {}
    yield "K-Means: accuracy", _hits, (jnp.zeros((4, 4), jnp.int32), "optimal"), {}
    centres = jnp.zeros((4, 64)), jnp.asarray(turn(np.zeros((4, 2), np.uint32), 16)[0])
    for name, nearest, some in (("means", _by_means, centres[0]), ("bits", _by_bits, centres[1])):
        of = {"k": 4, "bits": 64, "nearest": nearest}
        yield f"K-Means: pass over a file, {name}", _add_up, (tiles, 100, some), of
    yield "k-NN", knn_words, (WORDS, LABELS, WORDS), {"k": 9, "num_classes": 4}
    yield "neighbours in a file", _nearer, ((best, best), turned, tiles, 0, 100, None, None), {}
    fit = {"num_classes": 4, "capacity": 25}
    train = alone(_fit, "num_classes", "capacity"), (WORDS, LABELS, jnp.float32(1), None)
    yield "logistic regression: fit", *train, fit
    yield "logistic regression: predict", predict, (model, WORDS), {}
    models = Models(
        WORDS[None, None], LABELS[None], None, WORDS[None, None], LABELS, WORDS[None, None], KEY[None, None]
    )
    for together in (1, 4):
        of_many = partial(measure_models, num_classes=4, capacity=25, properties=PROPERTIES | RANDOM, together=together)
        yield f"codes of many models, {together} at once", jax.jit(of_many), (models, 1), {}


def alone(function, *static):
    """A program of its own of what is part of others too."""
    return jax.jit(function.__wrapped__, static_argnames=static)


def of_encoding():
    """Codes of a model."""
    network = convnets.build("vgg16", 10, width_factor=0.25)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(lambda: network.init(KEY, images, train=False))
    model = jaxhash.encode(lambda variables, x: network.apply(variables, x, train=False))
    yield "encode", jax.jit(model), (variables, images), {}


def of_hash_study():
    """Every learner of the hash study."""
    for name, (module, config, data) in LEARNERS.items():
        yield f"study: {name}", jax.jit(module.make_train(config)), (KEY, *data), {}


def of_hashers():
    """What finds perfect hashes, and what looks keys up in them."""
    config = ShardedConfig(keys_per_bucket=16, outputs=5)
    buckets = cut(PRINTS, len(PRINTS), 16)
    state = sharded.start(config, buckets, 8)
    yield "fit: sharded", jax.jit(sharded.make_train(config)), (state, buckets, ZERO), {}
    small = SeedsConfig()
    for keys, search in zip((small.keys_per_bucket, small.keys_per_leaf), seeds._searches(small), strict=True):
        words, ones = np.zeros((keys, 4), np.uint32), np.ones(4, np.int32)
        groups = seeds.Groups(words, words, keys * ones, 0 * ones)
        yield f"fit: seeds of {keys} keys", search, (seeds.start(groups, 2), groups, ZERO), {}
    study = network_training.study_config(NetworkMethodConfig(hidden=16), 50)
    prints = np.zeros((50, 2), np.uint32)
    tokens = network_training.as_tokens(prints)
    training = jax.eval_shape(lambda: expected_return.start(study, expected_return.draw(study, KEY, tokens), tokens))
    yield "fit: network", network_training._iteration(study), (training, KEY, ZERO, tokens), {}
    yield "fingerprint", jax.jit(fingerprint), (TOKENS, np.uint32(1)), {}
    for method in METHODS:
        hasher = fit([f"key {i}" for i in range(20)], FitConfig(method=method))
        yield f"look up: {method}", jax.jit(hasher.apply), (TOKENS,), {}


def of_benchmarks():
    """What the benchmark of accelerators has of its own."""
    for name, way in all_pairs.WAYS.items():
        filled = all_pairs.fill(way, np.asarray(WORDS), 128)
        search = jax.jit(all_pairs.make_search(way, 100, 3, 128, 64))
        yield f"all pairs: {name}", search, (*filled, ZERO), {}
    ones = jnp.ones((8, 8), jnp.int8)
    yield "int8 products", ceilings.int8_product, (ones, ones), {}


GROUPS = (of_sweeps, of_any_model, of_codes, of_encoding, of_hash_study, of_hashers, of_benchmarks)

GRADIENT = "the gradient of a look-up: of the bin that was drawn, or of a letter's embedding"
WHOLE = "K-Means' accuracy: whole numbers, whose sums are exact in any order"
FLOAT_SCATTERS = {
    "K-Means: accuracy": WHOLE,
    "codes of many models, 1 at once": WHOLE,
    "codes of many models, 4 at once": WHOLE,
    **{f"study: {name}": GRADIENT for name in LEARNERS},
}
"""Programs that add floats by a scatter, and why they may."""


def lowered(program, arguments, static):
    """StableHLO of a program for all platforms."""
    return export.export(program, platforms=PLATFORMS)(*arguments, **static).mlir_module()


def problems(text):
    """What a lowered program has that accelerators have not, are slow with, or do in any order."""
    found = {name for name in ("xf64>", "<f64>", "callback", "infeed", "outfeed") if name in text}
    scatters = re.findall(r'"stablehlo\.scatter"\(.*?\}\) :', text, re.DOTALL)
    if any(re.search(r"stablehlo\.add [^\n]*tensor<b?f\d+>", body) for body in scatters):
        found.add("float scatter")
    return found


@pytest.mark.parametrize("programs", GROUPS)
def test_programs_lower_for_accelerators(programs):
    found = {name: problems(lowered(program, arguments, static)) for name, program, arguments, static in programs()}
    expected = {name: {"float scatter"} if name in FLOAT_SCATTERS else set() for name in found}
    assert found == expected


def test_what_only_a_cpu_has_is_found():
    def calls_back(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), np.float32), x)

    def scatters(x, index):
        return jnp.zeros_like(x).at[index].add(x)

    x, index = jnp.zeros(3), jnp.zeros(3, jnp.int32)
    text = jax.jit(calls_back).lower(x).as_text()
    assert problems(text) == {"callback"}
    assert problems(lowered(jax.jit(scatters), (x, index), {})) == {"float scatter"}
    assert problems(lowered(jax.jit(scatters), (index, index), {})) == set()
    with jax.enable_x64(True):
        assert problems(lowered(jax.jit(jnp.sin), (np.zeros(3),), {})) == {"xf64>"}
