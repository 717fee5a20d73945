"""Parameter counts of the paper's tables, by config file and row."""

PTB = {
  'lstm_1000': 4_254_050,
  'lstm_1250': 6_567_550,
  'lstm_2x1000': 12_258_050,
  'ln_lstm': 4_260_050,
  'hyper_lstm': 4_911_874,
  'ln_hyper_lstm': 4_922_642,
  'ln_hyper_lstm_large': 5_085_170,
  'ln_hyper_lstm_2layer': 14_406_690,
}
ENWIK8 = {
  'ln_hyper_lstm_1800': 18_727_749,
  'lstm_1800': 14_812_405,
  'lstm_2000': 18_058_205,
  'ln_lstm_1800': 14_823_205,
  'hyper_lstm_1800': 18_708_213,
  'ln_hyper_lstm_2048': 26_539_725,
}
TABLES = {'ptb': PTB, 'enwik8': ENWIK8}
