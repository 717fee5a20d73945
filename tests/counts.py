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
CIFAR10 = {
  'hyper_wrn_40_1': 96_602,
  'wrn_40_1': 562_762,
  'wrn_40_2': 2_235_530,
  'hyper_wrn_40_2': 147_610,
  # Not in the paper: by the same reading.
  'wrn_28_10': 36_229_642,
  'hyper_wrn_28_10': 1_115_162,
}
MNIST = {
  'conv': 21_210,
  'hyper_conv': 12_910,
  'mlp': 203_530,
  'coordinate_mlp': 3_627,
}
HANDWRITING = {
  'hyper_lstm_900': 3_941_181,
  'lstm_900_plain': 3_363_421,
  'lstm_3x400_plain': 3_258_121,
  'lstm_900': 3_363_421,
  'lstm_1000': 4_137_121,
  'lstm_3x400': 3_258_121,
  'lstm_2x650': 5_161_771,
  'ln_lstm_900': 3_368_821,
  'ln_lstm_1000': 4_143_121,
  'ln_hyper_lstm_900': 3_950_949,
}
# Rows of config files that no table of the paper has.
BEYOND = {'wrn_28_10', 'hyper_wrn_28_10'}
TABLES = {
  'ptb': PTB,
  'enwik8': ENWIK8,
  'cifar10': CIFAR10,
  'mnist': MNIST,
  'handwriting': HANDWRITING,
}
