"""The parts, in order of worth. A line more, with a file of its own, makes one more."""

from bench.accelerator import (
    against_cpu,
    all_pairs,
    any_models,
    convnet,
    devices,
    figure_properties,
    fits,
    learner,
    look_ups,
    properties,
    reproducible,
    training,
)
from bench.accelerator.part import Part

PARTS = (
    Part("training", "is a sweep trained faster than with PyTorch?", training.run, 150),
    Part("properties", "how long do all properties of a model's codes take?", properties.run, 40),
    Part("figure", "how long do the properties of all models of a figure take?", figure_properties.run, 60),
    Part("all-pairs", "are the neighbours of a million codes found in 10 s?", all_pairs.run, 150),
    Part("look-ups", "are keys on the device hashed 1,000 times as fast as by Python's loop?", look_ups.run, 50),
    Part("fits", "how long do fits of the dictionary and of 10,000,000 keys take?", fits.run, 130),
    Part("learner", "how long does the expected-return learner take for 10,000 words?", learner.run, 40),
    Part("any-model", "are 8 repeats of any model trained faster than by a loop?", any_models.run, 90),
    Part("convnet", "how long does an epoch of ResNet-20 and of VGG-16 on CIFAR-10 take?", convnet.run, 90),
    Part("against-cpu", "are a sweep's results the CPU's, within the bounds of the documents?", against_cpu.run, 60),
    Part("reproducible", "do two runs give the same bits, and at what cost?", reproducible.run, 120),
    Part("devices", "what do several devices gain?", devices.run, 60),
)
