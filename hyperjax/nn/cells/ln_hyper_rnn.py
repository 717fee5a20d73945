"""The layer-norm HyperRNN: `HyperRNN` with `layer_norm=True`."""

import functools

from hyperjax.nn.cells.hyper_rnn import HyperRNN

build = functools.partial(HyperRNN, layer_norm=True)
