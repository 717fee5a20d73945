"""Raw files of IAM-OnDB, lines of handwriting on a whiteboard, in its layout.

A folder holds the publisher's archives, or what they hold:

    lineStrokes/a01/a01-000/a01-000u-01.xml  a line: see `whiteboard`
    ascii/a01/a01-000/a01-000u.txt           the texts of a form's lines
    trainset.txt, testset_v.txt, ...         the forms of each split

The first two may be `lineStrokes-all.tar.gz` and `ascii-all.tar.gz` instead.
The lists may lie in any sub-folder, or in another .tar.gz or .tgz. In a form's
texts each line below `CSR:` is that of one line of writing.
"""

import hashlib
import json
import logging
import operator
import os
import pathlib
import re
from typing import NamedTuple

from hyperjax.data import archives, pen_font, prepared, whiteboard
from hyperjax.data.files import read_bytes
from hyperjax.data.pen_lines import Line
from hyperjax.errors import UserError, did_you_mean
from hyperjax.training.progress import Progress

logger = logging.getLogger(__name__)

LISTS = ('trainset', 'testset_v', 'testset_t', 'testset_f')
UNLISTED = 'unlisted'
SPLITS = (*LISTS, UNLISTED)
STROKES, TEXTS = 'lineStrokes', 'ascii'
# Which lists make up the splits of a run.
PROTOCOLS: dict[str, dict[str, tuple[str, ...]]] = {
  # Graves, arXiv:1308.0850, reports on validation and has no test split.
  'graves': {
    'train': ('trainset', 'testset_f', 'testset_t'),
    'valid': ('testset_v',),
  },
  # The publisher's: two lists to validate on, one to test on.
  'official': {
    'train': ('trainset',),
    'valid': ('testset_v', 'testset_t'),
    'test': ('testset_f',),
  },
}
# sha256 of the sorted names of each list's forms, a line each.
PUBLISHED = {
  'trainset': (
    '4f8e24257843725254dd7787220060a63d9943883e7ebff61cd9e5db7070bc06'
  ),
  'testset_v': (
    'ca7e3edddc8e89f161aad3be2a18b938189a2444ffd62ac5789bbec3ecdd9102'
  ),
  'testset_t': (
    '5b581de5386a869e3fb2be77f95f6ddd3a9adcc9b7500bca68e1211db24c6583'
  ),
  'testset_f': (
    'bb144b9a5b7e4739a9c2d588dfe93f3c0198a141d8ab6f6a8612c73e64356394'
  ),
}
SIZES = {  # lines of the published data set
  'trainset': 5_364,
  'testset_v': 1_438,
  'testset_t': 1_518,
  'testset_f': 3_859,
  UNLISTED: 16,
}
NAME = 'IAM-OnDB'
URL = 'https://fki.tic.heia-fr.ch/databases/iam-on-line-handwriting-database'
NO_DOWNLOAD = (
  'iam_ondb: is not downloaded; register with its publisher (free for '
  f'non-commercial research) at {URL} and name the folder with its files: '
  '--raw_dir=FOLDER of scripts/prepare_data.py, or --config.data.dir=FOLDER '
  'of a run'
)
FILE_NAME = re.compile(
  r'(.+)-(?!00)([0-9]{2})\.xml'
)  # the form, and the line's number
HEADING = 'CSR:'
_EXPECTED = (
  f'expected: {STROKES}/ or {STROKES}-all.tar.gz, {TEXTS}/ or '
  f'{TEXTS}-all.tar.gz, and {", ".join(f"{name}.txt" for name in LISTS)}'
)
SHOWN = 3  # damaged files that a message names


class Corpus(NamedTuple):
  """The lines of a folder.

  Attributes:
    splits: the lines of each of `SPLITS`, by the form's place in the list and
      the number of the line; the forms of `UNLISTED` are sorted.
    name: says which data set it is.
    report: what was counted and mended: `lines`, `points` and
      `lines_without_text` (how many there are); `empty_strokes`,
      `errors_interpolated`, `strokes_split` and `pen_up_moves_shortened` (see
      `whiteboard.Recording`); `forms_without_text` ('FORM: REASON' for each)
      and `left_out` ('FILE: REASON' for each damaged file).
  """

  splits: dict[str, list[Line]]
  name: str
  report: dict


