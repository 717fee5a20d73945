"""Synthetic handwriting for machines without the IAM-OnDB data set.

Made-up sentences, drawn with the single-stroke letters of the Hershey fonts.
Each line has a hand of its own, so that a model has something to tell apart.
Lengths are in the units of IAM-OnDB: between two points a pen moves by about
18 of them, and a letter is about 150 wide.
"""

import functools
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from HersheyFonts import HersheyFonts

from hyperjax.data import pen_lines
from hyperjax.data.pen_lines import Line
from hyperjax.errors import UserError

DATA_SET = 'synthetic pen strokes'  # what any result calls these lines
MARK = 'SYNTHETIC'  # the file that tells these lines from written ones
LISTS = ('trainset', 'testset_v', 'testset_t', 'testset_f')
MOST_LINES = 100_000  # of a list; the names of the forms last for so many
NOTE = (
  'Synthetic handwriting: made-up sentences drawn with the Hershey fonts by '
  'hyperjax, in the layout of IAM-OnDB; no person wrote any of it.\n'
)

# Sentences: a word in capitals stands for any of its kind.
WORDS = {
  'NAME': (
    'Anna Boris Clara David Emma Felix Greta Henry Ida Jack Kate Leo Maria '
    'Nora Oscar Paul Quentin Rosa Simon Thea Ursula Victor Wanda Xavier '
    'Yvonne Zoe'
  ),
  'PLACE': (
    'Athens Boston Cairo Dublin Essex Florence Geneva Harlem Iceland Jersey '
    'Kent London Munich Norway Oxford Paris Quebec Rome Sweden Turin Utrecht '
    'Vienna Wales York Zurich'
  ),
  'DAY': 'Monday Tuesday Wednesday Thursday Friday Saturday Sunday',
  'ADJ': (
    'big cold dark early empty famous green heavy joyful kind little lucky '
    'modern narrow old plain quiet rapid small tired useful vivid warm young '
    'exact fuzzy'
  ),
  'NOUN': (
    'apple bridge camera doctor engine farmer garden harbour island journal '
    'kitchen letter market night orchard painter queen river school teacher '
    'uncle village window box yard zebra'
  ),
  'MANY': (
    'books clouds dogs eggs flowers guests horses jackets keys lamps maps '
    'nurses papers quilts roads ships trees visitors waves boxes'
  ),
  'VERB': (
    'admired bought carried drew enjoyed found greeted heard joined kept liked '
    'moved needed opened praised saw took used visited watched fixed'
  ),
  'DO': (
    'ask believe choose describe explain forget help join know leave mend '
    'notice paint read see take use visit watch fix'
  ),
  'ADV': (
    'again always calmly gladly hardly often quickly rarely slowly soon '
    'suddenly twice'
  ),
  'WHERE': 'above behind beside beyond near opposite under',
}
WORDS = {kind: words.split() for kind, words in WORDS.items()}
SENTENCES = (
  'the ADJ NOUN VERB the NOUN WHERE the NOUN.',
  'NAME VERB the ADJ MANY in PLACE.',
  'on DAY NAME ADV VERB NUM MANY.',
  'did NAME DO the ADJ NOUN, or was it NAME?',
  '"we ADV DO the NOUN," said NAME.',
  'in YEAR the NOUN of PLACE was ADJ and ADJ.',
  'MANY, MANY and MANY lay WHERE the ADJ NOUN.',
  "NAME's NOUN was ADV ADJ; NAME VERB it.",
  'do not DO the MANY: they are too ADJ!',
  'NUM ADJ MANY stood WHERE the NOUN (and NUM in PLACE).',
  "why can't NAME DO the MANY on DAY?",
  'Mr. NAME VERB that NOUN from PLACE, but NAME - who was ADJ - VERB the MANY.',
  'when the NOUN was ADJ, NAME and NAME VERB some MANY.',
  'I DO the NOUN ADV, and you DO the MANY.',
)

# Letters: the drawing of a font has units of its own.
CAPS_BASE = 9  # where the letters of all Hershey fonts stand, downward
GRAIN = 0.5  # between the points of a path that is not yet sampled
PACE = 21.5  # how far a pen gets between two points if nothing slows it
SLOWEST = 0.15  # what is left of its speed at an end or a sharp bend


