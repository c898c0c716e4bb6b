// Making elements. Text only ever goes into text nodes, so nothing that people type is HTML.

/** Make an element: `make("p", { class: "who" }, "text or elements", …)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Make the round badge of a person, in a colour that belongs to the name. */
export function badge(name) {
  const words = name.split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [name];
  const initials = letters.map((word) => [...word][0]).join("").toUpperCase();
  const element = make("span", { class: "badge", "aria-hidden": "true" }, initials);
  element.style.setProperty("--hue", hue(name));
  return element;
}

function hue(name) {
  let hash = 0x811c9dc5; // FNV-1a, and one more mix for its low bits
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return ((hash ^ (hash >>> 15)) >>> 0) % 360;
}
