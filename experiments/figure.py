"""What a figure is made of: committed pictures, and the command that draws."""

import dataclasses
import pathlib
import runpy
from collections.abc import Mapping

from experiments import table
from hyperjax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure, as its `figure.py` defines it under the name FIGURE.

  A picture that is not committed is 'not drawn'.

  Attributes:
    title: of the figure.
    paper: which of the paper's figures.
    pictures: files, from the folder of the figure on, and what each shows.
    command: that draws them.
    protocol: of the drawn run: 'paper', or what is different.
    notes: what the reader should know, in Markdown.
  """

  title: str
  paper: str
  pictures: Mapping[str, str]
  command: str
  protocol: str = 'paper'
  notes: str = ''


def names(root: pathlib.Path = table.FOLDER) -> list[str]:
  """The figures that there are, in the order of their names."""
  return sorted(path.parent.name for path in root.glob('*/figure.py'))


def load(name: str, root: pathlib.Path = table.FOLDER) -> Figure:
  """The figure of a folder."""
  known = names(root)
  if name not in known:
    raise UserError(f"--table: no figure '{name}'{did_you_mean(name, known)}")
  return runpy.run_path(str(root / name / 'figure.py'))['FIGURE']


def drawn(name: str, root: pathlib.Path = table.FOLDER) -> dict[str, bool]:
  """Which pictures of a figure are there, by file."""
  folder = root / name
  return {file: (folder / file).exists() for file in load(name, root).pictures}
