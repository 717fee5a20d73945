"""Makes small faults in the package and tells which the tests catch.

    python tests/mutants.py [--only=NAME,...] [--tests=REVISION] [--jobs=1]
      [--whole] [--out=FILE.json] [--timeout=600] [--no-baseline]

A fault of `tests/mutants.toml` is put into a copy of the repository (tracked
and new files, as they are), and the tests nearest to it run there. One that
fails has caught it. The unchanged copy has to pass them first. --tests takes
the tests of another revision, and --whole lets what survives its own tests meet
all the others. Prints a table; exits with 1 if a fault survived or could not be
tried.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CAUGHT, SURVIVED, ERROR = 'caught', 'survived', 'error'
# Of pytest: all passed, and some failed. Others mean that it did not get far.
PASSED, FAILED = 0, 1
# It looks whether the faults fit the package, which has one of them.
OWN_TEST = 'tests/test_mutants.py'
WHOLE = ('-n', '2', '--dist=loadfile', f'--ignore={OWN_TEST}', 'tests')
TAIL = 2_000  # characters of the output that are kept


@dataclasses.dataclass(frozen=True)
class Mutant:
  """A fault.

  Attributes:
    name: a few words with hyphens.
    file: where it is, under `hyperjax/`.
    old: the right text, which the file has once.
    new: the wrong one.
    tests: files or folders under `tests/` that should notice, the cheap ones
      first.
  """

  name: str
  file: str
  old: str
  new: str
  tests: tuple[str, ...]

  def path(self, root: pathlib.Path) -> pathlib.Path:
    """The file in a copy of the repository."""
    return root / 'hyperjax' / self.file

  def apply(self, text: str) -> str:
    """The file's text with the fault.

    Raises:
      ValueError: the text to replace is not there, or not once.
    """
    if (count := text.count(self.old)) != 1:
      raise ValueError(f'{self.name}: {self.file} has the text {count} times')
    return text.replace(self.old, self.new)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a fault.

  Attributes:
    state: `CAUGHT`, `SURVIVED` or `ERROR`.
    by: the first test that failed, or the reason of an error.
    seconds: that it took.
    output: the end of what pytest printed, of an error.
  """

  state: str
  by: str = ''
  seconds: float = 0.0
  output: str = ''


def load() -> list[Mutant]:
  """The faults of `mutants.toml`, in its order."""
  path = pathlib.Path(__file__).with_name('mutants.toml')
  rows = tomllib.loads(path.read_text(encoding='utf-8'))['mutant']
  return [Mutant(**{**row, 'tests': tuple(row['tests'])}) for row in rows]


class Copy:
  """A copy of the repository, in which pytest runs.

  Args:
    folder: an empty folder, to hold it and what its tests write.
    revision: whose tests to take; '' for those that are there.
    timeout: seconds of a run.
  """

  def __init__(self, folder: pathlib.Path, revision: str, timeout: float):
    self.root = folder / 'repository'
    self._scratch = folder / 'tmp'
    self._timeout = timeout
    self._process: subprocess.Popen | None = None
    for name in _git('ls-files', '-coz', '--exclude-standard').split(b'\0'):
      source = REPOSITORY / os.fsdecode(name)
      if name and source.is_file():  # a deleted one is listed, too
        target = self.root / os.fsdecode(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    if revision:
      shutil.rmtree(self.root / 'tests')
      archive = io.BytesIO(_git('archive', revision, 'tests'))
      with tarfile.open(fileobj=archive) as tar:
        tar.extractall(self.root, filter='data')

  def there(self, tests: Iterable[str]) -> list[str]:
    """Of paths under `tests/` those that exist, from the root."""
    paths = [f'tests/{name}' for name in tests]
    return [path for path in paths if (self.root / path).exists()]

  @contextlib.contextmanager
  def with_fault(self, mutant: Mutant) -> Iterator[None]:
    """Has a fault for a while."""
    path = mutant.path(self.root)
    right = path.read_bytes()
    try:
      _replace(path, mutant.apply(right.decode()).encode())
      yield
    finally:
      _replace(path, right)

  def pytest(self, *words: str) -> tuple[int | None, str]:
    """Runs pytest; returns its exit code, None if time ran out, and output."""
    command = [
      *(sys.executable, '-m', 'pytest', '-x', '-q', '-rfE', '--tb=short'),
      *('-p', 'no:cacheprovider', '-p', 'no:randomly'),
      f'--basetemp={self._scratch}',
      *words,
    ]
    # Not a pipe, which a process that pytest leaves behind would keep open.
    with tempfile.TemporaryFile() as output:
      process = self._process = subprocess.Popen(
        command,
        cwd=self.root,
        env=_environ(self.root),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )
      try:
        code = process.wait(self._timeout)
      except subprocess.TimeoutExpired:
        code = None
      finally:
        self.stop()
      output.seek(0)
      return code, output.read().decode(errors='replace')

  def stop(self) -> None:
    """Ends pytest, if it runs, and what it has left behind."""
    if self._process:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self._process.pid, signal.SIGKILL)
      self._process.wait()


