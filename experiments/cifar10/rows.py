"""CIFAR-10: Table 2."""

from experiments.table import Reference, Row, Table

TEST = 'test/error_percent'


def _row(name, label, error, parameters):
  return Row(
    name=name,
    label=label,
    config=f'configs/cifar10.py:{name}',
    paper={TEST: error},
    paper_parameters=parameters,
  )


TABLE = Table(
  title='CIFAR-10, test error in percent (Table 2)',
  paper='Table 2',
  metrics={TEST: 'test', 'valid/error_percent': 'validation'},
  objective='error_percent',
  data='CIFAR-10',
  rows=[
    _row('wrn_40_1', 'Wide residual network 40-1', '6.73', '0.563 M'),
    _row('hyper_wrn_40_1', 'Hyper residual network 40-1', '8.02', '0.097 M'),
    _row('wrn_40_2', 'Wide residual network 40-2', '5.66', '2.236 M'),
    _row('hyper_wrn_40_2', 'Hyper residual network 40-2', '7.23', '0.148 M'),
  ],
  references=[
    Reference('Network in network (Lin et al. 2014)', {TEST: '8.81'}),
    Reference('FitNet (Romero et al. 2014)', {TEST: '8.39'}),
    Reference('Deeply supervised nets (Lee et al. 2015)', {TEST: '8.22'}),
    Reference('Highway networks (Srivastava et al. 2015)', {TEST: '7.72'}),
    Reference('ELU (Clevert et al. 2015)', {TEST: '6.55'}),
    Reference('ResNet-110 (He et al. 2016)', {TEST: '6.43'}, '1.7 M'),
    Reference(
      'Stochastic depth, ResNet-110 (Huang et al. 2016)',
      {TEST: '5.23'},
      '1.7 M',
    ),
    Reference('WRN 40-1 (Zagoruyko et al. 2016)', {TEST: '6.85'}, '0.6 M'),
    Reference('WRN 40-2 (Zagoruyko et al. 2016)', {TEST: '5.33'}, '2.2 M'),
    Reference('WRN 28-10 (Zagoruyko et al. 2016)', {TEST: '4.17'}, '36.5 M'),
    Reference(
      'ResNet of ResNets 58-4 (Zhang et al. 2016)', {TEST: '3.77'}, '13.3 M'
    ),
    Reference('DenseNet (Huang et al. 2016)', {TEST: '3.74'}, '27.2 M'),
  ],
)
