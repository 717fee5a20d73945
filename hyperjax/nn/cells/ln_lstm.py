"""The layer-norm LSTM: `LSTM` with `layer_norm=True`."""

import functools

from hyperjax.nn.cells.lstm import LSTM

build = functools.partial(LSTM, layer_norm=True)