class _Face(NamedTuple):
  """A font of single strokes.

  Attributes:
    font: its name in the package.
    x_height: of an 'x', in its units.
    scale: units of IAM-OnDB for one of it.
    slant: how far its letters lean already.
  """

  font: str
  x_height: float
  scale: float
  slant: float


# The other two that could do, 'futural' and 'cursive', have the same letters
# with full stops and commas that hang too high.
PRINT = _Face('rowmans', 14, 8.2, 0.0)
SCRIPT = _Face('scripts', 9, 11.0, 0.25)
MARK_SIZE = 0.8  # of printed digits and marks among script


class _Glyph(NamedTuple):
  """A letter: its width, and its strokes, [n, 2] with y up from the line."""

  width: float
  strokes: list[np.ndarray]


class _Hand(NamedTuple):
  """How one writer writes; lengths are in units of the face.

  Attributes:
    face: the letters.
    scale: of all, in units of IAM-OnDB.
    width: of the letters, in proportion.
    slant: x for each y.
    tall: of what is above small letters, or below the line, in proportion.
    spacing: between letters, beyond what the face has.
    word_gap: the width of a space.
    reach: strokes of a word that are so near are written as one.
    jitter: how much letters differ, in proportion.
    drift: y for each x.
    pace: how far the pen gets between two points, in units of IAM-OnDB.
    waves: of the distortion, [4, 6]: their numbers of turns for each x and
      y, phases and amplitudes of x and y.
    tremor: standard deviation of each point, in units of IAM-OnDB.
  """

  face: _Face
  scale: float
  width: float
  slant: float
  tall: float
  spacing: float
  word_gap: float
  reach: float
  jitter: float
  drift: float
  pace: float
  waves: np.ndarray
  tremor: float


def lines(
  *,
  num_train: int = 960,
  num_valid: int = 96,
  num_test: int = 96,
  seed: int = 0,
) -> dict[str, list[Line]]:
  """Lines of synthetic handwriting, with whole numbers for coordinates.

  No text comes twice, in one list or in two.

  Args:
    num_train: lines of 'trainset'.
    num_valid: lines of 'testset_v', and as many again of 'testset_t'.
    num_test: lines of 'testset_f'.
    seed: of all texts and hands; the same seed gives the same lines. (Where
      the sine of another machine differs in its last bit, a coordinate may
      differ by a unit.)

  Returns:
    The lines by the name of their list, each named as its file would be, such
    as 's00-001a-03', with points [N, 3] in units of IAM-OnDB.

  Raises:
    UserError: a number or the seed is out of its range.
  """
  sizes = _sizes(num_train, num_valid, num_test, seed)
  seen = _Seen(set(), set())
  return {
    of: [
      _draw(name, text, np.random.RandomState([seed, k, place]))
      for place, (name, text) in enumerate(
        _texts(k, size, seen, np.random.RandomState([seed, k]))
      )
    ]
    for k, (of, size) in enumerate(sizes.items())
  }


def write_raw(
  folder: str | os.PathLike,
  *,
  num_train: int = 960,
  num_valid: int = 96,
  num_test: int = 96,
  seed: int = 0,
) -> None:
  """Writes the same lines as files in the layout of IAM-OnDB.

  Beside `lineStrokes/`, `ascii/` and the four lists there is a file
  `SYNTHETIC`, which says that nobody wrote this.

  Args:
    folder: to be made, or empty.
    num_train: see `lines`.
    num_valid: see `lines`.
    num_test: see `lines`.
    seed: see `lines`.

  Raises:
    UserError: see `lines`; or the folder has files, or cannot be written.
  """
  folder = pathlib.Path(folder)
  drawn = lines(
    num_train=num_train, num_valid=num_valid, num_test=num_test, seed=seed
  )
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
      raise UserError(f'{folder}: the folder has files; give a new one')
    (folder / MARK).write_text(NOTE)
    for name, of_list in drawn.items():
      forms = {}
      for line in of_list:
        forms.setdefault(line.name.rsplit('-', 1)[0], []).append(line)
      for form, of_form in forms.items():
        _write_form(folder, form, of_form)
      (folder / f'{name}.txt').write_text(
        ''.join(f'{form}\n' for form in forms)
      )
  except OSError as error:
    raise UserError(
      f'{error.filename or folder}: {error.strerror}; give a folder that can '
      f'be written'
    ) from error