class _File(NamedTuple):
  """A file of a folder or archive.

  `where` it is, for messages: below the raw files' folder, or in an archive.
  """

  where: str
  content: bytes | pathlib.Path

  @property
  def name(self):
    return pathlib.PurePosixPath(self.where).name

  @property
  def stem(self):
    return pathlib.PurePosixPath(self.where).stem


def raw_files() -> list[str]:
  """The names that the raw files may have."""
  folders = [STROKES, TEXTS]
  return [
    *(f'{folder}/' for folder in folders),
    *(f'{folder}-all.tar.gz' for folder in folders),
    *(f'{name}.txt' for name in LISTS),
  ]


def read_raw(
  folder: str | os.PathLike, *, skip_damaged: bool = False
) -> Corpus:
  """Reads and checks all lines of a folder, on all cores.

  Args:
    folder: has the raw files; one with a file `SYNTHETIC` has lines that nobody
      wrote.
    skip_damaged: leaves out damaged files, which else are an error.

  Raises:
    UserError: a list or folder is missing; a form is in two lists; a file is
      damaged, a listed form has no lines, or a line is missing between others;
      or the published data set does not have its number of lines.
  """
  folder = pathlib.Path(folder).expanduser()
  strokes = _members(folder, STROKES, '.xml')
  texts = {file.stem: file for file in _members(folder, TEXTS, '.txt')}
  lists = _read_lists(folder)
  recordings, damage = _read_recordings(strokes)
  if not recordings:
    raise UserError(f'{folder}: {STROKES} has no .xml files; {_EXPECTED}')
  damage += _missing(lists, recordings)
  _check_damage(folder, damage, skip_damaged)
  listed = {form for forms in lists.values() for form in forms}
  forms = lists | {UNLISTED: sorted(recordings.keys() - listed)}
  splits, report = _assemble(forms, recordings, texts)
  report['left_out'] = damage
  for form in report['forms_without_text']:
    logger.info('%s: lines without a text: %s', folder, form)
  return Corpus(splits, _name(folder, lists, splits, skip_damaged), report)


def read_prepared(data_dir: str = '') -> Corpus:
  """What `read_raw` gives, from the tfds data set; checked.

  Args:
    data_dir: of tfds; see `prepared.root`.

  Raises:
    UserError: the set is damaged, or is not prepared: nothing downloads it.
  """
  examples, metadata, folder = prepared.read_examples('iam_ondb', data_dir)
  try:
    splits = {
      split: [
        Line(line['name'].decode(), line['text'].decode(), line['points'])
        for line in examples.get(split, ())
      ]
      for split in SPLITS
    }
    corpus = Corpus(splits, metadata['name'], metadata['report'])
    altered = sha256(corpus) != metadata['sha256']
  except (AttributeError, KeyError, TypeError, ValueError):  # other fields
    altered = True
  if altered:
    raise UserError(
      f'{folder}: altered: it does not hold the lines that were prepared; '
      f'{prepared.REMEDY}'
    )
  return corpus


def sha256(corpus: Corpus) -> str:
  """A hash of all that a corpus holds."""
  digest = hashlib.sha256(
    json.dumps([corpus.name, corpus.report], sort_keys=True).encode()
  )
  for split in SPLITS:
    for line in corpus.splits[split]:
      head = json.dumps([split, line.name, line.text, len(line.points)])
      digest.update(head.encode())
      digest.update(line.points.astype('<f4').tobytes())
  return digest.hexdigest()


def check_protocol(protocol: str) -> None:
  """Raises `UserError` unless there is such a protocol."""
  if protocol not in PROTOCOLS:
    raise UserError(
      f"config.data.protocol: no '{protocol}'"
      f'{did_you_mean(protocol, PROTOCOLS)}'
    )


