"""Lines of progress in a log file."""

import pytest

from hyperjax.training import progress


@pytest.mark.parametrize(
  ('total', 'first', 'left'),
  [(2_000, 'file 1,000/2,000  ', True), (0, 'file 1,000  ', False)],
)
def test_a_line_says_how_many_of_how_many(
  total, first, left, monkeypatch, capsys
):
  monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', 0.0)
  bar = progress.Progress(total, unit='file')
  bar.update(1)
  bar.update(1_000)
  bar.close()
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith(first)
  assert 'files/s' in line
  assert line.endswith(' left') == left
