"""VGG and ResNet for 32 x 32 images as Flax Linen modules that return logits and every pre-activation by name.

VGG: Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1, columns A, D and E, with batch norm, and two dense layers
of 512 with dropout 0.5 in place of its three of 4,096 (arXiv 2101.05490).
ResNet-20, -32, -56: He, Zhang, Ren, Sun 2016 (arXiv 1512.03385), section 4.2; ResNet-18: section 4.1, table 1, its stem
cut to one 3 x 3 convolution of stride 1 and no max pool, as is usual for 32 x 32 images.

A pre-activation is what a ReLU reads, `[n, height, width, channels]` or `[n, units]`. Its name counts the layers with
weights from 1: `conv_01`, `conv_02`, ..., `dense_15`. In a residual block the second convolution's pre-activation is
the sum with the shortcut. Names sort in the order of the layers, so that a dictionary that went through `jax.jit`,
which sorts its keys, is still in that order.
"""

import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jaxhash.models.augment import AugmentConfig, augment
from jaxhash.models.mlp import NORM_EPSILON, NORM_MOMENTUM

IMAGE = (32, 32, 3)
"""Height, width and channels of the images that the networks are made for."""

PreActivations = dict[str, Float[Array, "n ..."]]
Shortcut = Literal["pad", "project"]

# Kernels: He et al. 2015 (arXiv 1502.01852), eq. 10, for layers that a ReLU follows; Glorot and Bengio 2010 at the end.
HE, GLOROT = nn.initializers.he_normal(), nn.initializers.glorot_uniform()


def _relu(z: Array, name: str) -> Array:
    """A ReLU in a scope of its layer's name, which `jaxhash.encode` takes over."""
    with jax.named_scope(name):
        return nn.relu(z)


class VGG(nn.Module):
    """3 x 3 convolutions in stages, a 2 x 2 max pool after each, then dense layers with dropout.

    Every convolution and dense layer but the last is followed by batch norm and ReLU; none of them has a bias, which
    the batch norm would subtract again.
    """

    stages: tuple[tuple[int, ...], ...]
    """Channels of each convolution, stage by stage."""
    dense: tuple[int, ...]
    """Units of each hidden dense layer."""
    classes: int
    dropout: float = 0.5
    """Probability with which a unit of a dense layer is left out of a training step."""
    norm_momentum: float = NORM_MOMENTUM
    """Share of the old running statistics that a training step keeps."""
    kernel_init: nn.initializers.Initializer = HE

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width channels"], *, train: bool = False
    ) -> tuple[Float[Array, "n classes"], PreActivations]:
        """Logits and pre-activations.

        Args:
            x: images, float32; each side divisible by 2 ** len(stages).
            train: normalise with the statistics of this batch (and update the collection `batch_stats`), and drop
                units out, which needs a key named `dropout`.
        """
        pre_activations: PreActivations = {}
        for stage in self.stages:
            for channels in stage:
                name = f"conv_{len(pre_activations) + 1:02d}"
                z = _normalise(
                    _convolve(channels, 1, name, self.kernel_init)(x), f"norm_{name}", train, self.norm_momentum
                )
                pre_activations[name] = z
                x = _relu(z, name)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for units in self.dense:
            name = f"dense_{len(pre_activations) + 1:02d}"
            z = nn.Dense(units, use_bias=False, kernel_init=self.kernel_init, name=name)(x)
            z = _normalise(z, f"norm_{name}", train, self.norm_momentum)
            pre_activations[name] = z
            x = nn.Dropout(self.dropout, deterministic=not train)(_relu(z, name))
        return nn.Dense(self.classes, kernel_init=GLOROT, name="output")(x), pre_activations