def protocol_splits(corpus: Corpus, protocol: str) -> dict[str, list[Line]]:
  """The lines of each split of a run.

  Args:
    corpus: has the lines by list.
    protocol: one of `PROTOCOLS`; 'graves' has no 'test'.

  Raises:
    UserError: there is no such protocol.
  """
  check_protocol(protocol)
  return {
    split: [line for name in names for line in corpus.splits[name]]
    for split, names in PROTOCOLS[protocol].items()
  }


def _members(folder, name, extension):
  """The files below a folder, or the archive in its place."""
  archive = folder / f'{name}-all.tar.gz'
  if (folder / name).is_dir():
    return [
      _File(path.relative_to(folder).as_posix(), path)
      for path in sorted((folder / name).rglob(f'*{extension}'))
      if not path.name.startswith('.')
    ]
  if not archive.is_file():
    raise UserError(
      f'{folder}: has neither {name}/ nor {archive.name}; {_EXPECTED}'
    )
  member = re.compile(rf'(?:.*/)?({name}/(?:.*/)?[^/.][^/]*\{extension})')
  return _unpack(archive, member)


def _unpack(path, pattern):
  """The files of an archive whose whole names fit, called by its 1st group."""
  for member in archives.members(path, 'not a whole .tar.gz archive'):
    found = pattern.fullmatch(member.name)
    if found and not member.is_folder:
      yield _File(found[1], member.read())


def _read_lists(folder):
  """The forms of each list, in its order."""
  names = [f'{name}.txt' for name in LISTS]
  paths = _walk(folder)
  files = [_File(str(path), path) for path in paths if path.name in names]
  if {file.name for file in files} < set(names):
    member = re.compile(rf'((?:.*/)?(?:{"|".join(LISTS)})\.txt)')
    for path in paths:
      # What ends in '-all' is big, and has the data.
      if re.fullmatch(r'.*(?<!-all)\.(tar\.gz|tgz)', path.name):
        files += [
          file._replace(where=f'{path}/{file.where}')
          for file in _unpack(path, member)
        ]
  lists = {
    name: _read_list(folder, [f for f in files if f.stem == name], name)
    for name in LISTS
  }
  first = {}
  for name, forms in lists.items():
    for form in forms:
      if form in first:
        raise UserError(
          f'{folder}: the form {form} is in {first[form]}.txt and again in '
          f'{name}.txt; get the lists again'
        )
      first[form] = name
  return lists


def _walk(folder):
  """All files of a folder, but not those of the data, sorted."""
  paths, seen = [], set()
  for root, folders, files in os.walk(folder, followlinks=True):
    real = os.path.realpath(root)  # links may go round in circles
    folders[:] = [
      name
      for name in sorted(folders)
      if real not in seen and name not in (STROKES, TEXTS)
    ]
    paths += [pathlib.Path(root) / name for name in sorted(files)]
    seen.add(real)
  return paths


def _read_list(folder, files, name):
  """The forms of one list, of which there may be copies."""
  copies = {}
  for file in files:
    forms = [line.strip() for line in _read_text(file).splitlines()]
    copies.setdefault(tuple(filter(None, forms)), file.where)
  if not copies:
    raise UserError(
      f'{folder}: has no {name}.txt, also not in a folder or .tar.gz below; '
      f'{_EXPECTED}'
    )
  if len(copies) > 1:
    raise UserError(
      f'{" and ".join(copies.values())}: two different lists; keep the right '
      f'one'
    )
  ((forms, where),) = copies.items()
  if not forms:
    raise UserError(f'{where}: lists no form; get the file again')
  return list(forms)


def _read_recordings(files):
  """What was recorded of each form and line number, and what is damaged.

  Returns:
    {form: {number: `whiteboard.Recording`, or `Damage`}}, and messages.
  """
  under_way, recordings, damage = [], {}, []

  def contents():
    for file in files:
      under_way.append(file._replace(content=None))
      yield file.content

  progress = Progress(operator.length_hint(files), unit='file')
  for done, recording in enumerate(whiteboard.parse_all(contents())):
    file = under_way[done]
    line = FILE_NAME.fullmatch(file.name)
    numbered = recordings.setdefault(line[1], {}) if line else {}
    if not line:
      recording = whiteboard.Damage('is not called FORM-01.xml or the like')
    elif int(line[2]) in numbered:
      recording = whiteboard.Damage('is a second file of its line')
    else:
      numbered[int(line[2])] = recording
    if isinstance(recording, whiteboard.Damage):
      damage.append(f'{file.where} {recording.reason}')
    progress.update(done + 1)
  progress.close()
  return recordings, damage


