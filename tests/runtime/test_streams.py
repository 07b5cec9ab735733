import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.runtime.streams import Stream, host_generator, stream_key

STEPS, WIDTHS, LAYERS = 2000, (1, 2, 3, 5, 100), 3


def test_no_two_keys_of_a_repeat_are_the_same():
    """Those that are drawn with and those on the way to them, over 2,000 steps; step numbers are widths and streams."""
    repeat = jax.random.fold_in(jax.random.key(0), 0)
    steps, widths = jnp.arange(STEPS), jnp.array(WIDTHS)

    def along(keys, counters):
        return jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, counters).ravel()

    streams = jnp.stack([stream_key(repeat, stream) for stream in Stream])
    of_step = along(streams, steps)
    of_width = along(of_step, widths)
    dropout = of_width.reshape(len(Stream), STEPS, len(WIDTHS))[list(Stream).index(Stream.DROPOUT)]
    assert dropout[7, 3] == stream_key(repeat, Stream.DROPOUT, 7, WIDTHS[3])
    masks = along(dropout.ravel(), jnp.arange(LAYERS))
    nodes = [repeat[None], streams, of_step, of_width, masks]
    data = np.concatenate([np.asarray(jax.random.key_data(keys)) for keys in nodes])
    assert len(np.unique(data, axis=0)) == len(data)


def test_streams_have_numbers_of_their_own_and_keep_them():
    assert len({int(stream) for stream in Stream}) == len(Stream.__members__)
    # Results that were saved depend on these.
    assert (Stream.INIT, Stream.ORDER, Stream.DROPOUT, Stream.MEASURE) == (0, 1, 2, 3)


def test_the_host_draws_anew_for_each_stream_and_counter_and_the_same_again():
    def draws(*arguments):
        return host_generator(jax.random.key(1), *arguments).integers(2**63, size=4).tolist()

    places = list(itertools.product((Stream.ORDER, Stream.LABEL_NOISE), (0, 1, 1000)))
    found = [draws(*place) for place in places]
    assert len({number for numbers in found for number in numbers}) == 4 * len(places)
    assert found == [draws(*place) for place in places]
