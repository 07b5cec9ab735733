"""The study's model-capacity figure: redundancy ratio and accuracies on codes against width.

Figure 2 of He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden
layer, CIFAR-10 with five. What we measured stands in docs/neural-codes.md, with the time it took. `jaxhash sweep` is
the same command, outside a checkout.

    python -m experiments.model_capacity                       # digits, under a minute on 2 cores
    python -m experiments.model_capacity --dataset mnist       # the study's grid and recipe (jaxhash/sweeps/presets.py)
    python -m experiments.model_capacity --dataset cifar10     # the same, depth 5; svhn, adult and imdb too
    python -m experiments.model_capacity --dataset my.npz --widths 8 16 32 --epochs 30 --out runs/mine

An interrupted run continues with the same command.
"""

from jaxhash.terminal import capacity


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    capacity.main(arguments, __doc__, prog=None)


if __name__ == "__main__":
    main()
