"""Datasets as NumPy arrays: loaded by name, from a file or from arrays, split into training, validation and test.

In: the name of a public dataset (found in a folder, the cache or the network, and verified), the path of an .npz file,
or arrays. Out: a `Dataset` of float32 examples [n, features] and int32 labels [n].

dataset         Dataset, split, subsets, label noise, uniform inputs
catalogue       load by name: the table of datasets
download        files of public datasets, verified
images, image_formats, mat5, tabular, text, npz     the readers; they import pandas and scikit-learn when needed
"""

from jaxhash.data.catalogue import NAMES, load
from jaxhash.data.dataset import Dataset, subset, uniform_inputs, with_label_noise
from jaxhash.data.download import DataError

__all__ = ["NAMES", "DataError", "Dataset", "load", "subset", "uniform_inputs", "with_label_noise"]
