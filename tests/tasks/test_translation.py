import functools
import io
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts
from hyperjax.data import word_pieces
from hyperjax.errors import UserError
from hyperjax.tasks import translation

VOCAB = 60
KEY = jax.random.key(0)


def make_task(make_translation_config, **fields):
  config = make_translation_config()
  config.update_from_flattened_dict(fields)
  return parts.build_task(config)


@pytest.fixture(scope='module')
def trained(make_translation_config):
  """A task, variables of some size, its source and its request."""
  config = make_translation_config()
  task = parts.build_task(config)
  init = jax.jit(lambda: jax.tree.map(lambda x: 3 * x, task.init(KEY)))
  return task, init(), parts.build_source(config), config.sample.to_dict()


def batch():
  rng = np.random.default_rng(1)
  lengths = np.array([[5], [3], [1], [0]])
  target = rng.integers(4, VOCAB, (4, 5))
  target = np.where(np.arange(5) < lengths, target, word_pieces.PAD)
  source = rng.integers(4, VOCAB, (4, 6)) * (lengths > 0)
  return {'source': source.astype(np.int32), 'target': target.astype(np.int32)}


@functools.lru_cache
def logits_of(task):
  """(variables, source, what is written) -> logits; compiled for a shape."""

  @jax.jit
  def run(variables, source, begun):
    model = task.merge(variables)
    memory = model.encode(source, source != 0)
    return model.decode(model.initial_carry(len(begun)), memory, begun)[1]

  return run


def log_p(task, variables, batch):
  begun = np.full_like(batch['target'], word_pieces.BEGIN)
  begun[:, 1:] = batch['target'][:, :-1]
  logits = logits_of(task)(variables, batch['source'], begun)
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_metric_is_the_mean_of_minus_log_p(trained):
  task, variables, _, _ = trained
  some = batch()
  _, metrics = jax.jit(task.metrics)(*variables, (), some)
  found = np.take_along_axis(
    log_p(task, variables, some), np.asarray(some['target'])[..., None], -1
  )[..., 0]
  counts = np.asarray(some['target']) != 0
  assert float(metrics['nats_per_piece'].weight) == 9
  assert metrics['nats_per_piece'].read() == pytest.approx(
    -found[counts].mean(), rel=1e-5
  )


def test_label_smoothing_spreads_a_share(trained, make_translation_config):
  _, variables, _, _ = trained
  keep = {'model.input_keep_prob': 1.0, 'model.output_keep_prob': 1.0}
  smooth = make_task(
    make_translation_config, **keep, **{'task.label_smoothing': 0.3}
  )
  some = batch()
  loss, aux = jax.jit(smooth.loss)(*variables, (), some, KEY)
  logs = log_p(smooth, variables, some)
  target = np.asarray(some['target'])
  wanted = 0.7 * np.eye(VOCAB)[target] + 0.3 / VOCAB
  nats = -(wanted * logs).sum(-1)[target != 0]
  assert float(loss) == pytest.approx(nats.mean(), rel=1e-5)
  plain = -np.take_along_axis(logs, target[..., None], -1)[target != 0].mean()
  assert aux.metrics['nats_per_piece'].read() == pytest.approx(plain, rel=1e-5)
  assert float(aux.weight) == 9


def test_a_batch_of_padding_alone_moves_nothing(trained):
  task, variables, _, _ = trained
  nothing = {name: np.zeros((2, 4), np.int32) for name in batch()}
  gradient, aux = jax.jit(jax.grad(task.loss, has_aux=True))(
    *variables, (), nothing, KEY
  )
  assert float(aux.weight) == 0
  assert all((x == 0).all() for x in jax.tree.leaves(gradient))


def test_beam_one_is_greedy_of_the_model(trained):
  task, variables, source, request = trained
  sentences = ['the cat sat', 'a red mat', 'fish']
  options = {'length_penalty': 0.0, 'coverage_penalty': 0.0, 'beam_size': 1}
  found = task.sample(
    variables,
    request | options | {'text': '\n'.join(sentences)},
    source.meta,
  ).split('\n')
  for sentence, text in zip(sentences, found, strict=True):
    ids = [*source.pieces.encode([sentence])[0], word_pieces.END]
    symbols = np.int32([ids + [word_pieces.PAD] * (12 - len(ids))])
    limit = translation.GROWTH * len(ids) + translation.SPARE
    width = translation.GROWTH * 12 + translation.SPARE
    begun = np.full((1, width), word_pieces.BEGIN, np.int32)
    written = []
    while len(written) < limit - 1:
      begun[0, 1 : len(written) + 1] = written
      logits = logits_of(task)(variables, symbols, begun)
      logits = np.array(logits[0, len(written)])
      logits[[word_pieces.PAD, word_pieces.BEGIN]] = -np.inf
      last = int(logits.argmax())
      if last == word_pieces.END:
        break
      written.append(last)
    assert text == source.pieces.decode(written)


