"""One run on 1, 4 and 8 devices: the same numbers."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.nn import small

# float32 sums in another order differ in the seventh digit, and six steps of
# training amplify that a little.
TOLERANCE = 1e-5
# Parts of `tests/devices.py`. These share a process; the others are slow.
CHEAP = ('text', 'images', 'seeds', 'translation', 'moved', 'rest')


@pytest.fixture(scope='module')
def found(tmp_path_factory, text_file, small_images, pairs_file):
  """What `tests/devices.py` finds of a part."""
  flags = os.environ.get('XLA_FLAGS', '')

  @functools.cache
  def run(names):
    return subprocess.run(
      [
        *(sys.executable, REPOSITORY / 'tests' / 'devices.py', names),
        *(text_file, small_images, pairs_file, tmp_path_factory.mktemp('runs')),
      ],
      cwd=REPOSITORY,
      env=os.environ
      | {
        'PYTHONPATH': str(REPOSITORY),
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count=8',
        # A device that waits for others holds a thread: more than devices.
        'PJRT_NPROC': '32',
      },
      capture_output=True,
      text=True,
      timeout=900,
    )

  def find(part):
    done = run(','.join(CHEAP) if part in CHEAP else part)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])[part]

  return find


every_task = pytest.mark.parametrize(
  'task',
  [
    *('text', 'images', 'seeds', 'translation'),
    *(small.slow(name) for name in ('accumulated', 'gnmt')),
  ],
)


@every_task
def test_any_number_of_devices_gives_the_same_losses(found, task):
  expected = found(task)['one']
  assert expected['devices'] == 1
  assert len(found(task)) > 1
  for name, other in found(task).items():
    np.testing.assert_allclose(
      other['train'], expected['train'], rtol=TOLERANCE, err_msg=name
    )
    assert other['valid'].keys() == expected['valid'].keys()
    for metric, value in expected['valid'].items():
      np.testing.assert_allclose(
        other['valid'][metric], value, rtol=TOLERANCE, err_msg=name
      )


def test_losses_of_other_data_would_differ(found):
  losses = np.array(found('text')['one']['train'])
  assert np.abs(np.diff(losses)).min() > 100 * TOLERANCE * losses.max()


@every_task
def test_arrays_stay_where_they_were_put(found, task):
  for name, other in found(task).items():
    assert other['stay'], name


def test_all_devices_are_taken_and_kernels_are_split(found):
  assert found('text')['eight']['devices'] == 8
  assert found('text')['eight']['split'] == []
  both = found('text')['both axes']
  assert both['devices'] == 4
  assert 'stack/cells/0/main/recurrent/kernel' in both['split']
  assert all(path.endswith('kernel') for path in both['split'])
  assert found('rest')['words'] == '8 devices: data 8 x model 1'


@every_task
def test_the_work_is_dealt_out_with_the_rows(found, task):
  # Were a batch gathered for some gradient, each device would do all of it.
  share = found(task)['eight']['flops'] / found(task)['one']['flops']
  assert share < 0.3  # an eighth, and what does not depend on the batch


def test_a_checkpoint_goes_on_on_other_devices(found):
  expected = found('moved')['one']
  assert len(found('moved')) == 2
  for name, result in found('moved').items():
    for metric, value in expected.items():
      assert result[metric] == pytest.approx(value, rel=1e-4), name


def test_what_one_device_does_alone_is_brought_there(found):
  assert found('rest')['fetched'] == [8, 1]


def test_a_mesh_that_can_not_be_is_refused(found):
  said = found('rest')['refusals']
  assert 'needs 16 devices; there are 8' in said['too many']
  assert 'config.data.batch_size is 16' in said['batch']
  assert "no parameter is called '*/kernal'" in said['rule']
  assert "'head/bias' has 2 axes" in said['axes']
