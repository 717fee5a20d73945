"""How open the gates of the cells are."""

from experiments.figure import Figure

_CELLS = 'lstm', 'ln_lstm', 'hyper_lstm', 'ln_hyper_lstm'
FIGURE = Figure(
  title='Histograms of gates and states',
  paper='Figure 5',
  pictures={'gates.png': 'Histograms of the gates of each cell'},
  command=(
    'python scripts/draw_weights.py '
    f'--workdir={",".join(f"runs/experiments/figures/{c}" for c in _CELLS)} '
    '--labels="LSTM,LN LSTM,HyperLSTM,LN HyperLSTM" '
    '--out=experiments/figure_gate_histograms'
  ),
  protocol=(
    'networks of 250,000 parameters, 1,200 steps on Penn Treebank, a quarter '
    'of an epoch'
  ),
  notes=(
    'The four runs have the fields and learning rates of '
    'experiments/ptb_budget, `train.num_steps` 1,200 and seed 0. Percentages '
    'are the shares at either end (docs/weights.md); `gates.npz` has the '
    'numbers.'
  ),
)
