"""The notebook runs as it stands, and what is stored was made so."""

import os
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

PATH = REPOSITORY / 'docs' / 'hyperjax.ipynb'


@pytest.fixture
def notebook():
  return nbformat.read(PATH, as_version=4)


def code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def pictures(cell):
  return [part for part in cell.outputs if 'image/png' in part.get('data', {})]


def test_the_stored_outputs_are_of_one_execution(notebook):
  cells = code_cells(notebook)
  counts = [cell.execution_count for cell in cells]
  assert counts == list(range(1, len(cells) + 1))
  assert not [
    part
    for cell in cells
    for part in cell.outputs
    if part.output_type == 'error' or 'Warning' in part.get('text', '')
  ]


# What trains the network a tenth as long.
SHORTER = {
  'range(121)': 'range(31)',
  "'warmup_steps': 20": "'warmup_steps': 5",
  "'num_steps': 300, 'eval_every': 150, 'checkpoint_every': 150": (
    "'num_steps': 30, 'eval_every': 15, 'checkpoint_every': 15"
  ),
}


@pytest.mark.filterwarnings('default')  # of Jupyter's client, which is not ours
@pytest.mark.parametrize(
  ('changes', 'below'),
  [(SHORTER, 7), pytest.param({}, 6, marks=pytest.mark.slow)],
)
def test_the_notebook_runs(notebook, tmp_path, monkeypatch, changes, below):
  for old, new in changes.items():
    (cell,) = (cell for cell in code_cells(notebook) if old in cell.source)
    cell.source = cell.source.replace(old, new)
  stored = [len(pictures(cell)) for cell in code_cells(notebook)]
  monkeypatch.setenv(
    'PYTHONPATH', os.pathsep.join([str(REPOSITORY), *sys.path])
  )
  monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
  client = NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()  # raises where a cell does
  ran = code_cells(notebook)
  assert [len(pictures(cell)) for cell in ran] == stored
  assert sum(stored) >= 3
  bits = [
    float(line.split()[-1])
    for cell in ran
    for part in cell.outputs
    for line in part.get('text', '').splitlines()
    if line.startswith('test/bits_per_char')
  ]
  assert len(bits) == 1 and 0 < bits[0] < below  # a uniform guess is 8
