// Makes avatars.npz, the faces that the model `avatars` learns: 16x16 RGB, four classes, the same to the last bit
// at every run. Of the endless row of such faces it takes COUNT from number FIRST on.
//
//     npm install @dicebear/core@9.4.3 @dicebear/pixel-art@9.4.3 @resvg/resvg-js@2.6.2 fflate@0.8
//     node weights/make_avatars.mjs avatars.npz [COUNT, default 40000] [FIRST, default 0]
//
// The design is "Pixel Art" by DiceBear, CC0 1.0 (https://www.dicebear.com/styles/pixel-art/).

import { writeFileSync } from 'node:fs';
import { createAvatar } from '@dicebear/core';
import * as style from '@dicebear/pixel-art';
import { Resvg } from '@resvg/resvg-js';
import { zipSync } from 'fflate';

const SIZE = 16;
const BACKGROUNDS = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf', 'f4f4f4'];
const CLASSES = {
  plain: {},
  glasses: { glassesProbability: 100 },
  hat: { hatProbability: 100 },
  beard: { beardProbability: 100 },
};

/** The pixels, RGB, of face `i`; classes take turns. */
function face(i) {
  const svg = createAvatar(style, {
    seed: `avatar-${i}`,
    size: SIZE,
    backgroundColor: BACKGROUNDS,
    backgroundType: ['solid'],
    accessoriesProbability: 15,
    glassesProbability: 0,
    hatProbability: 0,
    beardProbability: 0,
    ...Object.values(CLASSES)[i % 4],
  }).toString();
  const drawn = new Resvg(svg, { fitTo: { mode: 'width', value: SIZE }, shapeRendering: 1 }).render().pixels;
  return drawn.filter((_, at) => at % 4 < 3);
}

/** An array as NumPy's .npy: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
function npy(type, shape, data) {
  const dictionary = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const header = Buffer.from(dictionary.padEnd(128 - 10 - 1) + '\n', 'latin1');
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), Buffer.from([header.length, 0]), header, data]);
}

const [path, count = 40000, first = 0] = process.argv.slice(2);
if (!path || !(count > 0) || !(first >= 0)) {
  console.error('usage: node make_avatars.mjs avatars.npz [COUNT] [FIRST]');
  process.exit(2);
}
const n = Number(count);
const names = Object.keys(CLASSES);
const numbers = Array.from({ length: n }, (_, i) => Number(first) + i);
const x = Buffer.concat(numbers.map(face));
const y = Buffer.from(Uint8Array.from(numbers, (i) => i % 4));
const letters = names.map((name) => name.padEnd(7, '\0')).join('');
const classes = new Uint8Array(Uint32Array.from(letters, (letter) => letter.codePointAt(0)).buffer);
writeFileSync(path, zipSync({
  'x.npy': npy('|u1', [n, SIZE, SIZE, 3], x),
  'y.npy': npy('|u1', [n], y),
  'classes.npy': npy('<U7', [names.length], classes),
}));