def _git(*words: str) -> bytes:
  """What a git command prints."""
  command = ['git', '-C', str(REPOSITORY), *words]
  try:
    return subprocess.run(command, check=True, capture_output=True).stdout
  except subprocess.CalledProcessError as error:
    sys.exit(f'error: git {words[0]}: {error.stderr.decode().strip()}')


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file, and forgets its bytecode, which tells it by its second."""
  path.write_bytes(content)
  for compiled in (path.parent / '__pycache__').glob(f'{path.stem}.*.pyc'):
    compiled.unlink()


def _environ(root: pathlib.Path) -> dict[str, str]:
  """The copy comes first in imports; what compiles is shared by all runs."""
  return {
    **os.environ,
    'PYTHONPATH': str(root),
    'JAX_COMPILATION_CACHE_DIR': str(REPOSITORY / '.cache' / 'jax'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


def judge(code: int | None, output: str) -> Outcome:
  """What a run of pytest with a fault means."""
  if code == PASSED:
    return Outcome(SURVIVED)
  if code == FAILED:
    found = re.search(r'^(?:FAILED|ERROR) (.+?)(?: - .*)?$', output, re.M)
    return Outcome(CAUGHT, found[1] if found else 'a test')
  why = 'it took too long' if code is None else f'pytest exits with {code}'
  return Outcome(ERROR, why, output=output[-TAIL:])


def try_out(copy: Copy, mutant: Mutant, whole: bool) -> Outcome:
  """Runs the tests of a fault, and all others if it survives and `whole`."""
  start = time.monotonic()
  tests = copy.there(mutant.tests)
  with copy.with_fault(mutant):
    if tests:
      found = judge(*copy.pytest(*tests))
    else:
      found = Outcome(SURVIVED if whole else ERROR, 'its tests are not there')
    if whole and found.state == SURVIVED:
      found = judge(*copy.pytest(*WHOLE))
  seconds = round(time.monotonic() - start, 1)
  return dataclasses.replace(found, seconds=seconds)


def check_unchanged(copy: Copy, mutants: Sequence[Mutant], whole: bool) -> None:
  """Exits unless the tests pass without a fault, in the copy's own package."""
  tests = [WHOLE] if whole else []
  if nearest := copy.there(sorted({t for m in mutants for t in m.tests})):
    tests.insert(0, nearest)
  for words in tests:
    print(f'without a fault: {len(words)} files and folders', flush=True)
    start = time.monotonic()
    code, output = copy.pytest(*words)
    if code != PASSED:
      sys.exit(
        f'{output[-TAIL:]}\nerror: the tests do not pass without a fault '
        f'({judge(code, output).by}); mend them, or leave this out by '
        f'--no-baseline'
      )
    print(f'they pass, in {time.monotonic() - start:.0f} s', flush=True)


def check_import(copy: Copy) -> None:
  """Exits unless Python imports the copy's package."""
  found = subprocess.run(
    [sys.executable, '-c', 'import hyperjax; print(hyperjax.__file__)'],
    cwd=copy.root,
    env=_environ(copy.root),
    capture_output=True,
    text=True,
  ).stdout.strip()
  if not found.startswith(str(copy.root)):
    sys.exit(f'error: Python imports {found or "no hyperjax"}, not the copy')


