import type { Report } from '../../src/core/report.ts';

const classes = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];

/** A confusion matrix in which shirts are taken for T-shirts, pullovers and coats. */
export const confusion = classes.map((_, truth) =>
  classes.map((_, predicted) => {
    if (truth === predicted) return truth === 6 ? 702 : 900 + ((truth * 13) % 70);
    return truth === 6 && [0, 2, 4].includes(predicted)
      ? 80 + predicted * 5
      : (truth * 7 + predicted * 3) % 9;
  }),
);

/** A report with every kind of block. */
export const sample: Report = {
  key: 'evaluation/fashion',
  title: 'fashion for production, version 9',
  verdict: 'fail',
  summary: 'accuracy is 3.12 points below the limit of 85 %.',
  blocks: [
    { kind: 'text', text: 'Recognise clothes for @shop.\nAsk #12 or *call* us.\n\n/close\n1. not a list' },
    {
      kind: 'facts',
      facts: [
        ['Size', '407 kB'],
        ['Trained on', `sha256:${'ab'.repeat(32)}`],
      ],
    },
    {
      kind: 'gates',
      gates: [
        { name: 'accuracy ≥ 85 %', status: 'fail', explanation: '81.88 % is 3.12 points below the limit' },
        {
          name: 'recall[Shirt] drop ≤ 5 points against production',
          status: 'pass',
          explanation: '70.20 % against 69.00 %: +1.20 points',
        },
        {
          name: 'log_loss rise ≤ 0.1 against production',
          status: 'skip',
          explanation: 'nothing is in production yet',
        },
      ],
    },
    { kind: 'heading', text: 'Metrics' },
    {
      kind: 'table',
      head: ['metric', 'candidate', 'production', 'difference'],
      align: ['left', 'right', 'right', 'right'],
      rows: [
        ['accuracy', '0.8188', '0.8500', '-0.0312'],
        ['macro_f1', '0.8170', '0.8492', '-0.0322'],
        ['a|b <b>', '1', '2', ''],
      ],
    },
    { kind: 'chart', chart: { kind: 'confusion', title: 'Confusion', classes, counts: confusion } },
    {
      kind: 'details',
      summary: 'Training & <curves>',
      blocks: [
        {
          kind: 'chart',
          chart: {
            kind: 'lines',
            title: 'Loss',
            x: 'epoch',
            y: 'loss',
            series: [
              {
                name: 'training',
                points: [
                  [1, 0.91],
                  [2, 0.55],
                  [3, 0.47],
                  [4, 0.42],
                  [5, 0.4],
                  [6, 0.39],
                ],
              },
              {
                name: 'validation',
                points: [
                  [1, 0.7],
                  [2, 0.52],
                  [3, 0.49],
                  [4, 0.47],
                  [5, 0.475],
                  [6, 0.48],
                ],
              },
            ],
          },
        },
        {
          kind: 'chart',
          chart: {
            kind: 'bars',
            title: 'Items a class',
            x: 'class',
            y: 'items',
            bars: classes.map((name, index) => ({ name, value: 5600 - index * 37 })),
          },
        },
        { kind: 'code', language: 'yaml', text: 'a: 1\n/approve\n```\n/merge' },
      ],
    },
    { kind: 'command', command: '/approve 3f9a2c41', why: 'To approve exactly this' },
  ],
  refs: { candidate: `sha256:${'3f9a'.repeat(16)}` },
};
