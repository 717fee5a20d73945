"""Predicting where a pen goes, in nats per line, and writing."""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from hyperjax.data import stroke_files, strokes
from hyperjax.data.files import find
from hyperjax.data.pen_lines import Line
from hyperjax.errors import UserError
from hyperjax.nn.weight_changes import GATES
from hyperjax.ops import mdn
from hyperjax.pictures import strokes as pictures
from hyperjax.tasks.functional import Functional
from hyperjax.training.metrics import Mean, mean_of
from hyperjax.types import Aux, Batch, Carry, Metrics, PyTree, Variables

logger = logging.getLogger(__name__)

START = (0.0, 0.0, 1.0)  # before a line: no move, the pen lifted
FAR_OFF = 3  # how many times too large or small a style's moves may be


class Handwriting:
  """The task: `loss` is the mean of -ln p over the points of a batch.

  Metrics are nats per point and, as the paper reports, per sequence: the sum
  over a whole line.

  Args:
    make_model: (num_symbols, key) -> a module like
      `models.handwriting.PenModel`.
    alphabet: characters that the model may be told to write; empty for none.
  """

  objective = 'nats_per_sequence'

  def __init__(self, make_model: Callable[..., nnx.Module], alphabet: str):
    num_symbols = strokes.num_symbols(alphabet)
    self._model = Functional(
      lambda key: make_model(num_symbols=num_symbols, key=key)
    )

  def init(self, key: Array) -> Variables:
    """Fresh parameters."""
    return self._model.init(key)

  def merge(self, variables: Variables) -> nnx.Module:
    """The model as a Flax module."""
    return self._model.merge(*variables)

  def carry(self, batch_size: int) -> Carry:
    """Nothing is carried on from batch to batch: lines are whole."""
    del batch_size
    return ()

  def loss(
    self,
    params: PyTree,
    state: PyTree,
    carry: Carry,
    batch: Batch,
    key: Array,
  ) -> tuple[Array, Aux]:
    """Nats per point of lines [B, T, 3], with dropout."""
    model = self._model.merge(params, state)
    metrics = _metrics(model, batch, key)
    points = metrics['nats_per_point']
    aux = Aux(self._model.state_of(model), carry, metrics, points.weight)
    return points.total / points.weight, aux

  def metrics(
    self, params: PyTree, state: PyTree, carry: Carry, batch: Batch
  ) -> tuple[Carry, Metrics]:
    """Nats per sequence and per point of lines [B, T, 3]."""
    return carry, _metrics(self._model.merge(params, state), batch)

  def check_sample(
    self, request: Mapping[str, Any], meta: Mapping[str, Any]
  ) -> None:
    """Raises `UserError` where `sample` would; see there."""
    _check_request(request, meta)

  def sample(
    self,
    variables: Variables,
    request: Mapping[str, Any],
    meta: Mapping[str, Any],
  ) -> 'Writing':
    """Lines that the model writes.

    Args:
      variables: of a trained model.
      request: text (what to write, of a model that reads; '' for a text of
        its own), num_lines, length (points of a line, at the most), bias (0
        for none; more is neater), style (a JSON file of `data.stroke_files`,
        whose line style_line is gone on from; '' for none), animated, seed.
      meta: of the data: its moments and alphabet.

    Raises:
      UserError: the model can not write a given text, or needs one; or the
        style's file is not as it should be.
    """
    text, style = _check_request(request, meta)
    moves = None if style is None else strokes.normalize(style, meta)
    if style is not None:
      _warn_of_scale(request['style'], moves)
    symbols = None
    blank = ' ' * (' ' in meta['alphabet'])
    if text:
      # With a blank behind it the last letter is written to its end.
      whole = f'{style.text} {text}{blank}' if style else f'{text}{blank}'
      symbols = jnp.asarray(strokes.encode(whole, meta['alphabet']), jnp.int32)
    written = generate(
      self.merge(variables),
      request['num_lines'],
      request['length'],
      jax.random.key(request['seed']),
      text=symbols,
      style=moves,
      bias=request['bias'],
    )
    # The first move begins at the first point of a line; at the end of a style,
    # where the pen is lifted, there is none.
    first = 0 if moves is None else 1
    lines, changes = [], []
    for k, count in enumerate(np.asarray(written.length).tolist()):
      line = np.asarray(written.moves[k, :count])
      if text and blank and count < request['length']:
        line = line[: _last_lift(line)]
      lines.append(strokes.points_of(line, meta)[first:])
      if written.changes is not None:
        of_line = np.asarray(written.changes[k, : len(line)])
        changes.append(np.concatenate([of_line[:1], of_line])[first:])
    return Writing(
      name=_name(text, request),
      lines=lines,
      captions=[text] * len(lines),
      changes=changes or None,
      animated=request['animated'],
    )


