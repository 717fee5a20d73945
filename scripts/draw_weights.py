"""Draws how a hyper cell changes weights, and how gates saturate.

python scripts/draw_weights.py --workdir=RUN [--text=TEXT | --path=FILE] \
      [--length=N] [--layer=L] [--out=FOLDER]

draws what a text does to the weights of a language model with a hyper cell
(paper, Fig. 4): FOLDER/weight_changes.{png,svg,npz}. Without --text and --path
it is the start of the run's validation text, or its sample where the data is
not at hand. The model begins anew before the text.

python scripts/draw_weights.py --workdir=RUN,RUN2,... [--labels=LSTM,HyperLSTM]

draws histograms of the gates of several runs while they read (Fig. 5):
FOLDER/gates.{png,svg,npz}. Runs on handwriting read lines of their validation
data. --out is RUN/pictures by default.

weight_changes.npz holds, for T symbols, L layers from below and G gates,
  symbols  uint8 [T], the bytes of the text;
  letters  str [T], the same as letters, '' within one of several bytes;
  gates    str [G], their names;
  changes  float32 [L, T, G], the Frobenius norm |W_h(t) - W_h(t-1)|;
and gates.npz, for M runs and 5 gates of 40 bins,
  labels   str [M];  gates  str [5], of which tanh(c) is what o lets through;
  edges    float64 [5, 41];  density  float64 [M, 5, 40], of the histograms;
  low      float64 [M, 5], the share of activations within 0.1 of the lower end
           of their range: below 0.1 of i, f and o, below -0.9 of g and tanh(c);
  high     float64 [M, 5], the share above 0.9.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from jax import Array

from hyperjax import command_line, parts, run
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.evaluation.saturation import lstm_histograms
from hyperjax.models.char_lm import CharLM
from hyperjax.models.handwriting import PenModel
from hyperjax.nn.trace import Trace, trace
from hyperjax.nn.weight_changes import GATES
from hyperjax.pictures.gate_histograms import gate_histograms
from hyperjax.pictures.text_strips import text_strips
from hyperjax.training.progress import say
from hyperjax.types import Carry

_WORKDIR = flags.DEFINE_list('workdir', [], 'Of finished runs.')
_LABELS = flags.DEFINE_list('labels', [], 'What to call each of several.')
_TEXT = flags.DEFINE_string('text', '', 'What is read.')
_PATH = flags.DEFINE_string('path', '', 'A file that is read.')
_LENGTH = flags.DEFINE_integer(
  'length', 0, 'How many symbols, at most; 400 or, of several runs, 2,000.'
)
_LAYER = flags.DEFINE_integer('layer', 1, 'Which is drawn, from the bottom up.')
_OUT = flags.DEFINE_string('out', '', 'Where the pictures go.')
FORMATS = 'png', 'svg'
LINES = 16  # of handwriting, that are read side by side


class Reading(NamedTuple):
  """What a model reads: symbols or moves [B, T, ...] of which `mask` counts."""

  batch: Array
  mask: np.ndarray
  carry: Carry


def main(argv: Sequence[str]) -> None:
  """Reads the best step of each run and draws."""
  del argv  # flags alone
  if not _WORKDIR.value:
    raise UserError(
      '--workdir is missing: give the folder of a run, or several'
    )
  if _TEXT.value and _PATH.value:
    raise UserError('--text and --path: give one of them')
  out = pathlib.Path(_OUT.value or pathlib.Path(_WORKDIR.value[0]) / 'pictures')
  draw = draw_changes if len(_WORKDIR.value) == 1 else draw_gates
  print(draw(out))


def draw_changes(out: pathlib.Path) -> str:
  """The picture of one run; returns the names of its files."""
  (workdir,) = _WORKDIR.value
  model, meta = run.load(workdir)
  if not isinstance(model, CharLM):
    raise UserError(
      f'{workdir}: its model reads no text; --mode=sample of a pen draws how '
      f'weights change'
    )
  text = text_of(workdir, meta, _LENGTH.value or 400)
  _, layers = trace(model, read_text(model, text, meta).batch)
  of_layer = layer_of(workdir, layers)
  if of_layer.changes is None:
    raise UserError(
      f'{workdir}: its cells have no hyper cell that changes their weights; '
      f'name a hyper run, or several runs to compare their gates'
    )
  changes = np.stack([np.asarray(layer.changes[:, 0]) for layer in layers])
  gates = GATES[changes.shape[-1]]
  out.mkdir(parents=True, exist_ok=True)
  np.savez(
    out / 'weight_changes.npz',
    symbols=np.frombuffer(text, np.uint8),
    letters=letters_of(text),
    gates=gates,
    changes=changes,
  )
  paths = [out / f'weight_changes.{ending}' for ending in FORMATS]
  try:
    text_strips(paths, letters_of(text), changes[_LAYER.value - 1], gates)
  except ValueError as error:
    raise UserError(f'--length: {error}; ask for fewer') from error
  return f'{out}/weight_changes.{{{",".join([*FORMATS, "npz"])}}}'


def draw_gates(out: pathlib.Path) -> str:
  """The picture of several runs; returns the names of its files."""
  labels = _LABELS.value or [pathlib.Path(w).name for w in _WORKDIR.value]
  count = len(_WORKDIR.value)
  if len(labels) != count or len(set(labels)) != count:
    raise UserError(
      f'--labels: {", ".join(labels)}; give {count} different ones'
    )
  found = {}
  for label, workdir in zip(labels, _WORKDIR.value, strict=True):
    model, meta = run.load(workdir)
    reading = read(workdir, model, meta)
    layer = layer_of(workdir, trace(model, reading.batch, reading.carry)[1])
    if layer.memory is None:
      raise UserError(f'{workdir}: its cells are no LSTMs, and have no gates')
    counts = reading.mask.T  # time-major, as traces are
    gates, memory = np.asarray(layer.gates), np.asarray(layer.memory)
    found[label] = lstm_histograms(gates[counts], memory[counts])
  out.mkdir(parents=True, exist_ok=True)
  names = list(found[labels[0]])
  each = [[of_run[name] for name in names] for of_run in found.values()]
  np.savez(
    out / 'gates.npz',
    labels=labels,
    gates=names,
    edges=[histogram.edges for histogram in each[0]],
    **{
      field: [[getattr(gate, field) for gate in gates] for gates in each]
      for field in ('density', 'low', 'high')
    },
  )
  gate_histograms([out / f'gates.{ending}' for ending in FORMATS], found)
  return f'{out}/gates.{{{",".join([*FORMATS, "npz"])}}}'


def layer_of(workdir: str, layers: Sequence[Trace]) -> Trace:
  """The layer that is drawn."""
  if not 1 <= _LAYER.value <= len(layers):
    raise UserError(
      f'--layer: {workdir} has no layer {_LAYER.value}; give 1 to {len(layers)}'
    )
  return layers[_LAYER.value - 1]


def read(workdir: str, model: nnx.Module, meta: dict[str, Any]) -> Reading:
  """What a model reads whose gates are drawn."""
  if isinstance(model, CharLM):
    text = text_of(workdir, meta, _LENGTH.value or 2_000)
    return read_text(model, text, meta)
  if not isinstance(model, PenModel):
    raise UserError(f'{workdir}: its model is not one of text or handwriting')
  if _TEXT.value or _PATH.value:
    raise UserError(f'{workdir}: it reads no text; leave out --text and --path')
  source = parts.build_source(files.read_config(pathlib.Path(workdir)))
  batch = next(iter(source.eval('valid', LINES)))
  carry = model.initial_carry(len(batch['inputs']), batch.get('text'))
  return Reading(jnp.asarray(batch['inputs']), batch['mask'], carry)


def read_text(model: CharLM, text: bytes, meta: dict[str, Any]) -> Reading:
  """A text as symbols [1, T]; all of them are in the alphabet."""
  alphabet = bytes(meta['alphabet'])
  batch = jnp.array([[alphabet.index(byte) for byte in text]], jnp.int32)
  return Reading(batch, np.ones(batch.shape, bool), model.initial_carry(1))


def text_of(workdir: str, meta: dict[str, Any], length: int) -> bytes:
  """The first `length` bytes of what the flags ask for.

  Raises:
    UserError: it is empty, or the model does not know all of its symbols.
  """
  name, text = chosen_text(workdir)
  text, alphabet = text[:length], bytes(meta['alphabet'])
  if not text:
    raise UserError(f'{name} is empty; give at least a character')
  if unknown := text.translate(None, delete=alphabet):
    known = alphabet.decode(errors='replace')
    symbols = ''.join(sorted(set(unknown.decode(errors='replace'))))
    raise UserError(
      f'{name}: {workdir} knows no {symbols!r}; its symbols are {known!r}'
    )
  return text


def chosen_text(workdir: str) -> tuple[str, bytes]:
  """Where the text comes from, and the text."""
  if _TEXT.value:
    return '--text', _TEXT.value.encode('utf-8', errors='surrogateescape')
  if _PATH.value:
    try:
      return '--path', pathlib.Path(_PATH.value).read_bytes()
    except OSError as error:
      raise UserError(f'--path: {_PATH.value}: {error.strerror}') from error
  folder = pathlib.Path(workdir)
  try:
    source = parts.build_source(files.read_config(folder))
    alphabet = np.array(source.meta['alphabet'], np.uint8)
    return 'the validation text', alphabet[source.symbols['valid']].tobytes()
  except UserError as error:
    say(f'{error}; so {folder / "sample.txt"} is read')
  try:
    return 'sample.txt', (folder / 'sample.txt').read_bytes()
  except OSError as error:
    raise UserError(
      f'{workdir} has no text at hand; give --text or --path'
    ) from error


def letters_of(text: bytes) -> list[str]:
  """The letter at each byte; '' at those that only complete one of several."""
  letters: list[str] = []
  # A broken byte comes back as a surrogate, one a byte.
  for letter in text.decode('utf-8', errors='surrogateescape'):
    broken = '\udc80' <= letter <= '\udcff'
    letters += ['\ufffd'] if broken else [letter]
    letters += [''] * (0 if broken else len(letter.encode()) - 1)
  return letters


if __name__ == '__main__':
  command_line.launch(main)
