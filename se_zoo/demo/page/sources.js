// Where photos come from: files, drops, pastes and the camera.

const element = (id) => document.getElementById(id);
const CAMERA_PROBLEMS = {
  NotFoundError: "No camera was found. Choose a photo instead.",
  NotReadableError: "The camera cannot be opened; another program may use it. Close that one, or " +
    "choose a photo.",
};
let stream = null;

/**
 * Make everything work that gives the page a photo.
 * @param {(photo: Blob, name: string) => void} onPhoto - called with every photo
 * @param {(text: string) => void} onProblem - called with a sentence, or "" when there is none
 */
export function prepareSources(onPhoto, onProblem) {
  element("choose").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) onPhoto(file, file.name);
    target.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.add("dragging");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (!isReady("Drop", onProblem)) return;
    const [file] = event.dataTransfer.files;
    if (file) onPhoto(file, file.name);
    else onProblem("That was not a file. Save the picture first, then drop its file here.");
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    const [file] = clipboardData.files;
    if (file && isReady("Paste", onProblem)) onPhoto(file, file.name || "The pasted picture");
  });
  element("camera").addEventListener("click", () => start(onProblem));
  element("stop").addEventListener("click", stop);
  element("shoot").addEventListener("click", async () => {
    const video = element("video");
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    onPhoto(await canvas.convertToBlob({ type: "image/png" }), "Photo of the camera");
  });
}

/** Return whether the model is there, and say it if it is on its way. */
function isReady(verb, onProblem) {
  const { ready, failed } = document.body.dataset;
  // Why the model cannot be loaded stands there already, and stays.
  if (!ready && !failed) onProblem(`The model is still loading. ${verb} the photo again in a moment.`);
  return Boolean(ready);
}

async function start(onProblem) {
  onProblem("");
  stop();
  element("camera").disabled = true; // a second click would start another one, which stays on
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    // It ends by itself when it is unplugged, or no longer allowed. The picture would stand still.
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => {
        stop();
        onProblem("The camera was taken away. Choose a photo instead.");
      });
    }
    element("video").srcObject = stream;
    await element("video").play();
  } catch (error) {
    stop();
    return onProblem(CAMERA_PROBLEMS[error.name] ??
      "The camera cannot be used. Allow it in the browser's settings (it needs a page with " +
      "https), or choose a photo.");
  } finally {
    element("camera").disabled = false;
  }
  element("live").hidden = false;
  element("shoot").focus();
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  element("video").srcObject = null;
  element("live").hidden = true;
}
