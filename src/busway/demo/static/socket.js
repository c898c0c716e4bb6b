// A WebSocket for JSON that comes back by itself.

const FIRST_DELAY = 400; // milliseconds, like every time in here
const LONGEST_DELAY = 10_000;
const GROWTH = 1.7;
const PATIENCE = 8_000; // for a connection to open, and for the answer to a ping
const PING_EVERY = 25_000;
const REFUSED = 4001; // the close code that says: do not try again

/**
 * Keep a socket to `path` open, and show its state in the page: the element #status says it in
 * words, <html data-opens> counts the sockets, #worker names the process that answered
 * last.
 *
 * `onMessage(object)` gets what the server sends. Returns a function that sends an object, and
 * says whether there was a connection to send it on.
 */
export function connect(path, onMessage) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  let socket, timer, patience;
  let failures = 0;
  let opens = 0;

  function open() {
    clearTimeout(timer);
    show("connecting", failures ? "Reconnecting…" : "Connecting…");
    socket = new WebSocket(url);
    socket.onopen = () => {
      document.documentElement.dataset.opens = ++opens;
    };
    socket.onmessage = (event) => {
      clearTimeout(patience);
      failures = 0;
      show("open", "Connected");
      const message = JSON.parse(event.data);
      showWorker(message.worker, opens);
      onMessage(message);
    };
    socket.onclose = (event) => lost(event.code !== REFUSED);
    expectAnswer();
  }

  function lost(again) {
    clearTimeout(patience);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    socket = undefined;
    if (!again) return show("refused", "Not connected");
    // Half of the delay is random, so that a thousand pages do not come back at once.
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * GROWTH ** failures++);
    timer = setTimeout(open, delay * (0.5 + Math.random() / 2));
    show("waiting", "Connection lost, reconnecting…");
  }

  function expectAnswer() {
    clearTimeout(patience);
    patience = setTimeout(() => lost(true), PATIENCE);
  }

  function send(object) {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify(object));
    return true;
  }

  function comeBackNow() {
    if (status.dataset.state === "waiting" && !document.hidden) open();
  }

  setInterval(() => send({ type: "ping" }) && expectAnswer(), PING_EVERY);
  addEventListener("online", comeBackNow);
  document.addEventListener("visibilitychange", comeBackNow);
  open();
  return send;
}

const status = document.getElementById("status");
const worker = document.getElementById("worker");

function show(state, words) {
  if (status.dataset.state !== state) status.textContent = words;
  status.dataset.state = document.body.dataset.state = state;
}

function showWorker(pid, opens) {
  const words = `Answered by worker ${pid} · socket ${opens} of this page`;
  if (worker.textContent === words) return;
  worker.textContent = words;
  worker.dataset.pid = pid;
  worker.animate?.([{ opacity: 0.2 }, { opacity: 1 }], 600);
}
