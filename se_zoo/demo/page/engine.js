// The worker: prepare a photo, run the model, return logits and the raw maps of all labels.

import { resized, visibleRegion } from "./resize.js";

let config, session, ort;

// Download a file, telling how much of it has come.
async function download(url, size) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname} is missing (${answer.status})`);
  const content = new Uint8Array(size);
  let at = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) throw new Error(`${url.pathname} is larger than it should be`);
    content.set(value, at);
    at += value.length;
    self.postMessage({ kind: "progress", share: at / size });
  }
  if (at < size) throw new Error(`${url.pathname} is cut off`);
  return content;
}

async function load(message) {
  config = message.config;
  const base = new URL(message.base);
  ort = await import(new URL("ort/ort.wasm.min.mjs", base));
  ort.env.wasm.wasmPaths = new URL("ort/", base).href;
  // Threads need headers that a plain web server does not send.
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(4, navigator.hardwareConcurrency || 1)
    : 1;
  // The hash, so that a model of an earlier page at this address does not come from the cache.
  const address = new URL(`model.onnx?${config.model_sha256}`, base);
  const model = await download(address, config.model_bytes);
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  self.postMessage({ kind: "ready" });
}

function normalised(pixels) {
  const places = config.width * config.height;
  const input = new Float32Array(3 * places);
  for (let channel = 0; channel < 3; channel++) {
    const mean = config.mean[channel];
    const std = config.std[channel];
    for (let place = 0; place < places; place++) {
      input[channel * places + place] = (pixels[place * 3 + channel] / 255 - mean) / std;
    }
  }
  return input;
}

// The region at the size at which it is drawn.
function picture(photo, region) {
  const [height, width] = config.drawn;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const { left, top } = region;
  context.drawImage(photo, left, top, region.width, region.height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function run({ photo, frame }) {
  const start = performance.now();
  const region = visibleRegion(photo, config, frame);
  const { width, height, interpolation } = config;
  let pixels, drawn;
  try {
    pixels = resized(photo, region, width, height, interpolation);
    drawn = picture(photo, region);
  } finally {
    photo.close(); // it may take 200 MB
  }
  const images = new ort.Tensor("float32", normalised(pixels), [1, 3, height, width]);
  const outputs = await session.run({ images });
  self.postMessage({
    kind: "result", region, drawn,
    logits: outputs.logits.data,
    raw: outputs.raw.data, // one map for each label
    grid: outputs.raw.dims.slice(2),
    seconds: (performance.now() - start) / 1000,
  });
}

// One message after the other: the session takes one photo at a time.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue
    .then(() => (data.kind === "load" ? load(data) : run(data)))
    .catch((error) => {
      const text = String(error.message || error);
      self.postMessage({ kind: "error", during: data.kind, text });
    });
};
