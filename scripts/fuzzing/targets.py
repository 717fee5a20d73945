"""The parsers of what comes from outside, each with good inputs to damage."""

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import math
import os
import pathlib
import pickle
import random
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from hyperjax.data import (
  cached,
  cifar10,
  enwik8,
  files,
  iam_files,
  image_files,
  mnist,
  parallel_text,
  stroke_files,
  text,
  whiteboard,
)
from hyperjax.errors import UserError

from fuzzing import mutations

Make = Callable[[random.Random], bytes]
Parse = Callable[[bytes], Any]


@dataclasses.dataclass(frozen=True)
class Target:
  """A parser, and what makes inputs for it.

  Attributes:
    make: a damaged input.
    parse: takes it; returns or raises `UserError`.
    names: one of them must be in the message of a refusal.
    cost: of a case, beside that of a cheap one; fewer are run.
  """

  make: Make
  parse: Parse
  names: tuple[str, ...]
  cost: int = 1


def build(name: str, folder: pathlib.Path) -> Target:
  """The target of a name, with an empty folder of its own."""
  return TARGETS[name](folder)


def bytes_in(
  folder: pathlib.Path, file: str, parse: Callable[[pathlib.Path], Any]
) -> Parse:
  """A parser of bytes out of one that reads a file."""
  path = folder / file

  def parse_bytes(content):
    path.write_bytes(content)
    return parse(path)

  return parse_bytes


def mutations_of(*seeds: bytes, tokens: Sequence[bytes] = ()) -> Make:
  """Damages one of some good inputs."""

  def make(rng):
    return mutations.mutate(rng, rng.choice(seeds), seeds, tokens)

  return make


def either(*makes: Make) -> Make:
  """Makes as one of these does."""

  def make(rng):
    return rng.choice(makes)(rng)

  return make


def _packed(make, *packers):
  """Damages what is packed, or the package, or both."""

  def packed(rng):
    content = rng.choice(packers)(make(rng))
    return mutations.mutate(rng, content) if rng.random() < 0.5 else content

  return packed


