"""The recurrent cells of the paper in float64 NumPy, by gate and batch row.

Written from the paper (arXiv 1609.09106, Eq 4-13 and appendix A.2.2) and not
from the package, so that the two can be compared. Matrices are the paper's,
`W[out, in]`, one for each gate, and products are `W @ v` of one batch row.
Where the paper is silent, as its official code has it: the current output of
the hyper cell makes the embeddings; a layer-normalised cell has no bias, the
hyper cell included, but the main layer-normalised hyper cell keeps b_0; the
forget gate gets +1 after the normalisation, inside the sigmoid; epsilon is
1e-3, added to the variance; the carried c is not normalised. Zoneout is that
of Krueger et al. 2016 (arXiv 1606.01305, Eq 5).

Parameters are dictionaries: `p['W_h']['f']` is the matrix that h is multiplied
with for the forget gate, and `p['hyper']` the parameters of the hyper cell.
The only gate of a basic RNN is `'a'`, its pre-activation. Layer norm is on
where `p` has `'gain'` and `'bias'`, whose entry after the gates is `'c'` in an
LSTM. `p['W_hz']['f']` and `p['W_xz']['f']` are matrices under row scaling
(Eq 8) and arrays [out, in, N_z] where whole matrices are generated (Eq 5),
and then there is no `p['W_h']` and no `p['W_x']`.

What is random is an argument, see `unroll`.
"""

import numpy as np

GATES = ('i', 'g', 'f', 'o')
ONE_GATE = ('a',)


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


def zoneout(old, new, zoned):
  """The old value where ``zoned`` is 1; in between, the mean over masks."""
  return zoned * old + (1.0 - zoned) * new


def finish(p, pre, state, keep=1.0, zone_c=0.0, zone_h=0.0):
  """From pre-activations and the state before to the state after.

  Args:
    p: parameters.
    pre: dictionary of the gates' vectors: four of an LSTM, one of an RNN.
    state: (h, c) of an LSTM, (h,) of an RNN.
    keep: see `gates_to_state`.
    zone_c: where c stays as it was.
    zone_h: where h stays as it was.
  """
  if len(state) == 1:
    (h,), a = state, pre['a']
    if 'gain' in p:
      a = layer_norm(a, p['gain']['a'], p['bias']['a'])
    return (zoneout(h, np.tanh(a), zone_h),)
  h, c = state
  new_h, new_c = gates_to_state(p, pre, c, keep)
  return zoneout(h, new_h, zone_h), zoneout(c, new_c, zone_c)


def plain_step(p, state, x, **random):
  """One step of an RNN (Eq 4) or LSTM (Eq 9), of an (h,) or (h, c)."""
  pre = {}
  for y in p['W_h']:
    pre[y] = p['W_h'][y] @ state[0] + p['W_x'][y] @ x
    if 'b' in p:
      pre[y] = pre[y] + p['b'][y]
  return finish(p, pre, state, **random)


def generated_product(p, v, y, z, vector):
  """W(z) @ vector of gate y, for v 'h' or 'x' (Eq 5, or Eq 7)."""
  generator = p[f'W_{v}z'][y]
  if generator.ndim == 2:
    d = generator @ z
    matrix = np.diag(d) @ p[f'W_{v}'][y]
  else:
    matrix = np.zeros(generator.shape[:2])
    for k in range(len(z)):
      matrix += generator[:, :, k] * z[k]
  return matrix @ vector


def hyper_step(p, state, hyper_state, x, hyper_keep=1.0, **random):
  """One step of a HyperRNN (Eq 5-8) or HyperLSTM (Eq 10-13)."""
  h = state[0]
  x_hat = np.concatenate([h, x])
  hyper_state = plain_step(p['hyper'], hyper_state, x_hat, keep=hyper_keep)
  hyper_h = hyper_state[0]
  pre = {}
  for y in p['b_0']:
    z_h = p['W_hat_h'][y] @ hyper_h + p['b_hat_h'][y]
    z_x = p['W_hat_x'][y] @ hyper_h + p['b_hat_x'][y]
    z_b = p['W_hat_b'][y] @ hyper_h
    pre[y] = generated_product(p, 'h', y, z_h, h)
    pre[y] = pre[y] + generated_product(p, 'x', y, z_x, x)
    pre[y] = pre[y] + p['W_bz'][y] @ z_b + p['b_0'][y]
  return finish(p, pre, state, **random), hyper_state


def unroll(p, carry, xs, **random):
  """Runs a cell over time, each batch row by itself.

  Args:
    p: parameters; of a hyper cell if it has ``hyper``.
    carry: tuple of [batch, size] arrays: h, the c of an LSTM, and then the
      same of the hyper cell.
    xs: [time, batch, input_size].
    **random: [time, batch, size] or a number for everywhere: ``keep`` and
      ``hyper_keep``, multipliers of the two cells' candidates (0 or 1 / keep);
      ``zone_h`` and ``zone_c``, 1 where the main cell's h and c stay.

  Returns:
    The last carry, as given, and h of all steps, [time, batch, hidden_size].
  """
  xs = np.asarray(xs, np.float64)
  num_main = 2 if 'f' in p.get('b_0', p.get('W_h')) else 1
  rows = []
  for row in range(xs.shape[1]):
    state = tuple(np.asarray(part[row], np.float64) for part in carry)
    outputs = []
    for t in range(xs.shape[0]):
      drawn = {
        name: np.asarray(x[t, row] if np.ndim(x) else x, np.float64)
        for name, x in random.items()
      }
      main, hyper = state[:num_main], state[num_main:]
      if 'hyper' in p:
        main, hyper = hyper_step(p, main, hyper, xs[t, row], **drawn)
      else:
        main = plain_step(p, main, xs[t, row], **drawn)
      state = (*main, *hyper)
      outputs.append(state[0])
    rows.append((state, np.stack(outputs)))
  carry = tuple(
    np.stack(part) for part in zip(*(r[0] for r in rows), strict=True)
  )
  return carry, np.stack([r[1] for r in rows], axis=1)
