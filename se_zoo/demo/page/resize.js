// Cut and resize photos as Pillow and timm do, to the bit: a browser's own resizing gives other
// pixels, and with them other probabilities.

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x), -0.5) },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
const PRECISION = 22; // bits behind the point of Pillow's whole-number weights
const STRIP = 256; // rows that are read at a time, so that a large photo needs little memory

export function cubic(x, a) {
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

// Python's round: halves go to the even neighbour.
function round(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 ? low + 1 : low;
}

/**
 * Return the part of a photo that the model sees: its centre, in the shape of the model's input.
 * @param {{width: number, height: number}} photo - size in pixels
 * @param {object} config - width, height, crop_pct and crop_mode of the model
 * @param {{x: number, y: number, zoom: number}} frame - a smaller part: zoom 2 is half as wide; x
 *   and y move its centre, in widths and heights of the photo
 * @returns {{left: number, top: number, width: number, height: number}} whole pixels
 */
export function visibleRegion(photo, config, frame) {
  let width, height;
  if (config.crop_mode === "squash") {
    width = photo.width * config.crop_pct;
    height = photo.height * config.crop_pct;
  } else {
    const zoom =
      Math.min(photo.width / config.width, photo.height / config.height) * config.crop_pct;
    width = config.width * zoom;
    height = config.height * zoom;
  }
  width = Math.max(1, round(width / frame.zoom));
  height = Math.max(1, round(height / frame.zoom));
  const place = (whole, part, offset) =>
    Math.min(whole - part, Math.max(0, Math.floor((whole - part) / 2) + round(offset * whole)));
  return {
    left: place(photo.width, width, frame.x),
    top: place(photo.height, height, frame.y),
    width,
    height,
  };
}

// First pixel and whole-number weights of each output pixel (Pillow's precompute_coeffs).
function coefficients(from, to, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = weights.map((w) => {
      const scaled = (w / sum) * 2 ** PRECISION;
      return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    return { first, weights: Int32Array.from(whole) };
  });
}

const toByte = (sum) => Math.min(255, Math.max(0, sum >> PRECISION));

/**
 * Cut a part out of a photo and resize it.
 * @param {ImageBitmap} photo
 * @param {{left: number, top: number, width: number, height: number}} region
 * @param {number} width - width of the result
 * @param {number} height - height of the result
 * @param {string} interpolation - "bilinear", "bicubic" or "lanczos"
 * @returns {Uint8Array} red, green and blue of each pixel, row by row
 */
export function resized(photo, region, width, height, interpolation) {
  const columns = coefficients(region.width, width, FILTERS[interpolation]);
  const rows = coefficients(region.height, height, FILTERS[interpolation]);
  const narrow = new Uint8Array(region.height * width * 3);
  for (let top = 0; top < region.height; top += STRIP) {
    const count = Math.min(STRIP, region.height - top);
    narrow.set(narrowed(strip(photo, region, top, count), region.width, columns), top * width * 3);
  }
  const result = new Uint8Array(width * height * 3);
  const line = width * 3;
  rows.forEach(({ first, weights }, row) => {
    for (let x = 0; x < line; x++) {
      let sum = 1 << (PRECISION - 1);
      for (let k = 0; k < weights.length; k++) sum += narrow[(first + k) * line + x] * weights[k];
      result[row * line + x] = toByte(sum);
    }
  });
  return result;
}

// Red, green, blue and opacity of some rows of the region; transparent pixels are put on white.
function strip(photo, region, top, count) {
  const context = new OffscreenCanvas(region.width, count).getContext("2d", {
    willReadFrequently: true,
  });
  context.fillStyle = "white";
  context.fillRect(0, 0, region.width, count);
  context.drawImage(
    photo, region.left, region.top + top, region.width, count, 0, 0, region.width, count,
  );
  return context.getImageData(0, 0, region.width, count).data;
}

function narrowed(pixels, from, columns) {
  const count = pixels.length / 4 / from;
  const result = new Uint8Array(count * columns.length * 3);
  let at = 0;
  for (let row = 0; row < count; row++) {
    for (const { first, weights } of columns) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (PRECISION - 1);
        let pixel = (row * from + first) * 4 + channel;
        for (let k = 0; k < weights.length; k++, pixel += 4) sum += pixels[pixel] * weights[k];
        result[at++] = toByte(sum);
      }
    }
  }
  return result;
}