XML = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
<WhiteboardCaptureSession><WhiteboardDescription>
<SensorLocation corner="top_left"/></WhiteboardDescription>
<StrokeSet><Stroke colour="black" start_time="0.1" end_time="0.2">
<Point x="895" y="992" time="0.1"/><Point x="900" y="1001" time="0.2"/>
</Stroke><Stroke><Point x="10" y="20"/></Stroke></StrokeSet>
</WhiteboardCaptureSession>"""
XML_TOKENS = (
  *(b'<Stroke>', b'</Stroke>', b'<Stroke><Point x="1" y="2"/>', b'<StrokeSet>'),
  *(b'<Point x="', b'1e999', b'"nan"', b'&b;', b'&#0;', b'&#x110000;', b']]>'),
  *(b'<!--', b'<![CDATA[', b'<?a ', b'encoding="UTF-16"', b'encoding="utf-7"'),
  b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
  b'<!DOCTYPE a [<!ENTITY b "cccccccccc">]>',
)
_LAUGHS = ''.join(
  f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 10)
)
XML_BOMBS = tuple(
  XML.replace(b'?>\n', f'?>\n{head}'.encode(), 1).replace(b'895', use, 1)
  for head, use in (
    (f'<!DOCTYPE a [<!ENTITY l0 "1">{_LAUGHS}]>', b'&l9;'),
    ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', b'&x;'),
    ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/">%x;]>', b'8'),
  )
)


def _iam_xml(folder):
  def parse(content):
    found = whiteboard.parse(content)
    if isinstance(found, whiteboard.Damage):
      raise UserError(f'a.xml {found.reason}')
    assert np.isfinite(found.points).all()
    assert len(content) > len(found.points)

  return Target(
    mutations_of(*[XML] * 12, *XML_BOMBS, tokens=XML_TOKENS), parse, ('a.xml',)
  )


def _write_iam(folder, *, strokes=True):
  for name, form in zip(iam_files.LISTS, 'abcd', strict=True):
    (folder / f'{name}.txt').write_text(f'{form}01-001\n')
    texts = folder / iam_files.TEXTS / f'{form}01-001.txt'
    texts.parent.mkdir(exist_ok=True)
    texts.write_text('OCR:\n\nno\n\nCSR:\n\nyes\n')
    if strokes:
      path = folder / iam_files.STROKES / f'{form}01-001-01.xml'
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(XML)


def _iam_texts(folder):
  _write_iam(folder)
  texts = (
    b'OCR:\n\nno\n\nCSR:\n\nyes\n',
    b'CSR: \r\n\r\nd\xe9j\xe0\r\n',
  )
  parse = bytes_in(
    folder / iam_files.TEXTS,
    'a01-001.txt',
    lambda _: iam_files.read_raw(folder),
  )
  return Target(
    mutations_of(*texts, tokens=(b'CSR:', b'\nCSR:\n')),
    parse,
    (str(folder),),
    10,
  )


def _iam_lists(folder):
  _write_iam(folder)
  parse = bytes_in(folder, 'trainset.txt', lambda _: iam_files.read_raw(folder))
  return Target(
    mutations_of(b'a01-001\r\n', b' a01-001 \nb01-001\n', tokens=(b'a01-001',)),
    parse,
    (str(folder),),
    10,
  )


def _iam_archive(folder):
  _write_iam(folder, strokes=False)
  members = [
    (f'lineStrokes/{form}01/{form}01-001-0{k}.xml', XML)
    for form in 'abcd'
    for k in (1, 2)
  ]
  return Target(
    lambda rng: mutations.make_tar(rng, members, _gzip),
    bytes_in(
      folder, 'lineStrokes-all.tar.gz', lambda _: iam_files.read_raw(folder)
    ),
    (str(folder),),
    10,
  )


def _gzip(content):
  return gzip.compress(content, 1, mtime=0)


def _check_size_alone(origin, content, size, *_, **__):
  """As if the damage had left the checksum as it was."""
  files.check_size(origin, len(content), size)


def _idx_file(folder, file, pack):
  mnist.SIZES = {'train': 7, 'test': 5}
  mnist.check_exactly = _check_size_alone
  name, shape = 'train-images-idx3-ubyte', mnist.SHAPE
  header = mnist._header('train', shape)
  good = header + bytes(range(256)) * 22
  good = good[: len(header) + 7 * math.prod(shape)]

  def parse(path):
    array = mnist._read_idx(folder, (name, ''), 'train', shape)
    assert array.shape == (7, *shape)

  makes = [mutations_of(good, header), _head_mutations(good, len(header))]
  return Target(
    _packed(either(*makes), pack),
    bytes_in(folder, file, parse),
    (str(folder),),
  )


def _head_mutations(good, length):
  """Of the same size, with another head."""

  def make(rng):
    head = mutations.mutate(rng, good[:length])[:length]
    return head.ljust(length, b'\0') + good[length:]

  return make


def _idx(folder):
  return _idx_file(folder, 'train-images-idx3-ubyte', bytes)


def _idx_gz(folder):
  return _idx_file(folder, 'train-images-idx3-ubyte.gz', _gzip)


def _small_cifar10():
  cifar10.IN_BATCH = 20
  cifar10.check_exactly = _check_size_alone
  rng = np.random.default_rng(0)
  pixels = rng.integers(256, size=(20, 3_072)).astype(np.uint8)
  labels = np.arange(20) % 10
  return pixels, labels


def _cifar_binary(folder):
  pixels, labels = _small_cifar10()
  record = np.concatenate([labels[:, None], pixels], 1).astype(np.uint8)
  good = record.tobytes()
  batches = folder / 'cifar-10-batches-bin'
  batches.mkdir()
  for name in cifar10.BINARY:
    (batches / name).write_bytes(good)
  return Target(
    either(mutations_of(good), _head_mutations(good, 1)),
    bytes_in(
      batches, 'data_batch_2.bin', lambda _: cifar10.read_records(folder)
    ),
    (str(folder),),
    3,
  )


def _cifar_archive(folder):
  pixels, labels = _small_cifar10()
  record = np.concatenate([labels[:, None], pixels], 1).astype(np.uint8)
  members = [
    (f'cifar-10-batches-bin/{name}', record.tobytes())
    for name in cifar10.BINARY
  ]
  return Target(
    lambda rng: mutations.make_tar(rng, members, _gzip),
    bytes_in(
      folder, 'cifar-10-binary.tar.gz', lambda _: cifar10.read_records(folder)
    ),
    (str(folder),),
    10,
  )


class _Python2Pickler(pickle._Pickler):
  """Has strings of bytes, as those of Python 2 are."""

  dispatch: ClassVar = dict(pickle._Pickler.dispatch)

  def save_string(self, text):
    """Writes an opcode that Python 3 reads, but does not write."""
    content = text if isinstance(text, bytes) else text.encode('latin1')
    self.write(b'T' + len(content).to_bytes(4, 'little') + content)
    self.memoize(text)

  dispatch[bytes] = dispatch[str] = save_string


def _as_python_2(content, protocol):
  file = io.BytesIO()
  _Python2Pickler(file, protocol).dump(content)
  return file.getvalue().replace(b'numpy._core.', b'numpy.core.')


class _Call:
  """Unpickled by Python's own unpickler, it would leave a mark."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def _cifar_pickle(folder):
  pixels, labels = _small_cifar10()
  mark = folder / 'called'
  batch = {'data': pixels, 'labels': labels.tolist()}
  hostile = [
    _Call(os.system, f'touch {mark}'),
    _Call(eval, f'open({str(mark)!r}, "w")'),
    _Call(pathlib.Path.touch, mark),
    {**batch, 'labels': _Call(exec, f'open({str(mark)!r}, "w")')},
    {**batch, 'data': _Call(np.ndarray, (2**40,))},
    {**batch, 'data': _Call(np.ndarray, (3,), np.dtype('O'))},
  ]
  seeds = [
    _as_python_2(content, protocol)
    for content in (batch, batch, batch, *hostile)
    for protocol in (0, 1, 2)
  ]
  tokens = (
    b'cos\nsystem\n',
    b'cbuiltins\neval\n',
    b'R',
    b'.',
    b'(',
    b'b',
    b'\x81',
  )
  path = folder / 'data_batch_1'

  def parse(content):
    cifar10.PICKLED = {'data_batch_1': (len(content), '')}
    try:
      cifar10._of_pickle('data_batch_1', path, content)
    finally:
      assert not mark.exists(), 'a pickle was obeyed'

  return Target(mutations_of(*seeds, tokens=tokens), parse, (str(path),))


