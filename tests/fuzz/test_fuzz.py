import os
import random
import subprocess
import sys
import textwrap
import time

import pytest

from hyperjax.errors import UserError


@pytest.fixture(autouse=True)
def scripts(repository, monkeypatch):
  monkeypatch.syspath_prepend(repository / 'scripts')


def fuzz(repository, *flags, timeout):
  done = subprocess.run(
    [sys.executable, 'scripts/fuzz.py', *flags],
    cwd=repository,
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
    timeout=timeout,
  )
  return done.returncode, done.stdout + done.stderr


def test_no_parser_breaks(repository):
  code, printed = fuzz(repository, '--executions=60', timeout=500)
  assert code == 0, printed
  names = [line.split()[0] for line in printed.splitlines()]
  assert {'iam_xml', 'idx_gz', 'cifar_pickle', 'model_folder'} <= set(names)


@pytest.mark.slow
def test_no_parser_breaks_for_long(repository, tmp_path):
  flags = '--executions=20000', '--seed=1', f'--out={tmp_path}'
  code, printed = fuzz(repository, *flags, timeout=3_000)
  assert code == 0, printed


def refuse(message):
  def parse(content):
    raise UserError(message)

  return parse


def compute_for_ever(content):
  while True:
    pass


@pytest.mark.parametrize(
  ('parse', 'words'),
  [
    (lambda content: 1 / 0, 'ZeroDivisionError'),
    (lambda content: time.sleep(60), 'HangError'),
    (compute_for_ever, 'HangError'),
    (refuse(''), 'not one line'),
    (refuse('a file is bad'), 'names no file'),
  ],
)
def test_the_guard_finds_what_breaks(monkeypatch, parse, words):
  from fuzzing import guard

  monkeypatch.setattr(guard, 'SECONDS', 0.1)
  monkeypatch.setattr(guard, 'WAIT', 0.3)
  outcome = guard.run(parse, b'', ('a.txt',))
  assert outcome.kind == guard.FINDING
  assert words in outcome.line


def test_the_guard_finds_what_takes_memory(monkeypatch):
  from fuzzing import guard

  used = iter([2**30, 2**31])
  monkeypatch.setattr(guard, '_most_used', lambda: next(used))
  outcome = guard.run(len, b'', ())
  assert outcome == guard.Outcome(guard.FINDING, 'takes 1,024 MiB')


def test_memory_beyond_the_limit_is_not_to_be_had():
  """In a process of its own: threads of others would give memory back."""
  lines = """
    from fuzzing import guard
    with guard.limited_memory():
      try:
        bytearray(guard.ADDRESSES + 2**24)
      except MemoryError:
        print('refused')
    bytearray(guard.ADDRESSES + 2**24)
  """
  child = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(lines)],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
  )
  assert (child.stdout, child.stderr) == ('refused\n', '')
  assert child.returncode == 0


def test_the_guard_passes_what_is_right():
  from fuzzing import guard

  assert guard.run(len, b'', ()).kind == guard.PARSED
  outcome = guard.run(refuse('a.txt: bad; mend it'), b'', ('a.txt',))
  assert outcome == guard.Outcome(guard.REFUSED, 'a.txt: bad; mend it')


def test_cases_depend_on_their_number_alone():
  from fuzzing import mutations

  def cases():
    return [
      mutations.mutate(random.Random(f'a {k}'), b'some 12 words' * 9)
      for k in range(200)
    ]

  assert cases() == cases()
  assert len(set(cases())) > 150
