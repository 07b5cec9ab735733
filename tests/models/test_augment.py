import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxhash.models.augment import AugmentConfig, Movement, augment, draw, move


def keras_way(image, angle, rows, columns, mirrored):
    """Rotation times shift about the centre, each channel by SciPy's affine transformation; then the mirror."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ [[1, 0, rows], [0, 1, columns], [0, 0, 1]]
    height, width = image.shape[:2]
    centre, back = np.eye(3), np.eye(3)
    centre[:2, 2] = height / 2 - 0.5, width / 2 - 0.5
    back[:2, 2] = -centre[:2, 2]
    matrix = centre @ matrix @ back
    channels = [
        scipy.ndimage.affine_transform(image[..., c], matrix[:2, :2], matrix[:2, 2], order=1, mode="nearest")
        for c in range(image.shape[2])
    ]
    moved = np.stack(channels, -1)
    return moved[:, ::-1] if mirrored else moved


def test_movements_are_scipys():
    random = np.random.default_rng(0)
    images = random.random((6, 12, 9, 2)).astype(np.float32)
    movement = Movement(
        angle=np.deg2rad([0, 15, -15, 7, 90, 0]).astype(np.float32),
        rows=np.array([0, 1.2, -0.4, 3, 0, 2], np.float32),
        columns=np.array([0, -0.9, 0.5, 0, -2.25, 0], np.float32),
        mirrored=np.array([False, False, True, True, False, True]),
    )
    found = jax.jit(move)(images, Movement(*map(jnp.asarray, movement)))
    for image, *how, result in zip(images, *movement, np.asarray(found), strict=True):
        np.testing.assert_allclose(result, keras_way(image.astype(np.float64), *how), atol=2e-5)


def test_movements_fill_their_ranges():
    drawn = draw(AugmentConfig(), jax.random.key(0), 4000, 32, 20)
    for values, limit in ((drawn.angle, np.deg2rad(15)), (drawn.rows, 3.2), (drawn.columns, 2)):
        values = np.asarray(values)
        assert np.abs(values).max() <= limit
        assert values.min() < -0.98 * limit
        assert values.max() > 0.98 * limit
        assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert drawn.mirrored.mean() == pytest.approx(0.5, abs=0.04)


def test_nothing_moves_when_all_is_switched_off():
    images = jnp.asarray(np.random.default_rng(1).random((3, 8, 8, 1)), jnp.float32)
    still = augment(AugmentConfig(rotation=0.0, shift=0.0, flip=False), jax.random.key(0), images)
    np.testing.assert_allclose(still, images, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"rotation": -1.0}, {"rotation": 181.0}, {"shift": 1.5}])
def test_ranges_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        AugmentConfig(**wrong)
