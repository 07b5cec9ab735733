"""Neural codes: packed bits, and everything that is asked of them, in memory or in files behind the same names.

In: bits or words (`Code`), files of them (`CodeFile`), labels. Out: counts, distances, neighbours, clusters, numbers.

code                                        what a code is: packing, layers, ranges of bits
files                                       codes in files: `write` encodes examples batch by batch, `load` opens
distinct                                    distinct codes exactly, redundancy ratio, bits that vary
hamming, neighbours, histogram              distances; k nearest neighbours; distances of all pairs
kmeans (its core: lloyd), logistic          clusters and classes
properties                                  the table of what is measured of a model, `measure`
"""

from jaxhash.codes.code import Code, Layer, Skipped, active, drop_constant, pack, unpack
from jaxhash.codes.distinct import Groups, distinct, groups, redundancy, varying
from jaxhash.codes.files import CodeFile, Codes, load, write, writing
from jaxhash.codes.hamming import hamming
from jaxhash.codes.histogram import histogram, sampled_histogram
from jaxhash.codes.kmeans import KMajorityResult, KMeansResult, cluster_accuracy, k_majority, kmeans
from jaxhash.codes.logistic import logistic
from jaxhash.codes.neighbours import knn, nearest, nearest_of_other_class
from jaxhash.codes.properties import PROPERTIES, CodedData, Property, measure, sample_bits

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
    "Skipped",
    "active",
    "cluster_accuracy",
    "distinct",
    "drop_constant",
    "groups",
    "hamming",
    "histogram",
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
    "sampled_histogram",
    "unpack",
    "varying",
    "write",
    "writing",
]
