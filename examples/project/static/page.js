// What the pages of the examples share.

/** Make an element; strings among its children are text, never HTML. */
export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Say in the page whether it is connected. */
export function showStatus(bridge) {
  const status = document.querySelector("#status");
  bridge.addEventListener("open", () => (status.textContent = "Connected"));
  bridge.addEventListener("reconnecting", () => (status.textContent = "Connection lost, reconnecting…"));
  bridge.addEventListener("close", ({ reconnects, reason }) => {
    if (!reconnects) status.textContent = `Not connected. ${reason}`;
  });
}

/** Send a form in the background; returns the response. */
export async function post(form) {
  return fetch(form.action, { method: "POST", body: new FormData(form) });
}