@dataclasses.dataclass(frozen=True)
class Writing:
  """Lines that a model has written; they can be drawn.

  Attributes:
    name: a word for the names of files.
    lines: of points, each [N, 3].
    captions: what each line says.
    changes: how much the weights change at each point, each [N, G]; or None.
    animated: whether to draw an animation besides.
  """

  name: str
  lines: list[np.ndarray]
  captions: list[str]
  changes: list[np.ndarray] | None
  animated: bool

  def draw(self, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes `name`.svg, .png and .json, and perhaps `name`-animated.svg.

    Of a hyper cell also `name`.npz: the names of its `gates` [G], and
    `changes_K` of line K, from 0, [N, G].

    Raises:
      UserError: the lines are too many for a PNG picture.
    """
    drawn = [folder / f'{name}.{ending}' for ending in ('svg', 'png', 'json')]
    options = {'captions': self.captions}
    if self.changes:
      options['changes'] = self.changes
      options['gates'] = GATES.get(self.changes[0].shape[1])
      drawn.append(folder / f'{name}.npz')
      each = {f'changes_{k}': x for k, x in enumerate(self.changes)}
      np.savez(drawn[-1], gates=options['gates'], **each)
    pictures.write_svg(drawn[0], self.lines, **options)
    try:
      pictures.write_png(drawn[1], self.lines, **options)
    except ValueError as error:  # it is too tall
      raise UserError(
        f'config.sample.num_lines: {error}; ask for fewer'
      ) from error
    stroke_files.write(
      drawn[2],
      [
        Line(f'{self.name}-{k}', caption, points.astype(np.float32))
        for k, (points, caption) in enumerate(
          zip(self.lines, self.captions, strict=True)
        )
      ],
    )
    if self.animated:
      drawn.append(folder / f'{name}-animated.svg')
      pictures.write_animated_svg(drawn[-1], self.lines, captions=self.captions)
    return drawn


class Written(NamedTuple):
  """What `generate` gives.

  Attributes:
    moves: float32 [N, L, 3], normalized.
    length: int32 [N], moves until the text was written, at most L.
    changes: [N, L, G], see `PenModel.weight_changes`, or None.
  """

  moves: Array
  length: Array
  changes: Array | None


def generate(
  model: nnx.Module,
  num_lines: int,
  length: int,
  key: Array,
  *,
  text: Array | None = None,
  style: Array | None = None,
  bias: float = 0.0,
) -> Written:
  """Lets a model write lines.

  Args:
    model: like `models.handwriting.PenModel`.
    num_lines: N.
    length: moves to draw for each, L.
    key: PRNG key.
    text: int [U], symbols to write, of a model that reads; with a style, its
      text stands in front.
    style: normalized moves [S, 3] that the model goes on from.
    bias: of `ops.mdn.sample`.
  """
  graph, variables = nnx.split(model)
  begun = jnp.asarray([START], jnp.float32)
  if style is not None:
    begun = jnp.concatenate([begun, jnp.asarray(style, jnp.float32)])

  @jax.jit
  def run(variables, begun, text, bias, key):
    def step(state, key):
      carry, move = state
      model = nnx.merge(graph, variables)
      after, outputs = model(carry, move[:, None])
      move = mdn.sample(key, outputs[:, 0], bias)
      seen = {'moves': move, 'changes': model.weight_changes(carry, after)}
      if text is not None:
        seen['written'] = model.has_written(after)
      return (after, move), seen

    model = nnx.merge(graph, variables)
    begun = jnp.broadcast_to(begun, (num_lines, *begun.shape))
    if text is not None:
      text = jnp.broadcast_to(text, (num_lines, *text.shape))
    carry = model.initial_carry(num_lines, text)
    if begun.shape[1] > 1:
      carry, _ = model(carry, begun[:, :-1])
    _, seen = jax.lax.scan(
      step, (carry, begun[:, -1]), jax.random.split(key, length)
    )
    return seen

  seen = run(variables, begun, text, bias, key)
  count = jnp.full(num_lines, length)
  if text is not None:
    done = seen['written']
    count = jnp.where(done.any(0), done.argmax(0) + 1, length)
  changes = seen['changes']
  return Written(
    seen['moves'].swapaxes(0, 1),
    count,
    None if changes is None else changes.swapaxes(0, 1),
  )


def _metrics(model, batch, key=None) -> Metrics:
  inputs, mask = batch['inputs'], batch['mask']
  _, outputs = model(
    model.initial_carry(len(inputs), batch.get('text')),
    inputs,
    key,
    length=batch['length'],
  )
  points = mean_of(mdn.nats(outputs, batch['targets']), mask)
  lines = jnp.sum(mask.any(axis=1), dtype=jnp.float32)
  return {
    'nats_per_sequence': Mean(points.total, lines),
    'nats_per_point': points,
  }


def _check_request(request, meta):
  """What to write, and the line to go on from or None."""
  # `models.handwriting.build` makes a model that reads just for an alphabet.
  reads = bool(meta['alphabet'])
  text = _check_text(request['text'], reads, meta['alphabet'])
  return text, _read_style(request, reads)


def _check_text(text, reads, alphabet):
  """The text to write; '' for a model that writes what it likes."""
  if not reads:
    if text:
      raise UserError(
        'config.sample.text: this model writes what it likes; train one that '
        'reads: --config=configs/handwriting.py:ROW,text'
      )
    return ''
  if not text.strip():
    raise UserError(
      "config.sample.text is empty; say what to write: --config.sample.text='a "
      "few words'"
    )
  if unknown := sorted(set(text) - set(alphabet)):
    raise UserError(
      f'config.sample.text: the model knows no {"".join(unknown)!r}; its '
      f'characters are {alphabet!r}'
    )
  return text


def _read_style(request, reads):
  """The line to go on from, or None."""
  if not request['style']:
    return None
  line = stroke_files.read_line(
    find('config.sample.style', request['style']), request['style_line']
  )
  if reads and not line.text.strip():
    raise UserError(
      f'{request["style"]}: line {request["style_line"]} has no text, which a '
      f'model that reads must know; write it into the file'
    )
  return line


def _last_lift(moves):
  """How many moves [N, 3] until the pen is lifted last; all if it never is."""
  lifts = np.flatnonzero(moves[:, 2])
  return lifts[-1] + 1 if len(lifts) else len(moves)


def _warn_of_scale(path, moves):
  """A style in other units than the training data's has other moves."""
  size = float(np.sqrt(np.mean(np.square(moves[:, :2]))))
  if not 1 / FAR_OFF < size < FAR_OFF:
    logger.warning(
      '%s: its moves are %.2g times as large as those that the model knows; '
      'bring its coordinates to the units of the training data',
      path,
      size,
    )


def _name(text, request):
  """What a sample is called: by its text, style, bias and seed."""
  words = [_slug(text) or 'writing']
  if request['style']:
    style = _slug(pathlib.Path(request['style']).stem)
    words.append(f'like-{style}-{request["style_line"]}')
  if request['bias']:
    words.append(f'bias-{request["bias"]:g}')
  return '-'.join([*words, f'seed-{request["seed"]}'])


def _slug(text):
  return re.sub(r'[^a-z0-9]+', '-', text.lower())[:40].strip('-')


def build(
  *, make_model: Callable[..., nnx.Module], data: Mapping[str, Any]
) -> Handwriting:
  """The task for the characters of `config.data.alphabet`."""
  return Handwriting(make_model, data.get('alphabet', ''))
