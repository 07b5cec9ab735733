import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier

from jaxhash.codes import Code, logistic, pack
from jaxhash.codes.logistic import MOST_INVERTED, _inverse, fit, predict


def scikit_learn(bits, labels, strength=1.0):
    """Its classifier, with tolerances that leave the optimum and not its solver's stopping rule."""
    one = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    return OneVsOneClassifier(one).fit(bits.astype(np.float64), labels)


@pytest.mark.parametrize(("width", "strength"), [(40, 1.0), (20, 0.1)])
def test_the_optimum_is_scikit_learns(trained, width, strength):
    train, test = trained.bits(width)
    labels = trained.data.y_train
    theirs = scikit_learn(train, labels, strength)
    ours = fit(pack(jnp.asarray(train)), jnp.asarray(labels), num_classes=10, strength=strength)
    for pair, one in enumerate(theirs.estimators_):
        np.testing.assert_allclose(ours.weights[pair, :width], one.coef_[0], atol=0.01)
        np.testing.assert_allclose(ours.intercepts[pair], one.intercept_[0], atol=0.02)
    agree = np.asarray(predict(ours, pack(jnp.asarray(test)))) == theirs.predict(test.astype(np.float64))
    assert agree.mean() > 0.995


def test_inverses_of_the_preconditioner_are_numpys():
    x = np.random.default_rng(0).normal(size=(3, 300, 40))
    grams = np.einsum("pnd,pne->pde", x, x)
    np.testing.assert_allclose(_inverse(jnp.asarray(grams, jnp.float32)), np.linalg.inv(grams), atol=1e-7)


def test_accuracy_is_scikit_learns_with_its_defaults(trained):
    train, test = trained.bits(20)
    theirs = OneVsOneClassifier(LogisticRegression(max_iter=1000)).fit(train.astype(float), trained.data.y_train)
    predicted = logistic(Code.of(train), trained.data.y_train, Code.of(test), num_classes=10)
    ours = (np.asarray(predicted) == trained.data.y_test).mean()
    assert abs(ours - theirs.score(test.astype(float), trained.data.y_test)) <= 0.003


def test_a_class_without_examples_is_never_predicted(trained):
    train, test = trained.bits(20)
    labels = trained.data.y_train
    some = labels != 4
    theirs = scikit_learn(train[some], labels[some]).predict(test.astype(np.float64))
    ours = predict(
        fit(pack(jnp.asarray(train[some])), jnp.asarray(labels[some]), num_classes=10), pack(jnp.asarray(test))
    )
    assert 4 not in np.asarray(ours)
    assert (np.asarray(ours) == theirs).mean() > 0.995


def test_equal_votes_are_settled_by_confidence():
    """Three classes, one bit each: codes that no pair of classes was trained on tie one vote each."""
    bits = np.repeat(np.eye(3, dtype=bool), [20, 25, 30], axis=0)
    labels = np.repeat(np.arange(3), [20, 25, 30])
    bits = np.concatenate([bits, np.ones((3, 3), bool)])
    labels = np.concatenate([labels, [2] * 3])
    queries = np.array([[0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1]], bool)
    theirs = scikit_learn(bits, labels).predict(queries.astype(float))
    ours = predict(
        fit(pack(jnp.asarray(bits)), jnp.asarray(labels, jnp.int32), num_classes=3), pack(jnp.asarray(queries))
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (4, {"num_classes": 1}, "num_classes=1"),
        (0, {"num_classes": 2}, "no training examples"),
        (4, {"num_classes": 2, "strength": 0.0}, "strength=0.0"),
    ],
)
def test_nonsense_is_refused(n, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(jnp.zeros((n, 1), jnp.uint32), jnp.zeros(n, jnp.int32), **arguments)


def test_the_optimum_of_long_codes_is_scikit_learns():
    """Of more bits than the Hessian is inverted for; most of them never vary, as in codes of convolutional networks."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    bits = rng.random((3, MOST_INVERTED + 100))[labels] + rng.random((200, MOST_INVERTED + 100)) > 1
    bits[:, 60:] = False
    model = fit(Code.of(jnp.asarray(bits)).words, jnp.asarray(labels, jnp.int32), num_classes=3)
    for row, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        chosen = np.isin(labels, (i, j))
        theirs = LogisticRegression(tol=1e-8, max_iter=2000).fit(bits[chosen], labels[chosen] == j)
        np.testing.assert_allclose(model.weights[row, : bits.shape[1]], theirs.coef_[0], atol=0.01)
        np.testing.assert_allclose(model.intercepts[row], theirs.intercept_[0], atol=0.02)
