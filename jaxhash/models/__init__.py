"""Neural networks of the studies as Flax Linen modules: pure functions of variables and examples.

In: a description (`ModelConfig`, the name of a convolutional network), examples [n, features] or images [n, 32, 32, 3].
Out: logits [n, classes] and every pre-activation by name, from which a neural code is made.

mlp           multilayer perceptron with batch norm and dropout, and how its kernels are initialised
convnets      VGG and ResNet; their parameters, code bits, FLOPs and memory worked out from shapes (`cost`)
network       any model as two pure functions: Flax Linen and NNX, Equinox, Haiku, or a pair
augment       random rotations, shifts and flips of images
"""

from jaxhash.models.augment import AugmentConfig
from jaxhash.models.convnets import VGG, ResNet, cost
from jaxhash.models.mlp import MLP, ModelConfig

__all__ = ["MLP", "VGG", "AugmentConfig", "ModelConfig", "ResNet", "cost"]
