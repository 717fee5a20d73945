"""A corpus that every machine has: the Python standard library's source."""

import pathlib
import platform
import sysconfig

from hyperjax.errors import UserError

NOT_LIBRARY = {
  'test',
  'tests',
  'idle_test',
  'site-packages',
  'dist-packages',
  '__pycache__',
}
# Records of how this Python was built, which differ from machine to machine.
BUILD_RECORDS = ('_sysconfigdata', 'config-')


def version() -> str:
  """The version of Python, which decides the text."""
  return platform.python_version()


def root() -> pathlib.Path:
  """The folder of the standard library."""
  return pathlib.Path(sysconfig.get_path('stdlib'))


def source_files() -> list[pathlib.Path]:
  """Modules and packages, without tests and installed packages."""
  files = [
    path
    for path in root().rglob('*.py')
    if NOT_LIBRARY.isdisjoint(path.relative_to(root()).parts)
    and not path.relative_to(root()).parts[0].startswith(BUILD_RECORDS)
  ]
  if not files:
    raise UserError(
      f'{root()} has no source files of the Python standard library; give a '
      f'text by --config.data.path=FILE'
    )
  return files
