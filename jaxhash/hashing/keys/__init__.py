"""Keys of a hash function: read from lists, files and word lists, and turned into arrays.

In: `str` (its UTF-8), `bytes`, files of one key a line, the word lists `english` and `dwyl`. Out: `Tokens` (characters
uint8 [n, length], lengths int32 [n]), fingerprints uint32 [n, 2]. Any two different keys have different tokens.

lines           lines of a file, plain or gzipped, block by block
words           word lists by name, key sets from a file; duplicates refused or dropped
source          what a fit reads several times: `KeyFile`, `KeyList`
tokens          keys as arrays of characters; batches: in few shapes, so that little is compiled
fingerprint     64 bits of a key, in integer arithmetic that is the same on every device
python_hash     CPython's own hash of strings (SipHash-1-3), with a salt of one's choice
"""

from jaxhash.hashing.keys.python_hash import python_bins
from jaxhash.hashing.keys.source import KeyFile, KeyList
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.keys.words import load_keys, read_keys

__all__ = [
    "KeyFile",
    "KeyList",
    "Tokens",
    "load_keys",
    "python_bins",
    "read_keys",
    "tokenize",
]