def _sizes(num_train, num_valid, num_test, seed):
  """How many lines each list gets."""
  for name, number in {
    'num_train': num_train,
    'num_valid': num_valid,
    'num_test': num_test,
  }.items():
    if not 0 <= number <= MOST_LINES:
      raise UserError(
        f'{name} is {number}; it must be from 0 to {MOST_LINES:,}'
      )
  if not 0 <= seed < 2**32:
    raise UserError(f'seed is {seed}; it must be from 0 to 4294967295')
  return dict(
    zip(LISTS, (num_train, num_valid, num_valid, num_test), strict=True)
  )


# Texts.


class _Seen(NamedTuple):
  """What was said, so that it is not said again."""

  sentences: set[str]
  lines: set[str]


def _texts(k, size, seen, rng) -> Iterator[tuple[str, str]]:
  """Name and text of each of the lines of list `k`; fills `seen`."""
  number = 0
  while size > 0:
    # Two forms share a folder, as they do in IAM-OnDB.
    form = f's{k}{number // 2_000}-{number // 2 % 1_000:03}{"ab"[number % 2]}'
    texts = _form_texts(seen, rng)[:size]
    for j, text in enumerate(texts, 1):
      yield f'{form}-{j:02}', text
    size -= len(texts)
    number += 1


def _form_texts(seen, rng):
  """Running text in 6 to 8 lines, none of which is in `seen`."""
  count, width = rng.randint(6, 9), rng.randint(26, 34)
  texts, words = [], []
  while len(texts) < count:
    if len(' '.join(words)) <= width:
      words += _sentence(seen, rng).split()
      continue
    end = 1
    while len(' '.join(words[: end + 1])) <= width:
      end += 1
    text = ' '.join(words[:end])
    words = words[end:]
    if text not in seen.lines:
      seen.lines.add(text)
      texts.append(text)
  return texts


def _sentence(seen, rng):
  """A sentence that is not in `seen`, and then is."""
  while True:
    template = SENTENCES[rng.randint(len(SENTENCES))]
    text = re.sub('[A-Z]{2,}', lambda found: _word(found[0], rng), template)
    # The first letter, which may follow a quotation mark.
    text = re.sub('[a-z0-9A-Z]', lambda found: found[0].upper(), text, count=1)
    if text not in seen.sentences:
      seen.sentences.add(text)
      return text


def _word(kind, rng):
  if kind == 'NUM':
    return str(rng.randint(2, 100))
  if kind == 'YEAR':
    return str(rng.randint(1700, 2000))
  return WORDS[kind][rng.randint(len(WORDS[kind]))]


# Drawing.


@functools.cache
def _glyphs(face) -> dict[str, _Glyph]:
  glyphs = _font_glyphs(face.font)
  if face is PRINT:
    return glyphs
  # The script has its digits and marks in double strokes: take the printed
  # ones, made to lean and to fit.
  size = MARK_SIZE * np.array([[1, 0], [face.slant, 1]])
  marks = {
    mark: _Glyph(MARK_SIZE * width, [stroke @ size for stroke in strokes])
    for mark, (width, strokes) in _glyphs(PRINT).items()
    if not mark.isalpha()
  }
  return glyphs | marks


def _font_glyphs(font):
  loaded = HersheyFonts(load_default_font=font)
  return {
    letter: _Glyph(
      glyph.char_width,
      [
        np.array(stroke, float) * [1, -1] - [glyph.left_offset, -CAPS_BASE]
        for stroke in glyph.strokes
      ],
    )
    for letter, glyph in loaded.all_glyphs.items()
  }


