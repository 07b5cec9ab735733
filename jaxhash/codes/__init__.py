"""Neural codes: packed bits, and one function for each question about them.

In: a `Code` in memory or a `CodeFile` on disk, and labels. Out: counts, Hamming distances, nearest neighbours,
clusters, classes, and all encoding properties at once (`measure`).

code            `Code`: packing, layers, ranges of bits
files           codes in files: `write` encodes examples batch by batch, `load` opens
distinct        number of distinct codes, redundancy ratio, bits that vary
hamming         Hamming distances; neighbours: the k nearest, k-NN classification (nearest_words: in memory)
kmeans          K-Means clusters and their accuracy (lloyd: its iterations); logistic: logistic regression
properties      the table of encoding properties, `measure`; batched: of many models, in one program
"""

from jaxhash.codes.code import Code, Layer, Skipped, active, drop_constant, pack, unpack
from jaxhash.codes.distinct import Groups, distinct, groups, redundancy, varying
from jaxhash.codes.files import CodeFile, Codes, load, write, writing
from jaxhash.codes.hamming import hamming
from jaxhash.codes.kmeans import KMajorityResult, KMeansResult, cluster_accuracy, k_majority, kmeans
from jaxhash.codes.logistic import logistic
from jaxhash.codes.neighbours import knn, nearest, nearest_of_other_class
from jaxhash.codes.properties import PROPERTIES, CodedData, Property, Share, measure, sample_bits

__all__ = [
    "PROPERTIES",
    "Code",
    "CodeFile",
    "CodedData",
    "Codes",
    "Groups",
    "KMajorityResult",
    "KMeansResult",
    "Layer",
    "Property",
    "Share",
    "Skipped",
    "active",
    "cluster_accuracy",
    "distinct",
    "drop_constant",
    "groups",
    "hamming",
    "k_majority",
    "kmeans",
    "knn",
    "load",
    "logistic",
    "measure",
    "nearest",
    "nearest_of_other_class",
    "pack",
    "redundancy",
    "sample_bits",
    "unpack",
    "varying",
    "write",
    "writing",
]