def test_company_and_padding_change_no_translation(trained):
  task, variables, source, request = trained
  sentences = [pair[0] for pair in source.texts('test')][:9]
  sentences += ['', 'the ' * 20]

  def translated(lines, **options):
    asked = request | {'text': '\n'.join(lines) + '\n'} | options
    return task.sample(variables, asked, source.meta).split('\n')

  expected = translated(sentences)
  assert expected[-2] == '' and len(set(expected)) > 3
  assert translated(sentences[::-1], batch_size=3) == expected[::-1]
  for k in (0, 4, 10):
    assert translated([sentences[k]]) == [expected[k]]


def test_bleu_is_that_of_the_translations(trained):
  from sacrebleu import BLEU

  task, variables, source, request = trained
  pairs = source.texts('valid')
  text = '\n'.join(pair[0] for pair in pairs)
  found = task.sample(variables, request | {'text': text}, source.meta)
  expected = BLEU().corpus_score(
    found.split('\n'), [[pair[1] for pair in pairs]]
  )
  measured = task.measure_generated(variables, source, 'valid', request)
  assert measured == {'bleu': pytest.approx(expected.score)}
  protocol = task.generation_protocol(request)
  assert 'beam 2' in protocol and 'tok:13a' in protocol


def test_files_and_standard_input_are_translated(
  trained, tmp_path, monkeypatch
):
  task, variables, source, request = trained
  expected = task.sample(
    variables, request | {'text': 'the cat\na mat'}, source.meta
  )
  path = tmp_path / 'lines.txt'
  path.write_bytes(b'\xef\xbb\xbfthe cat\r\na mat\r\n')
  asked = request | {'path': str(path)}
  assert task.sample(variables, asked, source.meta) == expected
  stdin = types.SimpleNamespace(buffer=io.BytesIO(b'the cat\na mat\n'))
  monkeypatch.setattr('sys.stdin', stdin)
  asked = request | {'path': '-'}
  assert task.sample(variables, asked, source.meta) == expected


def test_attention_is_drawn(trained, tmp_path):
  task, variables, source, request = trained
  asked = request | {'attention': True, 'text': 'the cat\n\na mat'}
  drawn = task.sample(variables, asked, source.meta).draw(tmp_path, 'sample')
  assert [path.name for path in drawn] == [
    'sample.txt',
    *('sample-1.png', 'sample-1.svg', 'sample-3.png', 'sample-3.svg'),
  ]
  plain = task.sample(variables, asked | {'attention': False}, source.meta)
  assert drawn[0].read_text() == plain + '\n'
  assert all(path.stat().st_size > 1000 for path in drawn[1:])


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'the\nc\xe9\n', 'line 2 is not UTF-8'),
    (b' \n', 'there is no text'),
    (None, 'No such file'),
  ],
)
def test_what_can_not_be_translated_is_named(
  trained, tmp_path, content, message
):
  task, _, source, request = trained
  path = tmp_path / 'lines.txt'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message) as error:
    task.check_sample(request | {'path': str(path)}, source.meta)
  assert str(path) in str(error.value)


def test_a_training_run_reads_no_standard_input(trained):
  task, _, source, request = trained
  with pytest.raises(UserError, match=r'config\.sample\.path'):
    task.check_sample(request | {'path': '-'}, source.meta)


@pytest.mark.parametrize('share', [-0.1, 1.0])
def test_a_share_out_of_range_is_named(make_translation_config, share):
  with pytest.raises(UserError, match=r'config\.task\.label_smoothing'):
    make_task(make_translation_config, **{'task.label_smoothing': share})


def test_encoder_and_decoder_have_keys_of_their_own(trained):
  _, _, source, _ = trained
  keys = []

  class Model:
    def encode(self, symbols, mask, key):
      keys.append(key)

    def initial_carry(self, batch_size):
      return ()

    def decode(self, carry, memory, symbols, key):
      keys.append(key)
      return (), jnp.zeros((*symbols.shape, VOCAB)), None

  translation._nats(Model(), next(iter(source.eval('valid', 2))), KEY)
  first, second = (jax.random.key_data(key).tolist() for key in keys)
  assert first != second