def _draw(name, text, rng) -> Line:
  hand = _new_hand(rng)
  paths = [
    _smooth(np.concatenate(strokes))
    for word in _place(text, hand, rng)
    for strokes in _join(word, hand.reach)
  ]
  ends = np.cumsum([len(path) for path in paths])[:-1]
  # One transformation of the whole line is quicker than one for each stroke.
  points = _distort(np.concatenate(paths), hand)
  strokes = [_sample(path, hand.pace) for path in np.split(points, ends)]
  ends = np.cumsum([len(stroke) for stroke in strokes])[:-1]
  points = np.concatenate(strokes)
  points = np.rint(points + hand.tremor * rng.normal(size=points.shape))
  # Down the board, from its top left corner, all coordinates are positive.
  left, top = rng.randint(800, 1_200, size=2)
  points += [left - points[:, 0].min(), -top - points[:, 1].max()]
  return pen_lines.from_strokes(name, text, np.split(points, ends))


def _new_hand(rng) -> _Hand:
  face = (PRINT, SCRIPT)[rng.randint(2)]
  turns = 1 / np.exp(rng.uniform(np.log(250), np.log(2_500), size=(4, 2)))
  return _Hand(
    face=face,
    scale=face.scale * rng.uniform(0.85, 1.2),
    width=rng.uniform(0.85, 1.1),
    slant=rng.uniform(-0.15, 0.5) - face.slant,
    tall=rng.uniform(0.75, 1.2),
    spacing=rng.uniform(-1.0, 1.5),
    word_gap=rng.uniform(10, 18),
    reach=rng.uniform(1.0, 4.5),
    jitter=rng.uniform(0.02, 0.07),
    drift=rng.uniform(-0.02, 0.02),
    pace=PACE * rng.uniform(0.85, 1.2),
    waves=np.concatenate(
      [
        turns,
        rng.uniform(0, 2 * np.pi, size=(4, 2)),
        rng.uniform(2, 12, size=(4, 2)),
      ],
      axis=1,
    ),
    tremor=rng.uniform(0.5, 1.5),
  )


def _place(text, hand, rng) -> list[list[np.ndarray]]:
  """The strokes of each word, in units of the face."""
  glyphs, x, words = _glyphs(hand.face), 0.0, []
  for word in text.split():
    strokes = []
    for letter in word:
      glyph = glyphs[letter]
      size, turn, lift, gap = hand.jitter * rng.normal(size=4)
      across, up = math.exp(size) * math.cos(turn), math.sin(turn)
      matrix = np.array([[across * hand.width, up], [-up, across]])
      offset = [x, 8 * lift]
      strokes += [stroke @ matrix + offset for stroke in glyph.strokes]
      x += glyph.width * across * hand.width + hand.spacing + 8 * gap
    words.append(strokes)
    x += hand.word_gap
  return words


def _join(strokes, reach) -> list[list[np.ndarray]]:
  """Strokes in groups, each to be written without lifting the pen.

  A pen stays down if the next stroke starts where it is, or where it just
  came from: so a stem is traced back to where the arch of an 'n' leaves it.
  """
  groups = []
  for stroke in strokes:
    if groups and _distance(stroke[0], *groups[-1][-1][-2:]) <= reach:
      groups[-1].append(stroke)
    else:
      groups.append([stroke])
  return groups


def _distance(point, start, end):
  """From a point to the straight line between two others."""
  (a, b), (c, d) = point - start, end - start
  share = min(max((a * c + b * d) / (c * c + d * d or 1.0), 0.0), 1.0)
  return math.hypot(a - share * c, b - share * d)


def _bell(radius):
  """Weights of a smooth mean over 2 `radius` + 1 points."""
  weights = np.hanning(2 * radius + 3)[1:-1]
  return weights / weights.sum()


ROUNDING = _bell(5)
LOOK_AHEAD = _bell(14)


def _smooth(corners):
  """A path of points `GRAIN` apart, which rounds the corners."""
  steps = np.hypot(*np.diff(corners, axis=0).T)
  along = np.concatenate([[0.0], np.cumsum(steps)])
  radius = len(ROUNDING) // 2
  count = int(along[-1] / GRAIN) + 2
  # Beyond the ends np.interp repeats them.
  places = np.arange(-radius, count + radius) * (along[-1] / (count - 1))
  return np.stack(
    [
      np.convolve(np.interp(places, along, of_axis), ROUNDING, 'valid')
      for of_axis in corners.T
    ],
    axis=1,
  )


