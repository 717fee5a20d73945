"""Convolution kernels and embeddings as pictures (paper, Fig. 4 and 6)."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def kernel_grids(
  path: pathlib.Path, networks: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
  """Draws kernels as grids, a network a row.

  A grid has a row for each output channel and a column for each input channel
  of the kernel, as many as 32; each small square is one f x f filter. Grey
  means zero; every grid has a scale of its own, from minus to plus its largest
  element.

  Args:
    path: of the file; its ending chooses the format, say .png or .svg.
    networks: by label, the kernels [f, f, N_in, N_out] by title.

  Raises:
    ValueError: there is nothing to draw.
  """
  columns = max((len(kernels) for kernels in networks.values()), default=0)
  if not columns:
    raise ValueError('no kernels to draw')
  figure = Figure(
    figsize=(3.4 * columns, 4.4 * len(networks)), layout='constrained'
  )
  parts = figure.subfigures(len(networks), squeeze=False)[:, 0]
  for part, (label, kernels) in zip(parts, networks.items(), strict=True):
    part.suptitle(label)
    row = part.subplots(1, columns, squeeze=False)[0]
    for ax in row:
      ax.set_axis_off()
    for ax, (title, kernel) in zip(row, kernels.items(), strict=False):
      picture = grid(kernel[:, :, :32, :32])
      bound = np.nanmax(np.abs(picture)) or 1.0
      ax.imshow(
        picture, cmap='gray', vmin=-bound, vmax=bound, interpolation='nearest'
      )
      shape = ' x '.join(map(str, kernel.shape))
      ax.set_title(f'{title}\n{shape}', fontsize=9)
  figure.savefig(path, dpi=150)


def grid(kernel: np.ndarray) -> np.ndarray:
  """A kernel as one picture: [f, f, N_in, N_out] -> [N_out (f+1), N_in (f+1)].

  A line of NaN, which is not drawn, stands between filters.
  """
  f, _, n, m = kernel.shape
  cells = np.full((m, f + 1, n, f + 1), np.nan, np.float32)
  cells[:, :f, :, :f] = np.transpose(kernel, (3, 0, 2, 1))
  return cells.reshape(m * (f + 1), n * (f + 1))[:-1, :-1]


def embedding_map(
  path: pathlib.Path, embeddings: np.ndarray, groups: Sequence[str]
) -> None:
  """Draws embeddings as points in the plane of their two largest components.

  Args:
    path: of the file; its ending chooses the format.
    embeddings: [N, N_z].
    groups: of each, which gives its colour and a line of the legend.

  Raises:
    ValueError: there are fewer than three embeddings.
  """
  points, shares = principal_plane(embeddings)
  figure = Figure(figsize=(6.5, 5.2), layout='constrained')
  ax = figure.subplots()
  for group in dict.fromkeys(groups):
    chosen = points[[name == group for name in groups]]
    ax.plot(*chosen.T, 'o', markersize=4, alpha=0.7, label=group)
  for set_label, share, name in zip(
    (ax.set_xlabel, ax.set_ylabel), shares, ('first', 'second'), strict=True
  ):
    set_label(f'{name} principal component, {share:.0%} of the variance')
  ax.grid(alpha=0.3)
  ax.legend(fontsize=8)
  figure.savefig(path, dpi=150)


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The two principal components of points [N, D] and their variances' shares.

  Returns:
    [N, 2] and [2].
  """
  if len(points) < 3:
    raise ValueError(f'{len(points)} embeddings make no plane; 3 are needed')
  centred = np.asarray(points, np.float64) - np.mean(points, axis=0)
  u, s, _ = np.linalg.svd(centred, full_matrices=False)
  total = np.square(s).sum() or 1.0
  return u[:, :2] * s[:2], np.square(s[:2]) / total
