"""The layer-norm basic network: `RNN` with `layer_norm=True`."""

import functools

from hyperjax.nn.cells.rnn import RNN

build = functools.partial(RNN, layer_norm=True)
