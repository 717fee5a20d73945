"""Makes damaged and hostile inputs out of good ones.

Some do not care what they damage; others know JSON, tar or PNG, so that what
they make gets past the first checksum.
"""

import contextlib
import copy
import io
import json
import random
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

BOUNDARIES = (
  *(0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**16),
  *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
)
TOKENS = (
  *(b'\0', b'\n', b'\r', b'\r\n', b'\t', b' ', b'\x1b[31m', b'\xff', b'\xc3'),
  *(b'\xef\xbb\xbf', b'\xff\xfe', b'\xfe\xff', b'\xed\xa0\x80'),
  *(b'\xe2\x80\xa8', b'\x85', b'\xd9\xa0\xd9\xa0', b'..', b'/', b'~', b'%s'),
  *(b'-1', b'1e400', b'NaN', b'Infinity', b'-0', b'0x', b'1_0', b'9' * 5_000),
)
NUMBERS = ('-1', '1e400', '-1e38', 'NaN', 'inf', '1_0', '0x1', '', '9' * 5_000)
MOST_REPEATED = 2**16  # bytes that a mutation adds
JSON_VALUES = (
  *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -0.0, 0.5),
  *(1e308, float('nan'), float('inf'), '', 'x', '\0', '\n', '\ud800', '../x'),
  *('x' * 3_000, [], {}, [[]], [None], [1e308] * 3, {'': {}}, {'a.b': 1}),
)
NAMES = (  # of members of an archive
  *('..', '../x.png', '/etc/passwd', '', '.', 'a\nb.png', 'a\0b', 'x' * 300),
  *('a/../../b.png', '//x.png', '\x1b[2Jx.png', 'CON', 'é.png'),
)
TYPES = (
  *(tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE),
  *(tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE),
  *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b'?'),
)


def mutate(
  rng: random.Random,
  content: bytes,
  others: Sequence[bytes] = (),
  tokens: Sequence[bytes] = (),
) -> bytes:
  """One to four changes that know nothing of the format.

  Args:
    rng: draws them.
    content: to change.
    others: that it may be spliced with.
    tokens: of the format, which may be put in, beside `TOKENS`.
  """
  tokens = (*TOKENS, *tokens, *tokens)
  for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
    change = rng.choice(_CHANGES)
    content = change(rng, content, others, tokens)
  return content


def _flip(rng, content, others, tokens):
  if not content:
    return b'\0'
  place = rng.randrange(len(content))
  bit = bytes([content[place] ^ (1 << rng.randrange(8))])
  return content[:place] + bit + content[place + 1 :]


def _truncate(rng, content, others, tokens):
  return content[: rng.randint(0, len(content))]


def _delete(rng, content, others, tokens):
  start, end = _span(rng, content)
  return content[:start] + content[end:]


def _duplicate(rng, content, others, tokens):
  start, end = _span(rng, content)
  times = rng.choice((2, 3, 10, 1_000))
  chunk = (content[start:end] * times)[:MOST_REPEATED]
  return content[:start] + chunk + content[end:]


def _put_number(rng, content, others, tokens):
  number = rng.choice(BOUNDARIES)
  size = rng.choice((1, 2, 4, 8))
  order = rng.choice(('big', 'little'))
  chunk = rng.choice(
    [
      (number % 256**size).to_bytes(size, order),
      str(rng.choice((1, -1)) * number).encode(),
    ]
  )
  return _put(rng, content, chunk)


def _change_number(rng, content, others, tokens):
  numbers = list(re.finditer(rb'-?\d[\d.]*', content))
  if not numbers:
    return content
  start, end = rng.choice(numbers).span()
  number = rng.choice((*map(str, BOUNDARIES), *NUMBERS)).encode()
  return content[:start] + number + content[end:]


def _put_token(rng, content, others, tokens):
  return _put(rng, content, rng.choice(tokens))


def _nest(rng, content, others, tokens):
  place = rng.randint(0, len(content))
  chunk = (rng.choice(tokens) * rng.choice((30, 2_000, 30_000)))[:MOST_REPEATED]
  return content[:place] + chunk + content[place:]


def _splice(rng, content, others, tokens):
  other = rng.choice(others) if others else content
  return (
    content[: rng.randint(0, len(content))]
    + other[rng.randint(0, len(other)) :]
  )


_CHANGES = (
  *(_flip, _truncate, _delete, _duplicate, _put_number, _put_token, _nest),
  *(_splice, _flip, _put_token, _change_number, _change_number),
)


def _put(rng, content, chunk):
  """Puts a chunk in, or in the place of as many bytes."""
  place = rng.randint(0, len(content))
  gap = rng.choice((0, len(chunk)))
  return content[:place] + chunk + content[place + gap :]


