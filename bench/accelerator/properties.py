"""All encoding properties of one model's codes: 48,000 + 10,000 codes of 100 bits."""

from dataclasses import replace
from typing import Any

import jax

from bench import harness, properties
from bench.accelerator.ceilings import ceilings
from bench.accelerator.inputs import mnist
from bench.accelerator.part import Setting, figure


def run(setting: Setting) -> dict[str, Any]:
    """Seconds of each property, compiled; compiling apart."""
    quick = setting.quick
    data, source = mnist(setting)
    width = 128 if quick else 100
    harness.say(f"training a network of {width} units on {source}")
    codes = properties.codes_of(data, properties.Config(width=width))
    # Put on the device, as a sweep's are: so they share its compiled programs.
    there = jax.device_put((codes.train_code, codes.test_code), jax.devices()[0])
    works = properties.ours(replace(codes, train_code=there[0], test_code=there[1]))
    first, _ = harness.interleaved(works, 1, keep=False)
    seconds, _ = harness.interleaved(works, 1 if quick else 5, keep=False)
    middle = harness.medians(seconds)
    pairs = len(codes.train) * len(codes.test)
    # What every form of 9-NN has to do: a +1/-1 product of each pair.
    operations = 2.0 * pairs * codes.train_code.num_bits / middle["9-NN"]
    return {
        "figures": [
            *(figure(f"s, {name}", took) for name, took in middle.items()),
            figure("s, compiling", sum(took - middle[name] for name, (took,) in first.items())),
            figure("9-NN: share of the int8 product rate", operations / ceilings(quick).int8_operations),
        ],
        "data": source,
        "codes": [len(codes.train), len(codes.test)],
        "bits": codes.train_code.num_bits,
        "first_seconds": first,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }
