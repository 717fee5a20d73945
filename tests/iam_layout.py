"""Writes small raw files in the layout of IAM-OnDB."""

import pathlib
import tarfile

LISTS = {
  'trainset': ['b01-002z', 'a01-001'],
  'testset_v': ['c01-003'],
  'testset_t': ['d01-004'],
  'testset_f': ['e01-005'],
}
FORMS = {  # the number of lines of each
  'a01-001': 2,
  'b01-002z': 1,
  'c01-003': 1,
  'd01-004': 1,
  'e01-005': 3,
  'f01-006': 1,  # in no list
}


def xml(strokes):
  """A recording of strokes, each a list of (x, y) with y downwards."""
  lines = [
    '<?xml version="1.0" encoding="ISO-8859-1"?>',
    '<WhiteboardCaptureSession>',
    '<WhiteboardDescription><SensorLocation corner="top_left"/>',
    '</WhiteboardDescription>',
    '<StrokeSet>',
  ]
  for stroke in strokes:
    lines.append('<Stroke colour="black" start_time="0.1" end_time="0.2">')
    lines += [f'<Point x="{x}" y="{y}" time="0.10"/>' for x, y in stroke]
    lines.append('</Stroke>')
  return '\n'.join([*lines, '</StrokeSet></WhiteboardCaptureSession>']).encode()


def strokes_path(root, form, number):
  folder = root / 'lineStrokes' / form[:3] / form[:7]
  return folder / f'{form}-{number:02}.xml'


def texts_path(root, form):
  return root / 'ascii' / form[:3] / form[:7] / f'{form}.txt'


def write(path: pathlib.Path, content: bytes | str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_form(root, form, lines):
  """Strokes and texts of a form; each line has points of its own."""
  for number in range(1, lines + 1):
    x = 100 * number + sum(form.encode())
    strokes = [[(x, 50), (x + 10, 60)], [(x + 20, 55)]]
    write(strokes_path(root, form, number), xml(strokes))
  texts = '\r\n'.join(f'{form} says {k + 1}' for k in range(lines))
  write(
    texts_path(root, form), f'OCR: \r\n\r\nnot this\r\n\r\nCSR: \r\n\r\n{texts}'
  )


def write_lists(root, lists=None):
  for name, forms in (LISTS if lists is None else lists).items():
    write(root / f'{name}.txt', ''.join(f' {form} \n' for form in forms))


def write_corpus(root: pathlib.Path) -> pathlib.Path:
  """Nine lines of six forms."""
  for form, lines in FORMS.items():
    write_form(root, form, lines)
  write_lists(root)
  return root


def pack(archive: pathlib.Path, source: pathlib.Path, names, prefix=''):
  """Puts files or folders of `source` into an archive."""
  archive.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(archive, 'w:gz') as file:
    for name in names:
      file.add(source / name, prefix + name)