def table(mutants: Sequence[Mutant], outcomes: Sequence[Outcome]) -> str:
  """A Markdown table of all, and how many of each kind."""
  lines = ['| mutant | file | caught by |', '| --- | --- | --- |']
  for mutant, outcome in zip(mutants, outcomes, strict=True):
    by = outcome.by.removeprefix('tests/').replace('|', '\\|')
    words = f'`{by}`' if outcome.state == CAUGHT else f'**{outcome.state}**'
    if outcome.state == ERROR:
      words += f': {by}'
    lines.append(f'| {mutant.name} | {mutant.file} | {words} |')
  states = [outcome.state for outcome in outcomes]
  counts = [f'{states.count(s)} {s}' for s in (CAUGHT, SURVIVED, ERROR)]
  seconds = sum(outcome.seconds for outcome in outcomes)
  return '\n'.join(
    [*lines, '', f'{", ".join(counts)}, of {len(states)}; {seconds:.0f} s']
  )


def _arguments(words: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--only', default='', help='names, with commas between')
  parser.add_argument('--tests', default='', help='revision of the tests')
  parser.add_argument('--jobs', type=int, default=1, help='faults at a time')
  parser.add_argument('--whole', action='store_true', help='all tests in turn')
  parser.add_argument('--out', help='JSON file to write')
  parser.add_argument('--timeout', type=float, default=600, help='of a run, s')
  parser.add_argument(
    '--no-baseline', action='store_true', help='do not run without a fault'
  )
  return parser.parse_args(words)


def _chosen(only: str) -> list[Mutant]:
  mutants = load()
  names = [name for name in only.split(',') if name]
  if unknown := set(names) - {mutant.name for mutant in mutants}:
    sys.exit(f'error: --only: no {", ".join(sorted(unknown))}')
  return [mutant for mutant in mutants if not names or mutant.name in names]


def _as_json(mutant: Mutant, outcome: Outcome) -> dict[str, Any]:
  return {
    'name': mutant.name,
    'file': mutant.file,
    'tests': mutant.tests,
    **dataclasses.asdict(outcome),
  }


def main(words: Sequence[str]) -> int:
  """Tries the faults; returns the exit code."""
  options = _arguments(words)
  mutants = _chosen(options.only)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  jobs = max(1, min(options.jobs, len(mutants)))
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(
      tempfile.TemporaryDirectory(prefix='mutants-', ignore_cleanup_errors=True)
    )
    folder = pathlib.Path(folder).resolve()
    copies = [
      Copy(folder / f'{k}', options.tests, options.timeout) for k in range(jobs)
    ]
    check_import(copies[0])
    if not options.no_baseline:
      check_unchanged(copies[0], mutants, options.whole)
    idle = queue.SimpleQueue()
    for copy in copies:
      idle.put(copy)

    def run(mutant):
      copy = idle.get()
      try:
        return try_out(copy, mutant, options.whole)
      finally:
        idle.put(copy)

    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(jobs))
    futures = {pool.submit(run, mutant): mutant for mutant in mutants}
    found: dict[str, Outcome] = {}
    try:
      for future in concurrent.futures.as_completed(futures):
        mutant, outcome = futures[future], future.result()
        found[mutant.name] = outcome
        print(
          f'{len(found)} of {len(mutants)}: {mutant.name}: {outcome.state} '
          f'({outcome.seconds:.0f} s) {outcome.by}',
          flush=True,
        )
        if outcome.output:
          print(outcome.output, flush=True)
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      for copy in copies:
        copy.stop()
      raise
  outcomes = [found[mutant.name] for mutant in mutants]
  print(f'\n{table(mutants, outcomes)}')
  if options.out:
    rows = map(_as_json, mutants, outcomes)
    pathlib.Path(options.out).write_text(json.dumps([*rows], indent=1) + '\n')
  return int(any(outcome.state != CAUGHT for outcome in outcomes))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
