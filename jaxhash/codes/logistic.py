"""One-vs-one logistic regression on neural codes, every pair of classes solved side by side to the optimum.

The problem is scikit-learn's `OneVsOneClassifier(LogisticRegression(C=1))`: for classes i < j, minimise
C * sum log(1 + exp(-s (w.x + b))) + |w|^2 / 2 over the examples of both, s = +1 for class j and -1 for class i, the
intercept b not penalised. The solver is Newton's method; each step is found by conjugate gradients preconditioned
with the inverse of the Hessian at zero (which needs one Gram matrix a class, not one a pair), and halved
until the loss falls (Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 7.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxhash.codes.code import WORD, Code, unpack
from jaxhash.codes.files import Codes, check_alike, check_labels
from jaxhash.runtime.devices import soon_compiled

HIGHEST = jax.lax.Precision.HIGHEST
"""Of every product: TF32, the default on some GPUs, would move the optimum."""
MAX_NEWTON_STEPS = 50
MAX_CG_STEPS = 40
# Largest gradient entry a sample at which a pair is solved; scikit-learn stops at 1e-4.
TOLERANCE = 1e-5
# Features up to which the Hessian at 0 is inverted: more take its diagonal, as the inverse costs their third power.
MOST_INVERTED = 512


class OneVsOne(NamedTuple):
    """A fitted classifier: pairs (i, j), i < j, in the order (0, 1), (0, 2), ..., as scikit-learn has them."""

    weights: Float[Array, "pairs bits"]
    intercepts: Float[Array, " pairs"]
    present: Bool[Array, " classes"]
    """Classes that had a training example; the others are never predicted, and pairs with them are not solved."""


def logistic(
    train: Codes,
    train_labels: Int[Array, " n"] | Int[np.ndarray, " n"],
    test: Codes,
    *,
    num_classes: int,
    strength: float = 1.0,
    count: Int[Array, ""] | int | None = None,
    capacity: int | None = None,
) -> Int[Array, " m"]:
    """Logistic regression, one-vs-one: the class of each test code by a classifier fitted on the training codes, int32.

    Args:
        train: codes of the training examples; each bit is a feature of value 0 or 1. Files are read into memory.
        train_labels: 0 ... num_classes - 1.
        test: codes of the examples to classify.
        num_classes: number of classes.
        strength: scikit-learn's C, the inverse strength of the L2 penalty.
        count: fit on the first so many training codes only (all by default).
        capacity: as for `fit`.

    Cost: about 100 passes over the unpacked bits. Memory: the unpacked training bits, a few times.

    Raises:
        ValueError: as `fit`, or if the codes differ in their number of bits, or labels are not one for each code.

    >>> bits = jnp.array([[True, False], [True, True], [False, False], [False, True]])
    >>> logistic(Code.of(bits), jnp.array([1, 1, 0, 0]), Code.of(bits), num_classes=2).tolist()
    [1, 1, 0, 0]
    """
    check_alike(train, test)
    check_labels(train, train_labels, "training")
    words = [codes.words if isinstance(codes, Code) else codes.read().words for codes in (train, test)]
    labels = jnp.asarray(train_labels, jnp.int32)
    model = fit(words[0], labels, num_classes=num_classes, strength=strength, count=count, capacity=capacity)
    return predict(model, words[1])


def fit(
    words: UInt32[Array, "n words"],
    labels: Int[Array, " n"],
    *,
    num_classes: int,
    strength: float = 1.0,
    count: Int[Array, ""] | int | None = None,
    capacity: int | None = None,
) -> OneVsOne:
    """Fit one classifier a pair of classes.

    Args:
        words: packed codes, uint32; each bit is a feature of value 0 or 1.
        labels: int32, 0 ... num_classes - 1.
        strength: scikit-learn's C, the inverse strength of the L2 penalty.
        count: fit on the first so many examples only (all by default); one program serves every count.
        capacity: examples that the largest class has at most; counted if None, which a program cannot do.

    Cost: about 100 passes over the unpacked bits, with num_classes - 1 multiply-adds a bit each.

    Raises:
        ValueError: if there are fewer than 2 classes, no examples, or the strength is not positive.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: one-vs-one classification needs at least 2 classes")
    if len(words) == 0:
        raise ValueError("no training examples; logistic regression needs at least 1")
    if not strength > 0:
        raise ValueError(f"strength={strength} must be positive; it is the inverse of the L2 penalty")
    # The size of the largest class is the one shape that depends on the labels' values (not on the count).
    capacity = int(np.bincount(np.asarray(labels), minlength=num_classes).max()) if capacity is None else capacity
    return _fit(words, labels, jnp.float32(strength), count, num_classes=num_classes, capacity=capacity)


