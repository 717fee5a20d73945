import os

from hyperjax import workdir


def test_json_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
  path, synced = tmp_path / 'result.json', []

  def fsync(descriptor):
    synced.append((os.fstat(descriptor).st_size, path.exists()))

  monkeypatch.setattr(os, 'fsync', fsync)
  workdir.write_json(path, {'step': 1})
  assert synced == [(path.stat().st_size, False)]
