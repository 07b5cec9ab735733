"""Many models measured in one program: the same numbers as of each alone (which `test_properties.py` checks)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.codes import PROPERTIES, Code, measure
from jaxhash.codes.batched import Models, fit_in_one_program, measure_models
from jaxhash.codes.properties import RANDOM, value

CLASSES, BITS, N, M = 3, 40, 150, 60
REPEATS, MODELS = 2, 3


def codes(rng, labels, shape):
    """Words of codes that have something to do with their labels, and of one model whose bits are all 0."""
    prototypes = rng.random((CLASSES, BITS)) < 0.5
    bits = prototypes[labels] ^ (rng.random((*shape, BITS)) < 0.2)
    bits[:, 1] = False
    return jax.jit(lambda bits: Code.of(bits).words)(bits)


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(0)
    labels, test_labels = rng.integers(0, CLASSES, (REPEATS, N)), rng.integers(0, CLASSES, M)
    return Models(
        codes(rng, labels[:, None], (REPEATS, MODELS, N)),
        jnp.asarray(labels, jnp.int32),
        jnp.array([N, 70]),
        codes(rng, test_labels, (REPEATS, MODELS, M)),
        jnp.asarray(test_labels, jnp.int32),
        codes(rng, test_labels, (REPEATS, MODELS, M)),
        jax.random.split(jax.random.key(1), (REPEATS, MODELS)),
    )


@pytest.mark.parametrize("together", [1, 4])
def test_the_numbers_are_those_of_each_model_alone(models, together):
    """Also where the last model is filling, and where more are measured side by side than are left."""
    program = jax.jit(
        partial(measure_models, num_classes=CLASSES, capacity=N, properties=PROPERTIES | RANDOM, together=together)
    )
    for number in (MODELS, MODELS - 1):
        found = {name: value(of) for name, of in jax.device_get(program(models, number)).items()}
        for i in range(REPEATS):
            for m in range(number):
                alone = measure(
                    Code(models.train[i, m], BITS),
                    models.train_labels[i],
                    Code(models.test[i, m], BITS),
                    models.test_labels,
                    key=models.keys[i, m],
                    num_classes=CLASSES,
                    count=int(models.counts[i]),
                    random=Code(models.random[i, m], BITS),
                    properties=PROPERTIES | RANDOM,
                )
                assert {name: of[i * number + m] for name, of in found.items()} == pytest.approx(alone, abs=0.03)
                exact = ("train_redundancy", "test_redundancy", "random_redundancy", "knn_accuracy")
                assert {name: found[name][i * number + m] for name in exact} == {name: alone[name] for name in exact}
    assert program._cache_size() == 1


def test_no_program_waits_for_the_threads_it_runs_on(models):
    """LAPACK's calls of many matrices do: two programs at a time took all of XLA's threads, and none went on."""
    program = jax.jit(partial(measure_models, num_classes=CLASSES, capacity=N, properties=PROPERTIES | RANDOM))
    assert "lapack" not in program.lower(models, 1).as_text()
    assert "lapack" in jax.jit(jnp.linalg.inv).lower(jnp.eye(3)).as_text() or jax.default_backend() != "cpu"


def test_fewer_codes_than_classes_have_no_kmeans_accuracy(models):
    few = models._replace(counts=jnp.array([CLASSES, CLASSES - 1]))
    some = {"train_kmeans_accuracy": PROPERTIES["train_kmeans_accuracy"]}
    found = jax.jit(partial(measure_models, num_classes=CLASSES, capacity=N, properties=some))(few, 1)
    assert np.isnan(value(found["train_kmeans_accuracy"])[:2]).tolist() == [False, True]


def test_long_codes_and_many_are_for_measuring_one_by_one():
    assert fit_in_one_program(60_000, 4)
    assert not fit_in_one_program(60_000, 129)  # bits are sampled
    assert not fit_in_one_program(10**6, 128)  # codes are sampled