@jax.jit
def predict(model: OneVsOne, words: UInt32[Array, "n words"]) -> Int[Array, " n"]:
    """Most votes over pairs; ties are broken by summed confidences, as scikit-learn does it. int32."""
    num_classes = model.present.shape[0]
    low, high = _pairs(num_classes)
    bits = unpack(words, words.shape[1] * WORD).astype(jnp.float32)
    confidence = jnp.matmul(bits, model.weights.T, precision=HIGHEST) + model.intercepts
    confidence = jnp.where(model.present[low] & model.present[high], confidence, 0)
    for_high = confidence > 0
    for_low = (confidence <= 0) & (model.present[low] & model.present[high])
    is_low, is_high = jax.nn.one_hot(low, num_classes), jax.nn.one_hot(high, num_classes)
    votes = jnp.matmul(for_high, is_high, precision=HIGHEST) + jnp.matmul(for_low, is_low, precision=HIGHEST)
    summed = jnp.matmul(confidence, is_high - is_low, precision=HIGHEST)
    # The confidences are squeezed into (-1/3, 1/3), so that they decide between equal votes only.
    score = votes + summed / (3 * (jnp.abs(summed) + 1))
    return jnp.where(model.present, score, -jnp.inf).argmax(1).astype(jnp.int32)


class _Steps(NamedTuple):
    """Where the conjugate gradients of all pairs stand."""

    step: Int[Array, ""]
    d: Float[Array, "pairs features"]
    r: Float[Array, "pairs features"]
    p: Float[Array, "pairs features"]
    rz: Float[Array, " pairs"]


_Carry = tuple[Array, Array, Array, Array, Array, Array]


class _Problem(NamedTuple):
    """All pairs at once. Examples stand class by class; each class takes part in classes - 1 pairs."""

    x: Float[Array, "classes capacity features"]
    """Bits and a constant 1 for the intercept; rows beyond a class's examples are 0."""
    real: Float[Array, "classes 1 capacity"]
    """1 for examples, 0 for filling."""
    strength: Float[Array, ""]
    penalty: Float[Array, " features"]
    """1 for weights, 0 for the intercept."""


@soon_compiled("num_classes", "capacity")
def _fit(
    words: Array, labels: Array, strength: Array, count: Array | int | None, *, num_classes: int, capacity: int
) -> OneVsOne:
    if count is not None:  # a label of no class: counted nowhere, and last in order
        labels = jnp.where(jnp.arange(len(labels)) < count, labels, num_classes)
    sizes = jnp.zeros(num_classes, jnp.int32).at[labels].add(1, mode="drop")
    order = jnp.argsort(labels, stable=True)
    first = jnp.cumsum(sizes) - sizes
    slot = jnp.arange(capacity)
    real = slot < sizes[:, None]
    rows = words[order[jnp.where(real, first[:, None] + slot, 0)]]
    bits = unpack(rows, words.shape[1] * WORD)
    x = jnp.concatenate([bits, jnp.ones((*bits.shape[:2], 1), bool)], -1) & real[..., None]
    problem = _Problem(
        x=x.astype(jnp.float32),
        real=real[:, None].astype(jnp.float32),
        strength=strength,
        penalty=jnp.ones(x.shape[-1]).at[-1].set(0),
    )
    solution = _newton(problem, num_classes, sizes)
    return OneVsOne(solution[:, :-1], solution[:, -1], sizes > 0)