def _span(rng, content):
  start = rng.randint(0, len(content))
  return start, min(len(content), start + rng.choice((1, 4, 16, 100, 1_000)))


def mutate_json(rng: random.Random, document: Any) -> bytes:
  """JSON with one to three values in other places, of other types or missing.

  Args:
    rng: draws them.
    document: in plain JSON, which stays as it is.
  """
  holder = [json.loads(json.dumps(document))]
  for _ in range(rng.randint(1, 3)):
    places = [(holder, 0)]
    _collect(holder[0], places)
    container, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0 and container is not holder:
      del container[key]
    elif kind == 1:
      other, place = rng.choice(places)
      container[key] = json.loads(json.dumps(other[place]))
    elif kind == 2 and isinstance(container, dict):
      container[rng.choice(('', 'x', '\n', 'name', '__class__', key + 'x'))] = 1
    else:
      container[key] = copy.deepcopy(rng.choice(JSON_VALUES))
  text = json.dumps(holder[0], ensure_ascii=rng.random() < 0.5)
  if rng.random() < 0.1:
    depth = rng.choice((100, 2_000, 50_000))
    opening, closing = rng.choice((('[', ']'), ('{"a":', '}')))
    nested = opening * depth + '1' + closing * depth
    text = text.replace('1', nested, 1) if rng.random() < 0.5 else nested
  return text.encode('utf-8', 'surrogatepass')


def _collect(value, places):
  keys = (
    list(value)
    if isinstance(value, dict)
    else range(len(value))
    if isinstance(value, list)
    else ()
  )
  for key in keys:
    places.append((value, key))
    _collect(value[key], places)


def make_tar(
  rng: random.Random,
  files: Sequence[tuple[str, bytes]],
  compress: Callable[[bytes], bytes],
) -> bytes:
  """A tar archive of good files, with a few members that are not.

  Args:
    rng: draws names, types, links and sizes.
    files: the good ones, by name.
    compress: of the archive.
  """
  names = [name for name, _ in files]
  file = io.BytesIO()
  with tarfile.open(
    fileobj=file,
    mode='w',
    format=rng.choice(
      (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ),
    encoding='utf-8',
    errors='surrogateescape',
  ) as archive:
    for name, content in files:
      if rng.random() < 0.3:
        _add_hostile(rng, archive, names, content)
      if rng.random() < 0.95:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  content = file.getvalue()
  if rng.random() < 0.3:
    content = mutate(rng, content)
  content = compress(content)
  return mutate(rng, content) if rng.random() < 0.3 else content


def _add_hostile(rng, archive, names, content):
  known = rng.choice(names)
  folder = known.rpartition('/')[0]
  member = tarfile.TarInfo(
    rng.choice((known, f'../{known}', f'/{known}', *NAMES, f'{folder}/x.png'))
  )
  member.type = rng.choice(TYPES)
  member.linkname = rng.choice((known, member.name, *NAMES))
  member.size = rng.choice((0, len(content), 10, 2**33 - 1))
  member.pax_headers = rng.choice(
    ({}, {'size': str(2**62)}, {'size': '-5'}, {'path': '../x'}, {'a': '\0'})
  )
  # Written as it is: `addfile` would set the size of a link to 0, say.
  with contextlib.suppress(ValueError):  # too long a name for the format
    header = member.tobuf(archive.format, 'utf-8', 'surrogateescape')
    archive.fileobj.write(header)
    archive.offset += len(header)


def mutate_png(rng: random.Random, content: bytes) -> bytes:
  """A PNG with changed chunks whose checksums fit.

  Args:
    rng: draws the changes.
    content: of a good PNG.
  """
  chunks, place = [], 8
  while place < len(content):
    (size,) = struct.unpack('>I', content[place : place + 4])
    chunks.append(
      [content[place + 4 : place + 8], content[place + 8 : place + 8 + size]]
    )
    place += 12 + size
  for _ in range(rng.randint(1, 3)):
    chunk = rng.choice(chunks)
    if chunk[0] == b'IHDR' and rng.random() < 0.7:
      width, height = (rng.choice((0, 1, 8, 4_000, 2**16, 2**31 - 1)),) * 2
      rest = bytes(rng.choice((0, 1, 2, 3, 4, 6, 8, 16)) for _ in range(2))
      chunk[1] = struct.pack('>II', width, height) + rest + chunk[1][10:]
    elif rng.random() < 0.2:
      bomb = zlib.compress(bytes(20_000_000), 1)
      chunks.insert(1, [b'zTXt', b'a\0\0' + bomb])
    else:
      chunk[1] = mutate(rng, chunk[1])
  return content[:8] + b''.join(
    struct.pack('>I', len(data))
    + name
    + data
    + struct.pack('>I', zlib.crc32(name + data))
    for name, data in chunks
  )
