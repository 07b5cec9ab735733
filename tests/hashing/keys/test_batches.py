import numpy as np
import pytest

from jaxhash.hashing.keys.batches import batches, count, max_rows, pad_rows, padded_length, pipeline, split
from jaxhash.hashing.keys.tokens import Tokens, flatten, list_blocks, tokenize


@pytest.mark.parametrize("n", [0, 1, 5, 17, 300])
def test_batches_hold_every_key_once_in_few_shapes(n):
    rng = np.random.default_rng(n)
    keys = [rng.bytes(int(length)) for length in rng.choice([0, 3, 63, 64, 65, 300, 5000], n)]
    seen = {}
    for some, tokens in batches(flatten(keys)):
        places = np.arange(n)[some]
        assert len(places) == count(some)
        rows, length = tokens.characters.shape
        assert (rows, length) == (
            pad_rows(Tokens(tokens.characters[: len(places)], tokens.lengths[: len(places)])).characters.shape
        )
        assert padded_length(length) == length
        for place, row, size in zip(places.tolist(), tokens.characters, tokens.lengths, strict=False):
            seen[place] = row[:size].tobytes()
    assert [seen[i] for i in range(n)] == keys
    whole = tokenize(keys)
    parts = [Tokens(t.characters[: p.stop - p.start], t.lengths[: p.stop - p.start]) for p, t in split(whole)]
    assert sum(len(part.lengths) for part in parts) == n


def test_one_long_key_does_not_widen_the_others():
    keys = [b"short"] * 1000 + [b"x" * 2**20]
    assert sum(tokens.characters.nbytes for _, tokens in batches(flatten(keys))) < 2**25
    assert max_rows(2**30) == 1


def test_a_pipeline_numbers_keys_through_and_names_a_bad_one_by_its_place(monkeypatch):
    monkeypatch.setattr("jaxhash.hashing.keys.tokens.KEYS_A_BLOCK", 16)
    keys = [f"key {i}" * (1 + i % 9) for i in range(50)]
    seen = {}
    for some, tokens in pipeline(list_blocks(keys)):
        for place, row, size in zip(np.arange(50)[some], tokens.characters, tokens.lengths, strict=False):
            seen[int(place)] = row[:size].tobytes().decode()
    assert [seen[i] for i in range(50)] == keys
    keys[40] = "\ud800"
    with pytest.raises(ValueError, match=r"keys\[40\] is .* no UTF-8 form"):
        list(pipeline(list_blocks(keys)))
