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
 * @param {Float32Array} raw - rows x columns of the grid
 * @param {number[]} grid - rows and columns
 * @param {number[]} size - height and width of the model's input
 * @returns {Float32Array} evidence in [-1, 1], height x width
 */
export function evidence(raw, grid, size) {
  const scale = raw.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
  const spread = raw.reduce((top, x) => Math.max(top, x), -Infinity) -
    raw.reduce((low, x) => Math.min(low, x), Infinity);
  // A constant map marks no place; stretching it would show rounding errors.
  const scaled = spread <= 1e-6 * scale ? raw.map(() => 0) : raw.map((x) => x / scale);
  return enlarged(scaled, grid, size);
}

/**
 * Resize a map by torch's bicubic interpolation, and clip what overshoots.
 * @returns {Float32Array}
 */
export function enlarged(map, from, to) {
  const rows = cubicWeights(from[0], to[0]);
  const columns = cubicWeights(from[1], to[1]);
  const wide = new Float32Array(from[0] * to[1]);
  for (let row = 0; row < from[0]; row++) {
    columns.forEach((terms, column) => {
      let sum = 0;
      for (const [at, weight] of terms) sum += map[row * from[1] + at] * weight;
      wide[row * to[1] + column] = sum;
    });
  }
  const result = new Float32Array(to[0] * to[1]);
  rows.forEach((terms, row) => {
    for (let column = 0; column < to[1]; column++) {
      let sum = 0;
      for (const [at, weight] of terms) sum += wide[at * to[1] + column] * weight;
      result[row * to[1] + column] = Math.min(1, Math.max(-1, sum));
    }
  });
  return result;
}

function cubicWeights(from, to) {
  return Array.from({ length: to }, (_, index) => {
    const centre = ((index + 0.5) * from) / to - 0.5;
    const first = Math.floor(centre);
    return [-1, 0, 1, 2].map((step) => {
      const at = Math.min(from - 1, Math.max(0, first + step));
      return [at, cubic(Math.abs(centre - first - step), -0.75)];
    });
  });
}

/**
 * Draw evidence over a picture.
 * @param {ImageData} picture
 * @param {Float32Array} map - evidence in [-1, 1], of the picture's size
 * @param {{black: number[][], white: number[][]}} palette - colours on black and white
 * @param {number} strength - in [0, 1]
 * @returns {ImageData}
 */
export function overlay(picture, map, palette, strength) {
  const result = new ImageData(picture.width, picture.height);
  const half = (palette.black.length - 1) / 2;
  for (let place = 0; place < map.length; place++) {
    const step = Math.round((map[place] + 1) * half);
    for (let channel = 0; channel < 3; channel++) {
      const under = palette.black[step][channel];
      const pixel = picture.data[place * 4 + channel];
      const full = under + ((palette.white[step][channel] - under) * pixel) / 255;
      result.data[place * 4 + channel] = pixel + strength * (full - pixel);
    }
    result.data[place * 4 + 3] = 255;
  }
  return result;
}

/** Draw all colours from "against" to "for" on grey, as the legend. */
export function legend(canvas, palette, strength) {
  const width = palette.black.length;
  canvas.width = width;
  canvas.height = 1;
  const grey = new ImageData(new Uint8ClampedArray(4 * width).fill(190), width, 1);
  const ramp = Float32Array.from({ length: width }, (_, step) => (2 * step) / (width - 1) - 1);
  canvas.getContext("2d").putImageData(overlay(grey, ramp, palette, strength), 0, 0);
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