def _png(rng, size=(6, 6)):
  pixels = np.random.default_rng(rng.randrange(9)).integers(
    256, size=(*size, 3)
  )
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, 'PNG')
  return file.getvalue()


def _jpeg(rng):
  file = io.BytesIO()
  Image.new('RGB', (6, 6), (rng.randrange(256), 9, 9)).save(file, 'JPEG')
  return file.getvalue()


def _images_folder(folder):
  for name in (
    'train/a/1.png',
    'train/b/1.png',
    'test/a/1.png',
    'test/b/1.png',
  ):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(_png(random.Random(0)))
  return Target(
    either(
      lambda rng: mutations.mutate(rng, _png(rng)),
      lambda rng: mutations.mutate_png(rng, _png(rng)),
      lambda rng: mutations.mutate(rng, _jpeg(rng)),
    ),
    bytes_in(
      folder / 'train' / 'a', '0.png', lambda _: image_files.read(folder, 2)
    ),
    (str(folder),),
    5,
  )


def _images_archive(folder):
  members = [
    (f'{split}/{name}/{k}.png', _png(random.Random(k)))
    for split in ('train', 'test')
    for name in 'ab'
    for k in (1, 2)
  ]
  return Target(
    lambda rng: mutations.make_tar(
      rng,
      members,
      rng.choice((bytes, _gzip, lzma.compress, bz2.compress)),
    ),
    bytes_in(folder, 'a.tar', lambda path: image_files.read(path, 2)),
    (str(folder), 'config.data.'),
    5,
  )


def _text(folder):
  def parse(path):
    source = text.TextSource(
      text.read_texts(path),
      name=str(path),
      batch_size=1,
      sequence_length=4,
      vocab_size=256,
    )
    assert sum(source.meta['sizes'].values()) == path.stat().st_size

  good = 'Ein bisschen Text, déjà vu. '.encode() * 4
  seeds = good, good.decode().encode('utf-16'), good.decode().encode('latin-1')
  return Target(
    mutations_of(*seeds), bytes_in(folder, 'a.txt', parse), (str(folder),)
  )


STROKES = {
  'y_axis': 'down',
  'lines': [
    {
      'name': 'note-1',
      'text': 'Hello',
      'split': 'train',
      'strokes': [[[10, 52], [11, 40.5]], [[30, 41], [31, 44, 0.5]]],
    },
    {'strokes': [[[0, 0]]]},
  ],
}


def _strokes_json(folder):
  def parse(path):
    for lines in stroke_files.read(path).values():
      assert all(np.isfinite(line.points).all() for line in lines)

  return Target(
    json_or_bytes(STROKES), bytes_in(folder, 'a.json', parse), (str(folder),)
  )