def _missing(lists, recordings):
  """Messages on forms without lines, and on lines between others."""
  missing = [
    f'{form} of {name}.txt has no stroke files'
    for name, forms in lists.items()
    for form in forms
    if form not in recordings
  ]
  for form, numbered in sorted(recordings.items()):
    gaps = set(range(1, max(numbered) + 1)) - numbered.keys()
    missing += [
      f'{STROKES}/{form[:3]}/{form[:7]}/{form}-{number:02}.xml is missing'
      for number in sorted(gaps)
    ]
  return missing


def _check_damage(folder, damage, skip_damaged):
  if not damage:
    return
  more = len(damage) - SHOWN
  shown = '; '.join(damage[:SHOWN]) + (f'; and {more:,} more' * (more > 0))
  message = f'{folder}: {len(damage):,} damaged or missing: {shown}'
  if not skip_damaged:
    raise UserError(
      f'{message}; get the files again, or leave these out of a run by '
      f'--config.data.skip_damaged=True'
    )
  logger.warning('%s; left out', message)


def _assemble(forms, recordings, texts):
  """The lines of each split, and the report on them."""
  splits, without_text, used = {}, [], []
  for split, names in forms.items():
    splits[split] = []
    for form in names:
      numbered = recordings.get(form, {})
      transcripts, reason = _transcripts(texts.get(form), numbered)
      if reason:
        without_text.append(f'{form}: {reason}')
      for number, recording in sorted(numbered.items()):
        if isinstance(recording, whiteboard.Recording):
          used.append(recording)
          splits[split].append(
            Line(
              f'{form}-{number:02}', transcripts[number - 1], recording.points
            )
          )
  lines = [line for lines in splits.values() for line in lines]
  return splits, {
    'lines': len(lines),
    'points': sum(len(line.points) for line in lines),
    **{
      count: sum(getattr(recording, count) for recording in used)
      for count in whiteboard.COUNTS
    },
    'lines_without_text': sum(not line.text for line in lines),
    'forms_without_text': without_text,
  }


def _transcripts(file, numbered):
  """The text of each line of a form; or empty ones, and the reason."""
  count = max(numbered, default=0)
  if not count:
    return [], ''
  if file is None:
    return [''] * count, 'no file of texts'
  lines = [line.strip() for line in _read_text(file).splitlines()]
  if HEADING not in lines:
    return [''] * count, f'no {HEADING} in {file.where}'
  texts = [line for line in lines[lines.index(HEADING) + 1 :] if line]
  if len(texts) != count:
    return [''] * count, f'{len(texts)} texts for {count} lines'
  return texts, ''


def _read_text(file):
  content = file.content
  if not isinstance(content, bytes):
    content = read_bytes(content, may_be_empty=True)
  try:
    return content.decode('utf-8-sig')
  except UnicodeDecodeError:
    return content.decode('latin-1')


def _name(folder, lists, splits, skip_damaged):
  """Which data set it is, by its mark or the forms of its lists."""
  if (folder / pen_font.MARK).exists():
    return pen_font.DATA_SET
  forms = {
    name: hashlib.sha256('\n'.join(sorted(forms)).encode()).hexdigest()
    for name, forms in lists.items()
  }
  if forms != PUBLISHED:
    return f'strokes in the layout of {NAME}'
  for split, size in SIZES.items():
    found = len(splits[split])
    if found != size and skip_damaged:
      logger.warning(
        '%s: %s: %s lines where %s has %s',
        *(folder, split, f'{found:,}', NAME, f'{size:,}'),
      )
      return f'{NAME}, incomplete'
    if found != size:
      raise UserError(
        f'{folder}: {split}: {found:,} lines where {NAME} has {size:,}; get '
        f'the files again, or let a run read what there is by '
        f'--config.data.skip_damaged=True'
      )
  return NAME
