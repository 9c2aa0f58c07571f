// Where photos come from: files, drops, pastes and the camera.

const element = (id) => document.getElementById(id);
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
    const [file] = event.dataTransfer.files;
    if (!document.body.dataset.ready) {
      onProblem("The model is still loading. Drop the photo again in a moment.");
    } else if (file) onPhoto(file, file.name);
    else onProblem("That was not a file. Save the picture first, then drop its file here.");
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    const [file] = clipboardData.files;
    if (file && document.body.dataset.ready) onPhoto(file, file.name || "The pasted picture");
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

async function start(onProblem) {
  onProblem("");
  stop();
  element("camera").disabled = true; // a second click would start another one, which stays on
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  } catch (error) {
    return onProblem(error.name === "NotFoundError"
      ? "No camera was found. Choose a photo instead."
      : "The camera cannot be used. Allow it in the browser's settings (it needs a page with " +
        "https), or choose a photo.");
  } finally {
    element("camera").disabled = false;
  }
  element("video").srcObject = stream;
  await element("video").play();
  element("live").hidden = false;
  element("shoot").focus();
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  element("video").srcObject = null;
  element("live").hidden = true;
}
