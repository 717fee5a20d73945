"""Multi30k, English to French: captions of photographs.

    python -m hyperjax.main --config=configs/multi30k.py:ROW \
      --workdir=runs/multi30k --config.data.dir=FOLDER

FOLDER holds {train,val,test_2016_flickr,...}.{en,fr}, gzipped or not, of
https://github.com/multi30k/dataset (data/task1/raw). The paper has no such row:
these are small networks of its kind (`configs/wmt14_enfr.py` has its own), of
one parameter budget, sized for two CPU cores. `:ROW,pairs` takes pairs of your
own (--config.data.path=FILE_OR_FOLDER).

Measured on two cores of an AMD EPYC: a run of `ln_hyper_lstm` takes 12
minutes with nothing beside it. experiments/multi30k has the BLEU of each row.
"""

from hyperjax.config import parse_argument, translation_config

ROWS = {  # cells
  'ln_hyper_lstm': 'ln_hyper_lstm',
  'ln_lstm': 'ln_lstm',
  'lstm': 'lstm',
}
CAPTIONS = (
  'Two dogs are playing in the snow.\n'
  'A man in a blue shirt is standing on a ladder cleaning a window.\n'
  'A group of people are sitting around a table in a restaurant.'
)


def get_config(argument: str = ''):
  row, options = parse_argument(argument, ROWS, ['pairs', 'smoke'])

  config = translation_config()
  config.data.update({'name': 'multi30k', 'dir': '', 'tokens_per_batch': 1_024})
  config.model.update(
    {
      'cell': ROWS[row],
      'parameter_budget': 3_000_000,
      'embedding_size': 128,
      'attention_size': 128,
      'hyper_size': 48,
      'z_size': 8,
      'input_keep_prob': 0.8,
      'output_keep_prob': 0.8,
    }
  )
  config.task.label_smoothing = 0.1
  config.optimizer.update(
    {'learning_rate': 3e-3, 'schedule': 'cosine', 'warmup_steps': 150}
  )
  config.train.update(
    {'num_steps': 3_200, 'eval_every': 400, 'checkpoint_every': 200}
  )
  config.eval.num_streams = config.eval.quick_streams = 128
  config.eval.split = 'test_2016_flickr'
  config.sample.text = CAPTIONS

  if 'pairs' in options:
    del config.data.dir
    config.data.update(
      {
        'name': 'translation',
        'path': '',
        'source_language': 'en',
        'target_language': 'fr',
      }
    )
    config.eval.split = 'test'
  if 'smoke' in options:
    config.data.update({'vocab_size': 1_000, 'tokens_per_batch': 512})
    config.model.update(
      {
        'parameter_budget': 0,
        'hidden_size': 48,
        'embedding_size': 48,
        'attention_size': 48,
        'hyper_size': 16,
        'z_size': 4,
      }
    )
    config.optimizer.update({'learning_rate': 5e-3, 'warmup_steps': 20})
    config.train.update(
      {
        'num_steps': 200,
        'eval_every': 100,
        'checkpoint_every': 100,
        'log_every': 10,
      }
    )
  return config
