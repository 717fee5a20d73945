"""The layer-norm HyperLSTM: `HyperLSTM` with `layer_norm=True`."""

import functools

from hyperjax.nn.cells.hyper_lstm import HyperLSTM

build = functools.partial(HyperLSTM, layer_norm=True)
