"""The recurrent cells of the paper in float64 NumPy, by gate and batch row.

Written from the paper (arXiv 1609.09106, Eq 4-13 and appendix A.2.2) and not
from the package, so that the two can be compared. Matrices are the paper's,
`W[out, in]`, one for each gate, and products are `W @ v` of one batch row.
Where the paper is silent, as its official code has it: the current output of
the hyper cell makes the embeddings; a layer-normalised LSTM has no gate bias,
the hyper cell included, but the main layer-normalised HyperLSTM keeps b_0; the
forget gate gets +1 after the normalisation, inside the sigmoid; epsilon is
1e-3, added to the variance; the carried c is not normalised.

Parameters are dictionaries: `p['W_h']['f']` is the matrix that h is multiplied
with for the forget gate, and `p['hyper']` the parameters of the hyper cell.
Layer norm is on where `p` has `'gain'` and `'bias'`, whose fifth entry, after
the four gates, is `'c'`.
"""

import numpy as np

GATES = ('i', 'g', 'f', 'o')


def sigmoid(v):
  return 1.0 / (1.0 + np.exp(-v))


def layer_norm(v, gain, bias, epsilon=1e-3):
  """Normalises a vector to mean 0 and variance 1, then scales and shifts."""
  mean = sum(v) / len(v)
  variance = sum((v - mean) ** 2) / len(v)
  return gain * (v - mean) / np.sqrt(variance + epsilon) + bias


def gates_to_state(p, pre, c, keep=1.0):
  """Eq 13: from the four pre-activations to h_t and c_t.

  Args:
    p: parameters; ``gain`` and ``bias`` are read if there is a ``gain``.
    pre: dictionary of the four gates' vectors.
    c: the memory c_{t-1}.
    keep: what recurrent dropout multiplies the candidate with, 0 or 1 / keep.

  Returns:
    h_t and c_t.
  """
  if 'gain' in p:
    pre = {y: layer_norm(pre[y], p['gain'][y], p['bias'][y]) for y in GATES}
  forget = sigmoid(pre['f'] + 1.0)
  candidate = keep * np.tanh(pre['g'])
  c = forget * c + sigmoid(pre['i']) * candidate
  seen = layer_norm(c, p['gain']['c'], p['bias']['c']) if 'gain' in p else c
  return sigmoid(pre['o']) * np.tanh(seen), c


def lstm_step(p, h, c, x, keep=1.0):
  """One step of an LSTM or, with ``gain``, of a layer-normalised LSTM."""
  pre = {}
  for y in GATES:
    pre[y] = p['W_h'][y] @ h + p['W_x'][y] @ x
    if 'b' in p:
      pre[y] = pre[y] + p['b'][y]
  return gates_to_state(p, pre, c, keep)


def hyper_lstm_step(p, h, c, hyper_h, hyper_c, x, keep=1.0):
  """One step of a HyperLSTM (Eq 10-13)."""
  x_hat = np.concatenate([h, x])
  hyper_h, hyper_c = lstm_step(p['hyper'], hyper_h, hyper_c, x_hat)
  pre = {}
  for y in GATES:
    z_h = p['W_hat_h'][y] @ hyper_h + p['b_hat_h'][y]
    z_x = p['W_hat_x'][y] @ hyper_h + p['b_hat_x'][y]
    z_b = p['W_hat_b'][y] @ hyper_h
    d_h = p['W_hz'][y] @ z_h
    d_x = p['W_xz'][y] @ z_x
    b = p['W_bz'][y] @ z_b + p['b_0'][y]
    pre[y] = d_h * (p['W_h'][y] @ h) + d_x * (p['W_x'][y] @ x) + b
  h, c = gates_to_state(p, pre, c, keep)
  return h, c, hyper_h, hyper_c


def unroll(p, carry, xs, keep=None):
  """Runs a cell over time, each batch row by itself.

  Args:
    p: parameters; a HyperLSTM if it has ``hyper``, else an LSTM.
    carry: tuple of [batch, size] arrays: h and c, then hyper h and hyper c.
    xs: [time, batch, input_size].
    keep: [time, batch, hidden_size] multipliers of the candidate, or None.

  Returns:
    The last carry, as given, and h of all steps, [time, batch, hidden_size].
  """
  xs = np.asarray(xs, np.float64)
  step = hyper_lstm_step if 'hyper' in p else lstm_step
  rows = []
  for row in range(xs.shape[1]):
    state = tuple(np.asarray(part[row], np.float64) for part in carry)
    outputs = []
    for t in range(xs.shape[0]):
      kept = 1.0 if keep is None else np.asarray(keep[t, row], np.float64)
      state = step(p, *state, xs[t, row], keep=kept)
      outputs.append(state[0])
    rows.append((state, np.stack(outputs)))
  carry = tuple(
    np.stack(part) for part in zip(*(r[0] for r in rows), strict=True)
  )
  return carry, np.stack([r[1] for r in rows], axis=1)
