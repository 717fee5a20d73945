"""Recurrent language models in PyTorch, for `scripts/bench.py` alone.

The HyperLSTM is written as public PyTorch code writes it: a Python loop over
time, a layer for each gate, an einsum for each product. The LSTM is
`torch.nn.LSTM`, the fused one. Both are made and trained as their users do.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNormLSTMCell(nn.Module):
  """An LSTM step with a layer norm a gate: the hyper cell."""

  def __init__(self, input_size: int, hidden_size: int):
    super().__init__()
    self.from_hidden = nn.Linear(hidden_size, 4 * hidden_size)
    self.from_input = nn.Linear(input_size, 4 * hidden_size, bias=False)
    self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(4))
    self.norm_cell = nn.LayerNorm(hidden_size)

  def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    y = (self.from_hidden(h) + self.from_input(x)).chunk(4, dim=-1)
    gates = [norm(gate) for norm, gate in zip(self.norms, y, strict=True)]
    return update(gates, c, self.norm_cell)


def update(gates, c, norm_cell):
  """(h, c) from normalized pre-activations i, f, g, o."""
  i, f, g, o = gates
  c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
  return torch.sigmoid(o) * torch.tanh(norm_cell(c)), c


class HyperLSTMCell(nn.Module):
  """A layer-norm HyperLSTM step, gate by gate."""

  def __init__(self, input_size, hidden_size, hyper_size, z_size):
    super().__init__()
    self.hyper = LayerNormLSTMCell(hidden_size + input_size, hyper_size)
    self.z_h = nn.Linear(hyper_size, 4 * z_size)
    self.z_x = nn.Linear(hyper_size, 4 * z_size)
    self.z_b = nn.Linear(hyper_size, 4 * z_size, bias=False)

    def scales(bias=False):
      return nn.ModuleList(
        nn.Linear(z_size, hidden_size, bias=bias) for _ in range(4)
      )

    self.d_h, self.d_x, self.d_b = scales(), scales(), scales(bias=True)

    def matrices(columns):
      return nn.ParameterList(
        nn.init.orthogonal_(torch.empty(hidden_size, columns)) for _ in range(4)
      )

    self.w_h, self.w_x = matrices(hidden_size), matrices(input_size)
    self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(4))
    self.norm_cell = nn.LayerNorm(hidden_size)

  def forward(self, x, h, c, h_hyper, c_hyper):
    h_hyper, c_hyper = self.hyper(torch.cat([h, x], dim=-1), h_hyper, c_hyper)
    z_h = self.z_h(h_hyper).chunk(4, dim=-1)
    z_x = self.z_x(h_hyper).chunk(4, dim=-1)
    z_b = self.z_b(h_hyper).chunk(4, dim=-1)
    gates = []
    for k in range(4):
      y = (
        self.d_h[k](z_h[k]) * torch.einsum('ij,bj->bi', self.w_h[k], h)
        + self.d_x[k](z_x[k]) * torch.einsum('ij,bj->bi', self.w_x[k], x)
        + self.d_b[k](z_b[k])
      )
      gates.append(self.norms[k](y))
    return *update(gates, c, self.norm_cell), h_hyper, c_hyper


class HyperLSTM(nn.Module):
  """The cell in a loop: [T, B, N] -> [T, B, H]."""

  def __init__(self, input_size, hidden_size, hyper_size, z_size):
    super().__init__()
    self.cell = HyperLSTMCell(input_size, hidden_size, hyper_size, z_size)
    self.sizes = (hidden_size, hidden_size, hyper_size, hyper_size)

  def forward(self, xs: Tensor) -> Tensor:
    state = [xs.new_zeros(xs.shape[1], size) for size in self.sizes]
    hs = []
    for x in xs:
      state = self.cell(x, *state)
      hs.append(state[0])
    return torch.stack(hs)


class LSTM(nn.LSTM):
  """`torch.nn.LSTM`: [T, B, N] -> [T, B, H]."""

  def forward(self, xs: Tensor) -> Tensor:
    return super().forward(xs)[0]


def workload(
  recurrent: nn.Module,
  hidden_size: int,
  vocab_size: int,
  batch_size: int,
  num_steps: int,
) -> dict[str, Callable[[], None]]:
  """What to time of a language model, by name: functions without arguments."""
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = nn.ModuleDict(
    {'recurrent': recurrent, 'head': nn.Linear(hidden_size, vocab_size)}
  ).to(device)
  optimizer = torch.optim.Adam(model.parameters(), 1e-3)
  generator = torch.Generator().manual_seed(0)
  symbols, targets = torch.randint(
    vocab_size, (2, num_steps, batch_size), generator=generator
  ).to(device)

  def loss():
    xs = F.one_hot(symbols, vocab_size).float()
    logits = model['head'](model['recurrent'](xs))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

  def forward():
    with torch.no_grad():
      loss().item()

  def gradient():
    optimizer.zero_grad()
    loss().backward()
    _wait()

  def train_step():
    gradient()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    _wait()

  return {'forward': forward, 'gradient': gradient, 'train step': train_step}


def _wait():
  if torch.cuda.is_available():
    torch.cuda.synchronize()
