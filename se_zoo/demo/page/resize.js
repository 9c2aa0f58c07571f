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

// Width and height of a photo after timm's resizing, before its crop.
function resizedSize(photo, config) {
  const columns = Math.floor(config.width / config.crop_pct);
  const rows = Math.floor(config.height / config.crop_pct);
  if (config.crop_mode === "squash") return { width: columns, height: rows };
  if (rows === columns) { // torchvision cuts the longer side off
    const longer = (long, short) => Math.trunc((rows * long) / short);
    return photo.width <= photo.height
      ? { width: rows, height: longer(photo.height, photo.width) }
      : { width: longer(photo.width, photo.height), height: rows };
  }
  const ratio = Math.min(photo.height / rows, photo.width / columns);
  return { width: round(photo.width / ratio), height: round(photo.height / ratio) };
}

/**
 * Return the part of a photo that the model sees, as timm's transform for evaluation cuts it.
 * @param {{width: number, height: number}} photo - size in pixels
 * @param {object} config - width, height, crop_pct and crop_mode of the model
 * @param {{x: number, y: number, zoom: number}} frame - a smaller part: zoom 2 is half as wide; x
 *   and y move its centre, in widths and heights of the photo
 * @returns {{left: number, top: number, width: number, height: number}} in pixels, with fractions
 */
export function visibleRegion(photo, config, frame) {
  const full = resizedSize(photo, config);
  const side = (whole, resized, kept, offset) => {
    const scale = whole / resized;
    const part = (kept * scale) / frame.zoom;
    const start = round((resized - kept) / 2) * scale + (kept * scale - part) / 2 + offset * whole;
    return [Math.min(Math.max(0, whole - part), Math.max(0, start)), part];
  };
  const [left, width] = side(photo.width, full.width, config.width, frame.x);
  const [top, height] = side(photo.height, full.height, config.height, frame.y);
  return { left, top, width, height };
}

// First pixel and whole-number weights of each output pixel (Pillow's precompute_coeffs), for a part
// of a photo's side.
function coefficients(whole, start, part, to, filter) {
  const scale = part / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: to }, (_, index) => {
    const centre = start + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(whole, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    const integers = weights.map((w) => {
      const scaled = (w / sum) * 2 ** PRECISION;
      return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    return { first, weights: Int32Array.from(integers) };
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
  const filter = FILTERS[interpolation];
  const columns = coefficients(photo.width, region.left, region.width, width, filter);
  const rows = coefficients(photo.height, region.top, region.height, height, filter);
  const across = extent(columns), down = extent(rows);
  const narrow = new Uint8Array(down.count * width * 3);
  for (let top = 0; top < down.count; top += STRIP) {
    const count = Math.min(STRIP, down.count - top);
    const pixels = strip(photo, across, down.first + top, count);
    narrow.set(narrowed(pixels, across, columns), top * width * 3);
  }
  const result = new Uint8Array(width * height * 3);
  const line = width * 3;
  rows.forEach(({ first, weights }, row) => {
    for (let x = 0; x < line; x++) {
      let sum = 1 << (PRECISION - 1);
      for (let k = 0; k < weights.length; k++) sum += narrow[(first - down.first + k) * line + x] * weights[k];
      result[row * line + x] = toByte(sum);
    }
  });
  return result;
}

// First pixel and number of the pixels that all coefficients need.
function extent(coefficients) {
  const first = coefficients[0].first, last = coefficients[coefficients.length - 1];
  return { first, count: last.first + last.weights.length - first };
}

// Red, green, blue and opacity of some rows; transparent pixels are put on white.
function strip(photo, across, top, count) {
  const context = new OffscreenCanvas(across.count, count).getContext("2d", {
    willReadFrequently: true,
  });
  context.fillStyle = "white";
  context.fillRect(0, 0, across.count, count);
  context.drawImage(
    photo, across.first, top, across.count, count, 0, 0, across.count, count,
  );
  return context.getImageData(0, 0, across.count, count).data;
}

function narrowed(pixels, across, columns) {
  const count = pixels.length / 4 / across.count;
  const result = new Uint8Array(count * columns.length * 3);
  let at = 0;
  for (let row = 0; row < count; row++) {
    for (const { first, weights } of columns) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (PRECISION - 1);
        let pixel = (row * across.count + first - across.first) * 4 + channel;
        for (let k = 0; k < weights.length; k++, pixel += 4) sum += pixels[pixel] * weights[k];
        result[at++] = toByte(sum);
      }
    }
  }
  return result;
}
