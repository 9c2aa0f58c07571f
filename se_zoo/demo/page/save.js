// Files that the page gives back.

const CAPTION = 30; // height in pixels

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** Save pictures side by side, each with its title above it. */
export async function savePictures(canvases, titles) {
  const { width, height } = canvases[0];
  const canvas = new OffscreenCanvas(width * canvases.length, height + CAPTION);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "black";
  context.font = "16px system-ui, sans-serif";
  canvases.forEach((picture, number) => {
    context.drawImage(picture, number * width, CAPTION);
    context.fillText(titles[number], number * width + 4, CAPTION - 10, width - 8);
  });
  save(await canvas.convertToBlob({ type: "image/png" }), "explanation.png");
}

/** Save numbers as JSON. */
export function saveJson(numbers) {
  const text = JSON.stringify(numbers, null, 2);
  save(new Blob([text], { type: "application/json" }), "explanation.json");
}
