// The page: photos in, labels and maps out. The work is done by engine.js in a worker.

import { evidence, enlarged, legend, overlay, place, probabilities } from "./draw.js";
import { labelRow } from "./labels.js";
import { saveJson, savePictures } from "./save.js";
import { prepareSources } from "./sources.js";

const LARGEST_FILE = 64e6; // bytes
const SHOWN_LABELS = 12;
const MOVE = 0.05; // of the photo, for an arrow key

const element = (id) => document.getElementById(id);
const frameAtStart = () => ({ zoom: 1, x: 0, y: 0 });

let config, worker;
let photo = null; // ImageBitmap
let photoName = "";
let asked = new Set(); // labels of which the likeliest is shown first; of all labels if empty
let frame = frameAtStart();
let result = null; // the worker's answer, with probabilities
let chosen = 0;
let versus = null;
let maps = []; // what is drawn: {title, text, map, raw}
let running = false;
let waiting = false; // a run was asked for while another was on its way
let choices = 0; // number of photos that were asked for; the last one counts
let touched = null; // where the pointer was last, in CSS pixels

// ---- words ----

const say = (text) => { element("status").textContent = text; };

function problem(text) {
  element("problem").hidden = !text;
  element("problem").textContent = text;
}

let shownNames = null;

/**
 * Return a label as it is shown: the first of its synonyms, without underscores. Labels that would
 * become the same stay whole.
 */
function nameOf(index) {
  if (!shownNames) {
    const first = config.labels.map((label) => label.split(",")[0].trim());
    const counts = new Map();
    for (const name of first) counts.set(name, (counts.get(name) ?? 0) + 1);
    shownNames = first.map((name, n) =>
      (name && counts.get(name) === 1 ? name : config.labels[n]).replaceAll("_", " "));
  }
  return shownNames[index];
}

const count = (number) => number.toLocaleString("en");

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

// ---- start ----

