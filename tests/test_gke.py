"""The example for GKE parses, fits together, and names flags that exist."""

import pathlib
import re

import pytest
import yaml

from hyperjax import config as configs


@pytest.fixture
def documents(repository):
  text = (repository / 'docs' / 'gke_jobset.yaml').read_text()
  return {document['kind']: document for document in yaml.safe_load_all(text)}


@pytest.fixture
def pods(documents):
  """By kind: the job's own spec, its pod's spec, and the one container."""
  (replicated,) = documents['JobSet']['spec']['replicatedJobs']
  jobs = {
    'JobSet': replicated['template']['spec'],
    'Job': documents['Job']['spec'],
  }
  return {
    kind: (job, job['template']['spec'], job['template']['spec']['containers'])
    for kind, job in jobs.items()
  }


@pytest.mark.parametrize('kind', ['JobSet', 'Job'])
def test_the_parts_name_one_another(documents, pods, kind):
  job, pod, (container,) = pods[kind]
  assert job['completionMode'] == 'Indexed'
  assert pod['restartPolicy'] == 'Never'  # which a podFailurePolicy needs
  assert pod['terminationGracePeriodSeconds'] >= 60
  for rule in job['podFailurePolicy']['rules']:
    if 'onExitCodes' in rule:
      assert rule['onExitCodes']['containerName'] == container['name']
  (volume,) = pod['volumes']
  (mount,) = container['volumeMounts']
  claim = documents['PersistentVolumeClaim']['metadata']['name']
  assert volume['persistentVolumeClaim']['claimName'] == claim
  assert mount['name'] == volume['name']
  folders = [
    w for w in container['command'] if re.match('--(work|sweep)dir', w)
  ]
  assert folders[0].partition('=')[2].startswith(mount['mountPath'] + '/')


@pytest.mark.parametrize('kind', ['JobSet', 'Job'])
def test_there_are_as_many_hosts_as_the_topology_has(pods, kind):
  job, pod, (container,) = pods[kind]
  width, height = map(
    int, pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')
  )
  chips = container['resources']['limits']['google.com/tpu']
  hosts = width * height // chips
  assert container['resources']['requests'] == container['resources']['limits']
  assert hosts == (job['parallelism'] if kind == 'JobSet' else 1)


@pytest.mark.parametrize('kind', ['JobSet', 'Job'])
def test_the_commands_name_flags_that_exist(repository, pods, kind):
  _, _, (container,) = pods[kind]
  python, *words = container['command']
  assert python == 'python'
  if words[0] == '-m':
    path, words = repository / f'{words[1].replace(".", "/")}.py', words[2:]
  else:
    path, words = repository / words[0], words[1:]
  known = flags_of(path)
  for word in words:
    name, _, value = word.removeprefix('--').partition('=')
    if name == 'config':
      config = configs.load(f'{repository}/{value}')
    elif name.startswith('config.'):
      configs.check_overrides(config, [word])
    else:
      assert name in known, f'{path} has no --{name}'


def flags_of(path: pathlib.Path) -> set[str]:
  """Names of the flags that a script defines."""
  return set(re.findall(r"flags\.DEFINE_\w+\(\s*'(\w+)'", path.read_text()))