def _newton(problem: _Problem, num_classes: int, count: Array) -> Float[Array, "pairs features"]:
    low, high = _pairs(num_classes)
    sign, to_class, to_pairs = _incidence(num_classes)
    examples = (count[low] + count[high]).astype(jnp.float32)
    solvable = (count[low] > 0) & (count[high] > 0)

    def margins(w: Array) -> Array:  # [classes, others, capacity]
        return jnp.einsum("cqd,cnd->cqn", to_class(w), problem.x, precision=HIGHEST)

    def back(residual: Array) -> Array:  # [pairs, features]
        return to_pairs(jnp.einsum("cqn,cnd->cqd", residual, problem.x, precision=HIGHEST))

    def objective(w: Array, m: Array) -> Array:  # [pairs]
        losses = (jax.nn.softplus(-sign * m) * problem.real).sum(-1)
        return problem.strength * to_pairs(losses) + 0.5 * (problem.penalty * w * w).sum(-1)

    def gradient_and_curvature(w: Array, m: Array) -> tuple[Array, Array]:
        p = jax.nn.sigmoid(-sign * m) * problem.real
        return problem.penalty * w - problem.strength * back(sign * p), problem.strength * p * (1 - p)

    # At w = 0 every example has curvature 1/4. A trace of it keeps the inverses of pairs without examples defined.
    trace = problem.penalty + 1e-3
    if problem.x.shape[-1] <= MOST_INVERTED:
        gram = jnp.einsum("cnd,cne->cde", problem.x, problem.x, precision=HIGHEST)
        inverse = _inverse(0.25 * problem.strength * (gram[low] + gram[high]) + jnp.diag(trace))
    else:
        diagonal = jnp.square(problem.x).sum(1)
        inverse = 1 / (0.25 * problem.strength * (diagonal[low] + diagonal[high]) + trace)

    def precondition(r: Array) -> Array:
        return inverse * r if inverse.ndim == 2 else (inverse * r[:, :, None]).sum(1)

    def direction(g: Array, curvature: Array, wanted: Array) -> Array:
        """Conjugate gradients on H d = -g, all pairs in step, until each residual is a tenth of its gradient."""

        def product(v: Array) -> Array:
            return problem.penalty * v + back(curvature * margins(v))

        def go_on(carry: _Steps) -> Array:
            return (carry.step < MAX_CG_STEPS) & busy(carry).any()

        def busy(carry: _Steps) -> Array:
            return wanted & (_norm(carry.r) > 0.1 * _norm(g))

        def improve(carry: _Steps) -> _Steps:
            go = busy(carry)
            z = precondition(carry.r)
            rz = jnp.where(go, (carry.r * z).sum(-1), carry.rz)
            # In the first step p is 0, and becomes z.
            p = jnp.where(go[:, None], z + (rz / jnp.maximum(carry.rz, 1e-30))[:, None] * carry.p, carry.p)
            hp = product(p)
            alpha = jnp.where(go, rz / jnp.maximum((p * hp).sum(-1), 1e-30), 0)[:, None]
            return _Steps(carry.step + 1, carry.d + alpha * p, carry.r - alpha * hp, p, rz)

        zero = jnp.zeros_like(g)
        start = _Steps(jnp.zeros((), jnp.int32), zero, -g, zero, jnp.ones(len(g)))
        return jax.lax.while_loop(go_on, improve, start).d

    def open_pairs(g: Array) -> Array:
        return solvable & (jnp.abs(g).max(-1) > TOLERANCE * problem.strength * jnp.maximum(examples, 1))

    def go_on(carry: _Carry) -> Array:
        step, *_, unsolved = carry
        return (step < MAX_NEWTON_STEPS) & unsolved.any()

    def newton_step(carry: _Carry) -> _Carry:
        step, w, m, g, curvature, unsolved = carry
        d = direction(g, curvature, unsolved)
        slope = (g * d).sum(-1)
        dm = margins(d)
        before = objective(w, m)

        def too_long(carry: tuple[Array, Array]) -> Array:
            return (carry[1] > 1e-4) & unsolved & ~carry[0]

        def halve(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            accepted, t = carry
            after = objective(w + t[:, None] * d, m + to_class(t)[..., None] * dm)
            # Armijo's rule, with room for float32 rounding of the objective near the optimum.
            accepted = accepted | (after <= before + 1e-4 * t * slope + 1e-6 * jnp.abs(before))
            return accepted, jnp.where(accepted, t, t / 2)

        ones = jnp.ones_like(slope)
        accepted, t = jax.lax.while_loop(lambda c: too_long(c).any(), halve, (jnp.zeros_like(unsolved), ones))
        t = jnp.where(unsolved & accepted, t, 0)
        w, m = w + t[:, None] * d, m + to_class(t)[..., None] * dm
        g, curvature = gradient_and_curvature(w, m)
        return step + 1, w, m, g, curvature, unsolved & accepted & open_pairs(g)

    w = jnp.zeros((len(low), problem.x.shape[-1]))
    m = jnp.zeros((num_classes, num_classes - 1, problem.x.shape[1]))
    g, curvature = gradient_and_curvature(w, m)
    start = (jnp.zeros((), jnp.int32), w, m, g, curvature, open_pairs(g))
    return jax.lax.while_loop(go_on, newton_step, start)[1]


def _inverse(a: Float[Array, "pairs d d"]) -> Float[Array, "pairs d d"]:
    """Inverses of symmetric positive definite matrices: Gauss-Jordan elimination, in place, without pivots.

    Not LAPACK's: of many matrices, JAX has it wait on a CPU for threads that two programs at a time can use up.
    """
    place = jnp.arange(a.shape[-1])

    def eliminate(k: Array, a: Array) -> Array:
        here = place == k
        row, column = a[:, k], a[:, :, k]
        row = jnp.where(here, 1, row) / row[:, k, None]
        others = jnp.where(here[:, None] | here, 0, a)
        return others + jnp.where(here, 1, -column)[:, :, None] * row[:, None]

    return jax.lax.fori_loop(0, a.shape[-1], eliminate, a)


def _norm(a: Float[Array, "pairs features"]) -> Float[Array, " pairs"]:
    return jnp.sqrt((a * a).sum(-1))


def _pairs(num_classes: int) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """The lower and the higher class of every pair."""
    low, high = np.triu_indices(num_classes, 1)
    return low, high


def _incidence(num_classes: int):  # type: ignore[no-untyped-def]
    """How pairs and classes belong together.

    Returns:
        sign [classes, others, 1]: +1 where the class is the higher one of the pair, -1 where it is the lower one;
        a function from [pairs, ...] to [classes, others, ...]; and its transpose, which sums over both classes.
    """
    low, high = _pairs(num_classes)
    pair = np.zeros((num_classes, num_classes), int)
    pair[low, high] = pair[high, low] = np.arange(len(low))
    others = np.array([[b for b in range(num_classes) if b != a] for a in range(num_classes)])
    rows = np.arange(num_classes)[:, None]
    sign = jnp.asarray(np.where(others < rows, 1.0, -1.0)[..., None], jnp.float32)

    def to_class(per_pair: Array) -> Array:
        return per_pair[pair[rows, others]]

    def to_pairs(per_class: Array) -> Array:
        # In the row of class a, class b stands at place b, or b - 1 where a itself is left out before it.
        return per_class[low, high - 1] + per_class[high, low]

    return sign, to_class, to_pairs
