// Maps and their colours, as se_zoo draws them.

import { cubic } from "./resize.js";

/**
 * Return probabilities from logits: of yes/no labels each by itself, else their shares.
 * @param {Float32Array} logits
 * @param {boolean} multiLabel
 * @returns {number[]}
 */
export function probabilities(logits, multiLabel) {
  const all = Array.from(logits);
  if (multiLabel) return all.map((x) => 1 / (1 + Math.exp(-x)));
  const top = Math.max(...all);
  const powers = all.map((x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/**
 * Scale a raw map so that its strongest spot is 1 or -1, and resize it to the model's input.
 * @param {Float32Array} raw - one map, as many numbers as rows and columns have weights
 * @param {{rows: number[][], columns: number[][]}} look - weights of the grid's rows and columns
 * @returns {Float32Array} evidence in [-1, 1], height x width
 */
export function evidence(raw, { rows, columns }) {
  const top = raw.reduce((most, x) => Math.max(most, x), -Infinity);
  const low = raw.reduce((least, x) => Math.min(least, x), Infinity);
  const scale = Math.max(top, -low);
  // A constant map marks no place; stretching it would show rounding errors.
  const scaled = top - low <= 1e-6 * scale ? raw.map(() => 0) : raw.map((x) => x / scale);
  return resized(scaled, rows, columns);
}

/**
 * Resize a map by torch's bicubic interpolation, and clip what overshoots.
 * @param {Float32Array} map
 * @param {number[]} from - its rows and columns
 * @param {number[]} to - rows and columns of the result
 * @returns {Float32Array}
 */
export function enlarged(map, from, to) {
  return resized(map, cubicWeights(from[0], to[0]), cubicWeights(from[1], to[1]));
}

function cubicWeights(from, to) {
  return Array.from({ length: to }, (_, index) => {
    const centre = ((index + 0.5) * from) / to - 0.5;
    const first = Math.floor(centre);
    const weights = new Array(from).fill(0);
    for (const step of [-1, 0, 1, 2]) {
      const at = Math.min(from - 1, Math.max(0, first + step));
      weights[at] += cubic(Math.abs(centre - first - step), -0.75);
    }
    return weights;
  });
}

// rows @ map @ columns.T, clipped to [-1, 1]; most of the weights are 0.
function resized(map, rows, columns) {
  const inner = columns[0].length;
  const terms = (weights) => [...weights.entries()].filter(([, weight]) => weight !== 0);
  const wide = new Float32Array(rows[0].length * columns.length);
  columns.map(terms).forEach((column, x) => {
    for (let y = 0; y < rows[0].length; y++) {
      let sum = 0;
      for (const [at, weight] of column) sum += map[y * inner + at] * weight;
      wide[y * columns.length + x] = sum;
    }
  });
  const result = new Float32Array(rows.length * columns.length);
  rows.map(terms).forEach((row, y) => {
    for (let x = 0; x < columns.length; x++) {
      let sum = 0;
      for (const [at, weight] of row) sum += wide[at * columns.length + x] * weight;
      result[y * columns.length + x] = Math.min(1, Math.max(-1, sum));
    }
  });
  return result;
}

/**
 * Draw evidence over a picture, which is grey below it; at strength 0 the picture itself.
 * @param {ImageData} picture
 * @param {Float32Array} map - evidence in [-1, 1], of the picture's size
 * @param {{black: number[][], white: number[][], luma: number[]}} look - colours on black and white,
 *   and the shares of red, green and blue in grey
 * @param {number} strength - in [0, 1]
 * @returns {ImageData}
 */
export function overlay(picture, map, look, strength) {
  const result = new ImageData(picture.width, picture.height);
  const half = (look.black.length - 1) / 2;
  for (let place = 0; place < map.length; place++) {
    const step = Math.round((map[place] + 1) * half);
    let grey = 0;
    for (let channel = 0; channel < 3; channel++) {
      grey += (look.luma[channel] * picture.data[place * 4 + channel]) / 255;
    }
    for (let channel = 0; channel < 3; channel++) {
      const [base, full] = [half, step].map((at) =>
        look.black[at][channel] + (look.white[at][channel] - look.black[at][channel]) * grey);
      const pixel = picture.data[place * 4 + channel];
      result.data[place * 4 + channel] = strength === 0 ? pixel : base + strength * (full - base);
    }
    result.data[place * 4 + 3] = 255;
  }
  return result;
}

/** Draw all colours from "against" to "for" on grey, as the legend. */
export function legend(canvas, look, strength) {
  const width = look.black.length;
  canvas.width = width;
  canvas.height = 1;
  const grey = new ImageData(new Uint8ClampedArray(4 * width).fill(190), width, 1);
  const ramp = Float32Array.from({ length: width }, (_, step) => (2 * step) / (width - 1) - 1);
  canvas.getContext("2d").putImageData(overlay(grey, ramp, look, strength), 0, 0);
}

/** Say in words where the strongest spot of a map lies; sign 1 asks for "for", -1 for "against". */
export function place(map, size, sign) {
  let best = 0;
  for (let at = 1; at < map.length; at++) if (sign * map[at] > sign * map[best]) best = at;
  if (sign * map[best] < 0.05) return null;
  const third = (x, whole) => Math.min(2, Math.floor((3 * x) / whole));
  const row = ["top", "", "bottom"][third(Math.floor(best / size[1]), size[0])];
  const column = ["left", "", "right"][third(best % size[1], size[1])];
  return [row, column].filter(Boolean).join(" ") || "centre";
}