class ResNet(nn.Module):
    """A 3 x 3 convolution, stages of residual blocks of two 3 x 3 convolutions, global average pool, dense logits.

    Every stage but the first halves height and width in its first block. Convolutions have no bias; batch norm
    follows each.
    """

    widths: tuple[int, ...]
    """Channels of each stage; the first convolution has those of the first."""
    blocks: int
    """Residual blocks of each stage: 2 * blocks * stages + 2 layers with weights."""
    shortcut: Shortcut
    """Where a block changes the shape: `pad` every second pixel with zero channels (option A of the paper, no
    parameters), or `project` by a 1 x 1 convolution with batch norm (option B)."""
    classes: int
    norm_momentum: float = NORM_MOMENTUM
    """Share of the old running statistics that a training step keeps."""
    kernel_init: nn.initializers.Initializer = HE

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width channels"], *, train: bool = False
    ) -> tuple[Float[Array, "n classes"], PreActivations]:
        """Logits and pre-activations.

        Args:
            x: images, float32.
            train: normalise with the statistics of this batch, and update the collection `batch_stats`.
        """
        pre_activations: PreActivations = {}

        def layer(x: Array, channels: int, stride: int) -> Array:
            """The next convolution and its batch norm."""
            name = f"conv_{len(pre_activations) + 1:02d}"
            return _normalise(
                _convolve(channels, stride, name, self.kernel_init)(x), f"norm_{name}", train, self.norm_momentum
            )

        def relu(z: Array) -> Array:
            name = f"conv_{len(pre_activations) + 1:02d}"
            pre_activations[name] = z
            return _relu(z, name)

        x = relu(layer(x, self.widths[0], 1))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                inner = relu(layer(x, width, stride))
                z = layer(inner, width, 1)
                x = relu(z + self._shortcut(x, width, stride, f"shortcut_{stage}", train))
        return nn.Dense(self.classes, kernel_init=GLOROT, name="output")(x.mean((1, 2))), pre_activations

    def _shortcut(self, x: Array, width: int, stride: int, name: str, train: bool) -> Array:
        if stride == 1 and x.shape[-1] == width:
            return x
        if self.shortcut == "project":
            z = nn.Conv(width, (1, 1), stride, use_bias=False, kernel_init=self.kernel_init, name=name)(x)
            return _normalise(z, f"norm_{name}", train, self.norm_momentum)
        return jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(0, width - x.shape[-1])])


ConvNet = VGG | ResNet
Variables = dict[str, Any]
"""`params` and `batch_stats`, as Flax has them."""


class _Vgg(NamedTuple):
    stages: tuple[tuple[int, ...], ...]


class _ResNet(NamedTuple):
    widths: tuple[int, ...]
    blocks: int
    shortcut: Shortcut


