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
    protocol: of the drawn run: 'paper', or what is different; empty while
      nothing is drawn.
    notes: what the reader should know, in Markdown.
  """

  title: str
  paper: str
  pictures: Mapping[str, str]
  command: str
  protocol: str = ''
  notes: str = ''


def names(root: pathlib.Path = table.FOLDER) -> list[str]:
  """The figures that there are, in the order of their names."""
  return sorted(path.parent.name for path in root.glob('*/figure.py'))


def load(name: str, root: pathlib.Path = table.FOLDER) -> Figure:
  """The figure of a folder.

  Raises:
    UserError: there is none, or it is drawn and does not say of what run.
  """
  known = names(root)
  if name not in known:
    raise UserError(f"--table: no figure '{name}'{did_you_mean(name, known)}")
  folder = root / name
  figure = runpy.run_path(str(folder / 'figure.py'))['FIGURE']
  if any(drawn(figure, folder).values()) and not figure.protocol:
    raise UserError(
      f'{folder / "figure.py"}: protocol is empty and a picture is there; give '
      f"'paper', or what was different in the run that it is of"
    )
  return figure


def drawn(figure: Figure, folder: pathlib.Path) -> dict[str, bool]:
  """Which pictures of a figure are there, by file."""
  return {file: (folder / file).exists() for file in figure.pictures}