def _distort(points, hand):
  """From the units of the face to those of IAM-OnDB, by the hand."""
  x, y = points.T
  inside = np.clip(y, 0, hand.face.x_height)
  y = inside + hand.tall * (y - inside)
  x, y = hand.scale * (x + hand.slant * y), hand.scale * y
  moved = np.stack([x, y + hand.drift * x], axis=1)
  for along, across, *phases, wide, high in hand.waves:
    angle = 2 * np.pi * (along * x + across * y)
    moved[:, 0] += wide * np.sin(angle + phases[0])
    moved[:, 1] += high * np.sin(angle + phases[1])
  return moved


def _sample(path, pace):
  """Points of a pen at even times; ends and sharp bends slow it down."""
  steps = np.diff(path, axis=0)
  lengths = np.hypot(*steps.T) + 1e-9
  radius, count = len(LOOK_AHEAD) // 2, len(steps)
  # The mean of nearby directions is short where they differ, or end.
  straight = np.hypot(
    *(
      np.convolve(of_axis, LOOK_AHEAD)[radius : radius + count]
      for of_axis in (steps / lengths[:, None]).T
    )
  )
  duration = lengths / (pace * (SLOWEST + (1 - SLOWEST) * straight))
  times = np.concatenate([[0.0], np.cumsum(duration)])
  sampled = np.linspace(0, times[-1], max(2, round(times[-1]) + 1))
  return np.stack(
    [np.interp(sampled, times, of_axis) for of_axis in path.T], axis=1
  )


# Files.


def _write_form(folder, form, of_form):
  place = pathlib.Path(form[:3], form[:7])
  strokes, texts = folder / 'lineStrokes' / place, folder / 'ascii' / place
  strokes.mkdir(parents=True, exist_ok=True)
  texts.mkdir(parents=True, exist_ok=True)
  text = ''.join(f'{line.text}\n' for line in of_form)
  (texts / f'{form}.txt').write_text(
    f'OCR:\n\n{text}\nCSR:\n\n{text}', encoding='iso-8859-1'
  )
  for line in of_form:
    (strokes / f'{line.name}.xml').write_text(
      _to_xml(line), encoding='iso-8859-1'
    )


def _to_xml(line):
  """A line as a whiteboard would record it: y down, times in seconds."""
  points = (line.points[:, :2] * [1, -1]).astype(int)
  left, top = points.min(axis=0)
  right, bottom = points.max(axis=0)
  # Counted in hundredths, so that the steps are exact.
  stamps = [f'{k // 100}.{k % 100:02}' for k in range(len(points))]
  ends = np.flatnonzero(line.points[:, 2]) + 1
  strokes = []
  for start, end in zip([0, *ends[:-1]], ends, strict=True):
    strokes += [
      f'    <Stroke colour="black" start_time="{stamps[start]}"'
      f' end_time="{stamps[end - 1]}">',
      *(
        f'      <Point x="{x}" y="{y}" time="{stamp}"/>'
        for (x, y), stamp in zip(
          points[start:end].tolist(), stamps[start:end], strict=True
        )
      ),
      '    </Stroke>',
    ]
  return '\n'.join(
    [
      '<?xml version="1.0" encoding="ISO-8859-1"?>',
      '<WhiteboardCaptureSession>',
      '  <WhiteboardDescription>',
      '    <SensorLocation corner="top_left"/>',
      f'    <DiagonallyOppositeCoords x="{right}" y="{bottom}"/>',
      f'    <VerticallyOppositeCoords x="{left}" y="{bottom}"/>',
      f'    <HorizontallyOppositeCoords x="{right}" y="{top}"/>',
      '  </WhiteboardDescription>',
      '  <StrokeSet>',
      *strokes,
      '  </StrokeSet>',
      '</WhiteboardCaptureSession>\n',
    ]
  )
