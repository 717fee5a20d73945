"""Draws the kernels and the embeddings of trained networks.

python scripts/draw_kernels.py --workdir=RUN [--beside=RUN2] [--out=FOLDER]

RUN is the workdir of an image classifier; --beside sets the kernels of another
one, a plain network say, below them. Writes kernels.{png,svg}: the last kernel
of each size (grey is zero), and, of a network with generated kernels,
embeddings.{png,svg}: their blocks' embeddings in two dimensions, coloured by
the kernels' size. --out is RUN/pictures by default.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags
from flax import nnx

from hyperjax import command_line, run
from hyperjax.errors import UserError
from hyperjax.nn.conv_kernels import GeneratedKernels
from hyperjax.pictures import kernels as pictures
from hyperjax.training.progress import say

_WORKDIR = flags.DEFINE_string('workdir', '', 'Of a finished run.')
_BESIDE = flags.DEFINE_string('beside', '', 'Of another run to compare with.')
_OUT = flags.DEFINE_string('out', '', 'Where the pictures go.')
FORMATS = 'png', 'svg'


def main(argv: Sequence[str]) -> None:
  """Reads the best step of each run and draws."""
  del argv  # flags alone
  if not _WORKDIR.value:
    raise UserError('--workdir is missing: give the folder of a run')
  out = pathlib.Path(_OUT.value or pathlib.Path(_WORKDIR.value) / 'pictures')
  networks, models = {}, []
  for workdir in filter(None, (_WORKDIR.value, _BESIDE.value)):
    model, _ = run.load(workdir)
    if not hasattr(model, 'kernels'):
      raise UserError(f'{workdir}: its model has no convolution kernels')
    models.append(model)
    kernels = last_of_each_size([np.asarray(k) for k in model.kernels()])
    generated = 'generated' if generators(model) else 'ordinary'
    networks[f'{generated}: {workdir}'] = kernels
  out.mkdir(parents=True, exist_ok=True)
  for ending in FORMATS:
    pictures.kernel_grids(out / f'kernels.{ending}', networks)
  drawn = ['kernels']
  for bank in generators(models[0]):
    embeddings, groups = np.asarray(bank.embeddings[...]), []
    block, *_ = bank.generator.shape
    for rows, columns in bank.grids:
      groups += [f'{rows * block} x {columns * block}'] * (rows * columns)
    if len(embeddings) < 3:
      say(f'{len(embeddings)} embeddings make no picture in two dimensions')
      continue
    for ending in FORMATS:
      pictures.embedding_map(out / f'embeddings.{ending}', embeddings, groups)
    drawn.append('embeddings')
  for name in drawn:
    print(f'{out / name}.{{{",".join(FORMATS)}}}')


def generators(model: nnx.Module) -> list[GeneratedKernels]:
  """What generates kernels in a model."""
  modules = (module for _, module in nnx.iter_modules(model))
  return [m for m in modules if isinstance(m, GeneratedKernels)]


def last_of_each_size(kernels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  """The last kernel of each size, by its layer."""
  by_shape = {
    kernel.shape: (layer, kernel)
    for layer, kernel in enumerate(kernels, start=1)
    if kernel.ndim == 4
  }
  if not by_shape:
    raise UserError('the model has no convolution kernels')
  return {f'layer {layer}': kernel for layer, kernel in by_shape.values()}


if __name__ == '__main__':
  command_line.launch(main)
