import { badge, make } from "/static/elements.js";
import { connect } from "/static/socket.js";

const form = document.getElementById("enter");
const { name, room } = form.elements;
const list = document.getElementById("rooms");

name.value = localStorage.getItem("name") ?? "";
room.value = new URLSearchParams(location.search).get("room") ?? "";
(name.value ? room : name).focus();

function showRooms(rooms) {
  list.replaceChildren(...rooms.map(({ room, names }) => line(room, names)));
  document.getElementById("no-rooms").hidden = rooms.length > 0;
}

function line(room, names) {
  const people = names.length === 1 ? "1 person" : `${names.length || "no"} people`;
  const link = make(
    "a",
    { href: `/room/${room}/`, "data-room": room },
    make("span", { class: "stop", "aria-hidden": "true" }),
    make("span", { class: "where" }, make("b", {}, room), make("small", {}, people)),
    make("span", { class: "badges", "aria-hidden": "true" }, ...names.slice(0, 4).map(badge)),
  );
  return make("li", { class: names.length ? "busy" : "empty" }, link);
}

/** Turn "Café Corner" into "cafe-corner". */
function slug(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 32);
}

function enter() {
  name.value = name.value.trim();
  room.setCustomValidity(slug(room.value) ? "" : "Use letters from a to z, or digits.");
  if (!form.reportValidity()) return;
  localStorage.setItem("name", name.value);
  sessionStorage.setItem("name", name.value); // each tab may be another person
  location.assign(`/room/${slug(room.value)}/`);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter();
});
room.addEventListener("input", () => room.setCustomValidity(""));
list.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  room.value = link.dataset.room;
  enter();
});

connect("/ws/lobby/", (message) => {
  if (message.type === "rooms") showRooms(message.rooms);
});