/** Start a worker from a blob: unlike one from a file, it is bound by the page's own rules. */
function startWorker() {
  const script = `import ${JSON.stringify(new URL("engine.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const started = new Worker(url, { type: "module" });
  started.onmessage = ({ data }) => HANDLERS[data.kind](data);
  started.onerror = () => HANDLERS.error({ during: "load", text: "its worker did not start" });
  return started;
}

const HANDLERS = {
  progress: ({ share }) => { element("progress").value = share; },
  ready() {
    problem(""); // a photo that came too early said that the model is still loading
    element("progress").hidden = true;
    for (const id of ["choose", "camera", "example"]) element(id).disabled = false;
    element("choose-label").classList.remove("disabled");
    say("The model is ready.");
    document.body.dataset.ready = "yes";
  },
  result(answer) {
    running = false;
    const next = waiting;
    if (next) run();
    // While a photo is dragged, its map follows. Before the first answer of a photo there is no
    // result, and this answer may be that of the photo before it.
    if (!next || result) show(answer);
  },
  error({ during, text }) {
    running = false;
    if (during === "run" && waiting) return run();
    if (during === "load") document.body.dataset.failed = "yes";
    element("progress").hidden = true;
    say("");
    problem(during === "load"
      ? `The model cannot be loaded: ${text}. Reload the page, or use a newer browser.`
      : `This photo cannot be explained: ${text}. Choose another one.`);
    // Without a result, what stands there is of another photo.
    if (!result) for (const id of ["result", "labels-section", "settings"]) element(id).hidden = true;
  },
};

async function start() {
  say("Loading the model ...");
  element("progress").hidden = false;
  element("choose-label").classList.add("disabled");
  // Never from the cache: it names the model's file of this version of the page.
  const answer = await fetch("config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`config.json is missing (${answer.status})`);
  config = await answer.json();
  document.title = `Why this label? ${config.model}`;
  element("about").textContent = `${config.model} knows ${count(config.labels.length)} labels. ` +
    `Choose a photo: see what the model says, and which parts of the photo speak for a label. ` +
    config.limit;
  element("kind").textContent = config.multi_label
    ? "Each label is a question of its own, answered with yes or no."
    : "The model chooses one label; the shares of all labels add up to 100 %.";
  element("use").textContent = config.intended_use;
  credits();
  element("strength").value = config.look.strength;
  legend(element("colours"), config.look, 1);
  worker = startWorker();
  worker.postMessage({ kind: "load", base: new URL(".", location.href).href, config });
}

function credits() {
  const line = element("credits");
  line.textContent = `Made with se_zoo ${config.se_zoo} and onnxruntime-web ` +
    `${config.onnxruntime} (Microsoft, MIT licence). The example is a portrait of Grace Hopper ` +
    `(US Navy, public domain).${config.terms ? ` Terms of the model: ${config.terms}.` : ""} `;
  if (!config.link) return;
  const link = document.createElement("a");
  link.href = config.link;
  link.target = "_blank"; // so that photo and maps stay
  link.textContent = "About the model";
  line.append(link);
}

// ---- photos ----

async function open(blob, name, labels = []) {
  const number = ++choices;
  problem("");
  if (!blob.size) return problem(`${name} is empty. Choose another photo.`);
  if (blob.size > LARGEST_FILE) {
    return problem(`${name} is larger than ${LARGEST_FILE / 1e6} MB. Choose a smaller photo.`);
  }
  let opened;
  try {
    // The pixels as they are in the file, as Pillow reads them. Photos come upright by default. The
    // option that asks for it is not given, because Safari 16 refuses its value, and with it the photo.
    opened = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    if (number !== choices) return;
    return problem(`${name} is not a photo that this browser can read. Choose a JPEG, PNG or ` +
      "WebP file.");
  }
  if (number !== choices) return opened.close(); // a large photo is ready after the one chosen next
  photo?.close();
  photo = opened;
  photoName = name;
  asked = new Set(labels);
  frame = frameAtStart();
  element("zoom").value = 1;
  result = null;
  versus = null;
  run();
}

async function run() {
  waiting = running;
  if (running || !photo) return;
  running = true;
  if (!result) say("Looking at the photo ...");
  try {
    const copy = await createImageBitmap(photo);
    worker.postMessage({ kind: "run", photo: copy, frame }, [copy]);
  } catch {
    HANDLERS.error({ during: "run", text: "there is not enough memory for it" });
  }
}

function show(answer) {
  const first = !result;
  const shares = probabilities(answer.logits, config.multi_label);
  result = { ...answer, shares, order: shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]) };
  if (first) chosen = result.order.find((index) => asked.has(config.labels[index])) ?? result.order[0];
  element("drop").hidden = true;
  element("result").hidden = false;
  element("labels-section").hidden = false;
  element("settings").hidden = false;
  listLabels();
  makeMaps();
  say(`${photoName}: predicted and explained in ${answer.seconds.toFixed(2)} seconds, on this device.`);
}

// ---- maps ----

const rawOf = (index) => {
  const places = result.grid[0] * result.grid[1];
  return result.raw.slice(index * places, (index + 1) * places);
};

function makeMaps() {
  const added = (title, raw) => {
    const map = evidence(raw, config.look);
    return { title, raw, map, large: enlarged(map, [config.height, config.width], config.drawn) };
  };
  const titled = (index) => `${nameOf(index)} ${percent(result.shares[index])}`;
  maps = [added(titled(chosen), rawOf(chosen))];
  if (versus !== null) {
    const other = rawOf(versus);
    maps.push(added(titled(versus), other));
    maps.push(added(`${nameOf(chosen)} rather than ${nameOf(versus)}`,
      rawOf(chosen).map((x, i) => x - other[i])));
  }
  element("meaning").textContent = "Strong colours mark the parts of the photo that count most, " +
    "for the label or against it; parts without colour hardly count. Every map is scaled to its " +
    "own strongest spot." + (versus === null ? "" : ` In the last map, "for" speaks for ` +
    `${nameOf(chosen)}, "against" for ${nameOf(versus)}.`);
  const figures = element("figures");
  while (figures.children.length > maps.length) figures.lastChild.remove();
  while (figures.children.length < maps.length) figures.append(newFigure());
  draw();
}

function newFigure() {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  [canvas.height, canvas.width] = config.drawn;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-describedby", "framing");
  canvas.addEventListener("keydown", moveByKey);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touched = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", moveByPointer);
  figure.append(canvas, document.createElement("figcaption"));
  return figure;
}

function draw() {
  const strength = Number(element("strength").value);
  maps.forEach(({ title, large }, number) => {
    const [canvas, caption] = element("figures").children[number].children;
    canvas.getContext("2d").putImageData(
      overlay(result.drawn, large, config.look, strength), 0, 0);
    canvas.setAttribute("aria-label", described(title, large));
    canvas.style.touchAction = frame.zoom > 1 ? "none" : "pan-y";
    caption.textContent = title;
  });
}

function described(title, map) {
  const spots = [["for", 1], ["against", -1]].flatMap(([word, sign]) => {
    const spot = place(map, config.drawn, sign);
    return spot ? [`strongest ${word} it: ${spot}`] : [];
  });
  return `The photo with the map of ${title}; ${spots.join("; ") || "no evidence anywhere"}.`;
}

// ---- framing ----

function move(x, y) {
  if (!result) return;
  frame = { ...frame, x: frame.x + x, y: frame.y + y };
  keepInside();
  run();
}

/** Do not let the frame's offset grow where the part that is seen has reached the edge. */
function keepInside() {
  const { width, height } = result.region;
  const room = (whole, part) => Math.max(0, (whole - part) / 2 / whole);
  const clip = (offset, most) => Math.min(most, Math.max(-most, offset));
  frame.x = clip(frame.x, room(photo.width, width));
  frame.y = clip(frame.y, room(photo.height, height));
}

function moveByKey(event) {
  const steps = { ArrowLeft: [-MOVE, 0], ArrowRight: [MOVE, 0], ArrowUp: [0, -MOVE], ArrowDown: [0, MOVE] };
  if (!(event.key in steps)) return;
  event.preventDefault();
  move(...steps[event.key].map((step) => step / frame.zoom));
}

function moveByPointer(event) {
  if (!event.buttons) return;
  if (!result) return;
  const { width, height } = result.region; // a squashed photo has two scales
  const across = width / event.target.clientWidth; // pixels of the photo a CSS pixel
  const down = height / event.target.clientHeight;
  // Not movementX, which Safari on iOS has from version 17 on only.
  const [x, y] = touched ?? [event.clientX, event.clientY];
  touched = [event.clientX, event.clientY];
  move((-(event.clientX - x) * across) / photo.width, (-(event.clientY - y) * down) / photo.height);
}

// ---- labels ----

function listLabels() {
  const words = element("filter").value.trim().replaceAll("_", " ").toLowerCase();
  const found = result.order.filter(
    (index) => config.labels[index].replaceAll("_", " ").toLowerCase().includes(words));
  const shown = found.slice(0, SHOWN_LABELS);
  for (const index of [chosen, versus]) {
    if (!words && index !== null && !shown.includes(index)) shown.push(index);
  }
  element("labels").replaceChildren(...shown.map(row));
  markLabels();
  element("more").textContent = found.length
    ? shown.length < found.length ? `${shown.length} of ${count(found.length)} labels are shown; type to find others.` : ""
    : `No label contains "${words}".`;
}

function row(index) {
  const share = result.shares[index];
  const yes = config.multi_label && share > (config.thresholds?.[index] ?? 0.5);
  return labelRow({
    index, share,
    name: nameOf(index),
    synonyms: config.labels[index].replaceAll("_", " "),
    text: `${yes ? "yes, " : ""}${percent(share)}`,
    onChoose: () => choose(index, versus === index ? null : versus),
    onCompare: () => choose(chosen, versus === index ? null : index),
  });
}

function choose(label, other) {
  if (!result) return; // the next photo's is on its way
  chosen = label;
  versus = other;
  markLabels();
  makeMaps();
  element("figures").scrollIntoView({ block: "nearest" });
}

function markLabels() {
  for (const button of element("labels").querySelectorAll("button")) {
    const index = Number(button.dataset.index);
    const second = button.classList.contains("versus");
    button.setAttribute("aria-pressed", String(index === (second ? versus : chosen)));
    button.disabled = second && index === chosen;
  }
}

// ---- files out ----

function savePicture() {
  const canvases = Array.from(element("figures").children, (figure) => figure.firstChild);
  savePictures(canvases, maps.map(({ title }) => title));
}

function saveNumbers() {
  saveJson({
    model: config.model, photo: photoName, region: result.region,
    target: config.labels[chosen], versus: versus === null ? null : config.labels[versus],
    labels: config.labels, probabilities: result.shares, // lists: some labels have the same name
    logits: Array.from(result.logits), grid: result.grid,
    maps: maps.map(({ title, raw }) => ({ title, raw: Array.from(raw) })),
  });
}

// ---- events ----

element("example").addEventListener("click", async () => {
  const number = ++choices;
  let blob = null;
  try {
    const answer = await fetch("example.png");
    if (answer.ok) blob = await answer.blob();
  } catch { /* there is no network; it is told below */ }
  if (number !== choices) return; // another photo was chosen meanwhile
  if (!blob) return problem("The example cannot be loaded. Choose a photo instead.");
  open(blob, "The example", config.example_labels);
});
prepareSources(open, problem);
element("strength").addEventListener("input", () => result && draw());
element("zoom").addEventListener("input", ({ target }) => {
  frame.zoom = Number(target.value);
  run();
});
element("filter").addEventListener("input", () => result && listLabels());
element("save-picture").addEventListener("click", () => result && savePicture());
element("save-numbers").addEventListener("click", () => result && saveNumbers());

start().catch((error) => HANDLERS.error({ during: "load", text: String(error.message || error) }));
