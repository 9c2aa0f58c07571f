// A row in the list of labels.

/**
 * Return a list item with a button for the label and one to compare it with the chosen one.
 * @param {{index: number, share: number, name: string, synonyms: string, text: string,
 *   onChoose: () => void, onCompare: () => void}} label
 * @returns {HTMLLIElement}
 */
export function labelRow({ index, share, name, synonyms, text, onChoose, onCompare }) {
  const label = button("label", index, onChoose);
  label.title = synonyms;
  label.append(span("bar", ""), span("name", name), span("share", text));
  label.firstChild.style.width = `${100 * share}%`;
  const compare = button("versus", index, onCompare);
  compare.textContent = "compare";
  compare.setAttribute("aria-label", `Compare with ${name}`);
  const item = document.createElement("li");
  item.append(label, compare);
  return item;
}

function button(kind, index, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.dataset.index = index;
  made.addEventListener("click", onClick);
  return made;
}

function span(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}