def json_or_bytes(document: Any, tokens: Sequence[bytes] = ()) -> Make:
  """Damages the values of a document, or its bytes."""
  good = json.dumps(document).encode()
  tokens = (*(b'[', b'{"a":', b'"', b'null', b'\\ud800', b','), *tokens)
  return either(
    lambda rng: mutations.mutate_json(rng, document),
    lambda rng: mutations.mutate_json(rng, document),
    mutations_of(good, tokens=tokens),
  )


PAIRS = 'a cat\tun chat\tnote\n\na dog\tun chien déjà\n'.encode() * 3


def _pairs_tsv(folder):
  def parse(path):
    corpus = parallel_text.TabSeparated(path)
    count = sum(1 for split in corpus.splits for _ in corpus.pairs(split))
    assert count <= path.read_bytes().count(b'\n') + 1

  seeds = PAIRS, b'\xef\xbb\xbf' + PAIRS, PAIRS.decode().encode('utf-16')
  return Target(
    mutations_of(*seeds), bytes_in(folder, 'a.tsv', parse), (str(folder),)
  )


def _pairs_gz(folder):
  (folder / 'a.fr').write_bytes(PAIRS)
  bomb = _gzip(bytes(300_000_000))
  return Target(
    either(
      *[_packed(mutations_of(PAIRS), _gzip)] * 40,
      lambda rng: bomb if rng.random() < 0.1 else bomb[: rng.randint(1, 9_999)],
    ),
    bytes_in(
      folder,
      'a.en.gz',
      lambda path: list(parallel_text.aligned(path, folder / 'a.fr')),
    ),
    (str(folder),),
  )


def _word_pieces(folder):
  from hyperjax.data import word_pieces

  lines = [f'a cat and a dog number {k} see the sun' for k in range(60)]
  model = word_pieces.train(lines, 36).model

  def parse(content):
    pieces = word_pieces.WordPieces(content, 'a.model')
    ids = pieces.encode(['a dog', '', 'déjà \u2028', 'x' * 500])
    for sentence in ids:
      pieces.decode(sentence)
      pieces.names(sentence)

  return Target(mutations_of(model), parse, ('a.model',), 3)


def _enwik8_zip(folder):
  good = bytes(range(205)) * 40
  enwik8.SIZE = len(good)

  def pack(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('enwik8', content)
    return file.getvalue()

  def pack_oddly(content):
    file = io.BytesIO()
    method = (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED)
    with zipfile.ZipFile(file, 'w', method[content[0] % 3]) as archive:
      names = ('enwik8', '../enwik8', '/enwik8', 'a\nb', 'enwik8/')
      archive.writestr(names[content[-1] % 5], content)
    return file.getvalue()

  def make(rng):
    inner = good if rng.random() < 0.6 else mutations.mutate(rng, good)
    content = rng.choice((pack, pack_oddly))(inner or b'0')
    return mutations.mutate(rng, content) if rng.random() < 0.8 else content

  return Target(
    make,
    bytes_in(folder, 'enwik8.zip', lambda _: enwik8.read_raw(folder)),
    (str(folder),),
  )


def _cache(folder):
  """A damaged entry is made anew."""

  def write(open_file):
    with open_file('numbers') as file:
      file.write(np.arange(4).tobytes())
    return {'count': 4}

  os.environ[cached.ROOT] = str(folder)
  path = next(iter(cached.fetch('fuzz', [], write).files.values())).with_name(
    cached.REPORT
  )
  report = json.loads(path.read_text())

  def parse(content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    entry = cached.fetch('fuzz', [], write)
    assert entry.report == {'count': 4}
    assert entry.array('numbers', np.int64).tolist() == [0, 1, 2, 3]

  return Target(json_or_bytes(report), parse, (str(folder),), 3)


TARGETS: dict[str, Callable[[pathlib.Path], Target]] = {
  'iam_xml': _iam_xml,
  'iam_texts': _iam_texts,
  'iam_lists': _iam_lists,
  'iam_archive': _iam_archive,
  'idx': _idx,
  'idx_gz': _idx_gz,
  'cifar_binary': _cifar_binary,
  'cifar_archive': _cifar_archive,
  'cifar_pickle': _cifar_pickle,
  'images_folder': _images_folder,
  'images_archive': _images_archive,
  'text': _text,
  'strokes_json': _strokes_json,
  'pairs_tsv': _pairs_tsv,
  'pairs_gz': _pairs_gz,
  'word_pieces': _word_pieces,
  'enwik8_zip': _enwik8_zip,
  'cache': _cache,
}
