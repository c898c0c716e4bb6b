import { badge, make } from "/static/elements.js";
import { connect } from "/static/socket.js";

const SAME_BREATH = 300; // seconds within which messages of one person stand together
const SEND_AGAIN = 5_000; // milliseconds without an echo after which a message is sent again

const room = location.pathname.split("/")[2];
const me = sessionStorage.getItem("name");
if (!me) {
  location.replace(`/?room=${room}`); // to pick a name
  await new Promise(() => {}); // nothing below runs
}

const [log, text, form, people, alert, newer, nothing] = [
  "log", "text", "say", "people", "alert", "newer", "nothing",
].map((id) => document.getElementById(id));
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const waiting = new Map(); // messages that have not come back yet: ref → { text, element, since }
let peopleAt = 0;

document.title = `${room} · Busway chat`;
document.getElementById("title").textContent = room;

const handlers = {
  welcome({ history }) {
    peopleAt = 0;
    history.forEach(showSaid);
    nothing.hidden = Boolean(log.querySelector(".message"));
    scrollDown();
    for (const ref of waiting.keys()) deliver(ref);
  },
  said: ({ said }) => showSaid(said),
  people({ people: { at, names }, joined, left }) {
    if (at > peopleAt) {
      peopleAt = at;
      showPeople(names);
    }
    if (joined && joined !== me) notice(at, joined, "joined");
    if (left && left !== me) notice(at, left, "left");
  },
  error({ error }) {
    showAlert(error);
    alertTimer = setTimeout(() => (alert.hidden = true), 8_000);
  },
  refused({ reason }) {
    showAlert(reason, " ", make("a", { href: `/?room=${room}` }, "Back to the rooms"));
  },
};

// -- showing --------------------------------------------------------------------------------

function showSaid({ at, name, text, ref }) {
  waiting.get(ref)?.element.remove();
  waiting.delete(ref);
  if (log.querySelector(`.message[data-at="${at}"]`)) return;
  insert(message(at, name, text), at);
}

function message(at, name, text) {
  const date = new Date(at * 1000);
  const time = make("time", { datetime: date.toISOString() }, clock.format(date));
  const element = make(
    "div",
    { class: name === me ? "message mine" : "message" },
    badge(name),
    make("p", { class: "who" }, make("bdi", {}, name), time),
    make("p", { class: "text", dir: "auto" }, text),
  );
  element.dataset.name = name;
  element.dataset.said = at;
  return element;
}

function notice(at, name, what) {
  insert(make("p", { class: "notice" }, make("bdi", {}, name), ` ${what}`), at);
}

function showPeople(names) {
  document.getElementById("count").textContent = names.length;
  people.replaceChildren(
    ...names.map((name) => {
      const you = name === me ? [make("small", {}, "you")] : [];
      return make("li", {}, badge(name), make("bdi", {}, name), ...you);
    }),
  );
}

let alertTimer;
function showAlert(...words) {
  clearTimeout(alertTimer);
  alert.replaceChildren(...words);
  alert.hidden = false;
}

/** Put an element where its time belongs; what has no echo yet stays at the end. */
function insert(element, at) {
  const follow = atBottom();
  element.dataset.at = at;
  let before = log.lastElementChild;
  while (before && !(Number(before.dataset.at) <= at)) before = before.previousElementSibling;
  before ? before.after(element) : log.prepend(element);
  join(element);
  join(element.nextElementSibling);
  nothing.hidden = true;
  if (follow || element.matches(".mine")) scrollDown();
  else newer.hidden = false;
}

/** Leave out badge and name below a message of the same person from just before. */
function join(element) {
  const previous = element?.previousElementSibling;
  if (!element?.matches(".message") || !previous) return;
  const soon = element.dataset.said - previous.dataset.said < SAME_BREATH;
  element.classList.toggle("joined", soon && previous.dataset.name === element.dataset.name);
}

function atBottom() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function scrollDown() {
  log.scrollTop = log.scrollHeight;
  newer.hidden = true;
}

// -- saying ---------------------------------------------------------------------------------

function say() {
  const words = text.value.trim();
  if (!words) return;
  const ref = [...crypto.getRandomValues(new Uint32Array(3))].map((n) => n.toString(36)).join("");
  const element = message(Date.now() / 1000, me, words);
  element.classList.add("waiting");
  waiting.set(ref, { text: words, element, since: 0 });
  insert(element, Infinity);
  deliver(ref);
  text.value = "";
  fit();
}

/** Send a message, the first time or again: the server knows it by its `ref`. */
function deliver(ref) {
  const { text } = waiting.get(ref);
  if (send({ type: "say", text, ref })) waiting.get(ref).since = Date.now();
}

function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  say();
  text.focus();
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    say();
  }
});
text.addEventListener("input", fit);
log.addEventListener("scroll", () => atBottom() && (newer.hidden = true));
newer.addEventListener("click", scrollDown);
new ResizeObserver(() => newer.hidden && scrollDown()).observe(log);
setInterval(() => {
  for (const [ref, { since }] of waiting) if (Date.now() - since > SEND_AGAIN) deliver(ref);
}, SEND_AGAIN / 2);

const send = connect(`/ws/room/${room}/?name=${encodeURIComponent(me ?? "")}`, (message) => {
  handlers[message.type]?.(message);
});
if (matchMedia("(hover: hover)").matches) text.focus();