NETWORKS: dict[str, _Vgg | _ResNet] = {
    "vgg11": _Vgg(((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)),
    "vgg16": _Vgg(((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)),
    "vgg19": _Vgg(((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)),
    "resnet8": _ResNet((16, 32, 64), 1, "pad"),
    "resnet18": _ResNet((64, 128, 256, 512), 2, "project"),
    "resnet20": _ResNet((16, 32, 64), 3, "pad"),
    "resnet32": _ResNet((16, 32, 64), 5, "pad"),
    "resnet56": _ResNet((16, 32, 64), 9, "pad"),
}
"""The study's networks, and two small ones of the same families: VGG-11 and ResNet-8."""


def build(name: str, classes: int, *, width_factor: float = 1.0, norm_momentum: float = NORM_MOMENTUM) -> ConvNet:
    """A network by its name in `NETWORKS`.

    Args:
        name: as in the literature, in lower case.
        classes: number of logits.
        width_factor: multiplies the channels and units of every layer, rounded, at least 1.
        norm_momentum: share of the old running statistics that a training step keeps. The default is Keras' and the
            authors'; 0.9 suits runs of less than about 500 steps, in which 0.99 still remembers the start.

    Raises:
        ValueError: if there is no such network, or a number is out of range.
    """
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is not known; give one of {', '.join(NETWORKS)}")
    if not 0 < width_factor < float("inf"):
        raise ValueError(f"width_factor={width_factor} must be positive; 1 is the published width")
    if not 0 <= norm_momentum < 1:
        raise ValueError(f"norm_momentum={norm_momentum} is outside [0, 1)")
    if classes < 2:
        raise ValueError(f"classes={classes}: a classifier needs 2 or more")

    def scale(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(round(width * width_factor), 1) for width in widths)

    plan = NETWORKS[name]
    if isinstance(plan, _Vgg):
        stages = tuple(scale(stage) for stage in plan.stages)
        return VGG(stages, scale((512, 512)), classes, norm_momentum=norm_momentum)
    return ResNet(scale(plan.widths), plan.blocks, plan.shortcut, classes, norm_momentum=norm_momentum)


class OfRows(nn.Module):
    """A network of rows of pixels, as datasets have them (or of images): framed, and randomly moved in training."""

    network: ConvNet
    move: AugmentConfig

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."], *, train: bool = False) -> Float[Array, "n classes"]:
        """Logits; `train` as of the networks, with a key named `augment` too."""
        images = jnp.asarray(as_images(x.reshape(len(x), -1)))
        if train:
            images = augment(self.move, self.make_rng("augment"), images)
        logits, _ = self.network(images, train=train)
        return logits


def classifier(
    network: str = "resnet20",
    classes: int = 10,
    width_factor: float = 1.0,
    norm_momentum: float = NORM_MOMENTUM,
    rotation: float = 15.0,
    shift: float = 0.1,
    flip: bool = True,
) -> OfRows:
    """A network as the study's authors train it: Glorot kernels, projections in every shortcut, moved images.

    A function for `jaxhash.sweep`: each of its arguments may be an axis of a grid.

    Args:
        network: a name in `NETWORKS`.
        classes: number of logits.
        width_factor: multiplies the channels of every layer; 1 is the published width.
        norm_momentum: as of `build`.
        rotation: largest angle by which images are turned in training, degrees.
        shift: largest shift in training, as a fraction of height and of width.
        flip: mirror every second image in training.

    Raises:
        ValueError: as `build` and `AugmentConfig`.
    """
    found = build(network, classes, width_factor=width_factor, norm_momentum=norm_momentum)
    authors: dict[str, Any] = {"kernel_init": GLOROT}
    if isinstance(found, ResNet):
        authors["shortcut"] = "project"
    return OfRows(found.clone(**authors), AugmentConfig(rotation, shift, flip))


def initialise(network: ConvNet, key: Array, image: tuple[int, int, int] = IMAGE) -> Variables:
    """Fresh `params` and `batch_stats` for images of this shape.

    Better not under `jax.jit`: kernel by kernel there is one program to compile for each shape, all together are one
    program in which every kernel counts (a minute for ResNet-8 on a busy CPU).
    """
    variables: Any = network.lazy_init(key, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    return variables


def as_images(
    x: Float32[np.ndarray, "n features"] | Float32[Array, "n features"],
) -> Float32[np.ndarray, "n 32 32 3"] | Float32[Array, "n 32 32 3"]:
    """Rows of a dataset as images of the size the networks are made for, NumPy's as NumPy's.

    Small ones are enlarged by a whole factor (each pixel a square), then framed with zeros to 32 x 32; grey ones get
    three equal channels.

    Raises:
        ValueError: if a row is no square grey or colour image of at most 32 x 32 pixels.
    """
    n, features = x.shape
    channels = 3 if features % 3 == 0 and math.isqrt(features // 3) ** 2 == features // 3 else 1
    side = math.isqrt(features // channels)
    if side**2 * channels != features or side > IMAGE[0]:
        raise ValueError(
            f"rows of {features} features are no square images of at most {IMAGE[0]} x {IMAGE[1]} pixels, grey or "
            "with 3 channels; give a dataset of such images"
        )
    factor = IMAGE[0] // side
    xp = np if isinstance(x, np.ndarray) else jnp
    images = x.reshape(n, side, side, channels).repeat(factor, axis=1).repeat(factor, axis=2)
    before = (IMAGE[0] - side * factor) // 2
    after = IMAGE[0] - side * factor - before
    framed = xp.pad(images, [(0, 0), (before, after), (before, after), (0, 0)])
    return xp.asarray(xp.broadcast_to(framed, (n, *IMAGE)), copy=True)


class Cost(NamedTuple):
    """What a network asks of a machine, worked out from shapes alone; nothing is compiled or run."""

    parameters: int
    code_bits: dict[str, int]
    """ReLU units by layer: bits of one image's neural code."""
    forward_flops: int
    """Of one image, in convolutions and dense layers: 2 for each multiply-add."""

    def training_flops(self, batch_size: int) -> int:
        """Of one optimiser step: forward, gradient of the weights and gradient of the inputs cost the same each."""
        return 3 * batch_size * self.forward_flops

    def training_bytes(self, batch_size: int) -> int:
        """About what a step holds at once: parameters, gradients and Adam's moments, and for each ReLU unit what its
        convolution, its batch norm and itself give, kept for the backward pass; float32."""
        return 16 * self.parameters + 3 * 4 * batch_size * sum(self.code_bits.values())


def cost(network: ConvNet, image: tuple[int, int, int] = IMAGE) -> Cost:
    """Parameters, code length and FLOPs of a network on images of this shape."""
    variables = jax.eval_shape(lambda key: initialise(network, key, image), jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    forward: Any = jax.make_jaxpr(network.apply, return_shape=True)(variables, x)
    jaxpr, (_, pre_activations) = forward
    return Cost(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        code_bits={name: z.size for name, z in pre_activations.items()},
        forward_flops=sum(_flops(equation) for equation in _equations(jaxpr.jaxpr)),
    )


def _convolve(channels: int, stride: int, name: str, kernel_init: nn.initializers.Initializer) -> nn.Conv:
    # Padding is 1 on each side, as in both papers: Flax' "SAME" would pad a stride of 2 on one side only.
    return nn.Conv(channels, (3, 3), stride, padding=1, use_bias=False, kernel_init=kernel_init, name=name)


def _normalise(x: Array, name: str, train: bool, momentum: float) -> Array:
    return nn.BatchNorm(
        use_running_average=not train, momentum=momentum, epsilon=NORM_EPSILON, use_fast_variance=False, name=name
    )(x)


def _flops(equation: Any) -> int:
    """Of a convolution (channels last) or a matrix product; 0 of everything else."""
    if equation.primitive.name not in ("conv_general_dilated", "dot_general"):
        return 0
    (result,), (_, kernel) = equation.outvars, equation.invars
    outputs = kernel.aval.shape[-1]
    return 2 * result.aval.size * (kernel.aval.size // outputs)


def _equations(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)
