// The browser's end of Busway: a WebSocket for JSON that comes back by itself.
// Every time in here is in milliseconds, as the platform has them.

const DEFAULTS = {
  minReconnectionDelay: 1500,
  maxReconnectionDelay: 10_000,
  reconnectionDelayGrowFactor: 1.3,
  connectionTimeout: 4000,
  minUptime: 5000,
  maxRetries: Infinity,
  shouldReconnect,
  requestTimeout: 30_000,
  maxBuffered: 100,
  binaryType: "arraybuffer",
  WebSocket: undefined, // the platform's, when it is needed
  debug: false,
};

// How much longer than the shortest a delay may be, so that a thousand pages do not come back
// at once.
const JITTER = 1.5;
const LONGEST_TIMER = 2 ** 31 - 1;
const OPEN = 1;
const LOST = 1006;

/** Say whether to come back after this end: not if it was meant, and not if we are to blame. */
function shouldReconnect({ code }) {
  const refused = code === 1008 || (code >= 4400 && code <= 4499);
  return code !== 1000 && !refused;
}

/**
 * A WebSocket that reconnects, keeps what is sent meanwhile, and speaks JSON.
 *
 * Events: `open`, `message`, `close` and `reconnecting`.
 */
export class WebSocketBridge extends EventTarget {
  /** The WebSocket of this moment; null while there is none. */
  socket = null;

  #options;
  #url;
  #protocols;
  #wanted = false; // whether the page wants a connection: from connect() to the last close
  #wakeUps; // aborts the listeners that try again at once when there is hope
  #timer; // until an attempt has taken too long, or until the next one
  #retries = 0;
  #openedAt = NaN;
  #buffer = []; // what waits for a connection, oldest first: { data, request id or undefined }
  #requests = new Map(); // id → { resolve, reject, timer }
  #lastRequest = 0;
  #listener = null;
  #streams = new Map();

  constructor(options) {
    super();
    this.#options = merge(DEFAULTS, options);
  }

  /** Connect to `url`, absolute or relative to the page; default: the page's own path. */
  connect(url, protocols = [], options) {
    this.#options = merge(this.#options, options);
    this.#url = absolute(url);
    this.#protocols = protocols;
    this.#retries = 0;
    if (this.#wanted) this.#gone({ code: 1000, reason: "connected anew", reconnects: true });
    this.#open();
    this.#wanted = true;
    this.#listenForHope();
  }

  /** Call `callback(action, streamName)` with every message that no stream's callback gets. */
  listen(callback = null) {
    this.#listener = callback;
  }

  /** Call `callback(action, streamName)` with the messages of a stream. */
  demultiplex(stream, callback) {
    this.#streams.set(stream, callback);
  }

  /** Return what sends to a stream. */
  stream(stream) {
    const wrap = (payload) => ({ stream, payload });
    return {
      send: (action) => this.send(wrap(action)),
      request: (action, options) => this.#request(wrap, action, options),
    };
  }

  /**
   * Send JSON or, as it is, something binary. Returns whether it left at once; otherwise it waits
   * for a connection. Throws a QuotaExceededError when `maxBuffered` messages wait already.
   */
  send(message) {
    return this.#post(encode(message));
  }

  /** Send `{request, payload}`; returns a promise of the payload of the `{response, payload}`. */
  request(message, options) {
    return this.#request((envelope) => envelope, message, options);
  }

  /** Close for good, and forget what still waits to be sent. */
  close(code = 1000, reason = "") {
    this.socket?.close(code, reason); // first, since it checks its arguments
    this.#failRequests(() => true);
    const dropped = this.#buffer.length;
    this.#buffer = [];
    if (this.#wanted) this.#gone({ code, reason, dropped });
  }

  // -- the connection ---------------------------------------------------------------------------

  #open() {
    this.#detach();
    const { WebSocket = globalThis.WebSocket, binaryType, connectionTimeout } = this.#options;
    const socket = new WebSocket(this.#url, this.#protocols);
    socket.binaryType = binaryType;
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = (event) => this.#lost(event);
    socket.onerror = () => {}; // a close follows; and `ws` throws an error that nobody hears
    this.socket = socket;
    const reason = `not connected within ${connectionTimeout} ms`;
    this.#timer = after(connectionTimeout, () => this.#lost({ code: LOST, reason }));
    this.#log("connecting to", this.#url);
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#openedAt = performance.now();
    this.#emit("open");
    this.#flush();
  }

  #lost({ code, reason }) {
    // A connection that breaks as soon as it is made must not bring the delay back to its start.
    if (performance.now() - this.#openedAt >= this.#options.minUptime) this.#retries = 0;
    const { maxRetries, shouldReconnect } = this.#options;
    const reconnects = this.#retries < maxRetries && shouldReconnect({ code, reason });
    this.#gone({ code, reason, reconnects });
    // A listener may have closed, or connected anew.
    if (this.#wanted && !this.socket) this.#wait();
  }

  #gone({ code, reason, reconnects = false, dropped = 0 }) {
    this.#wanted = reconnects;
    if (!reconnects) this.#wakeUps.abort();
    this.#detach();
    // What still waits goes to the next connection; no other can bring the rest its answers.
    this.#failRequests((id) => !reconnects || !this.#waits(id));
    this.#emit("close", { code, reason, reconnects, dropped });
  }

  #wait() {
    const delay = delayBefore(this.#retries++, this.#options);
    this.#timer = after(delay, () => this.#open());
    this.#emit("reconnecting", { retry: this.#retries, delay });
  }

  #detach() {
    clearTimeout(this.#timer);
    this.#openedAt = NaN;
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #listenForHope() {
    this.#wakeUps?.abort();
    this.#wakeUps = new AbortController();
    const { signal } = this.#wakeUps;
    const comeBack = () => {
      if (!this.socket && !globalThis.document?.hidden) this.#open();
    };
    globalThis.addEventListener?.("online", comeBack, { signal });
    globalThis.document?.addEventListener("visibilitychange", comeBack, { signal });
  }

  // -- sending ----------------------------------------------------------------------------------

  #post(data, request) {
    if (this.socket?.readyState === OPEN) {
      this.socket.send(data);
      return true;
    }
    const { maxBuffered } = this.#options;
    if (this.#buffer.length >= maxBuffered) {
      const text = `not connected, and ${maxBuffered} messages wait already`;
      throw new DOMException(text, "QuotaExceededError");
    }
    this.#buffer.push({ data: snapshot(data), request });
    return false;
  }

  #flush() {
    while (this.#buffer.length && this.socket?.readyState === OPEN) {
      this.socket.send(this.#buffer.shift().data);
    }
  }

  #request(wrap, payload, { timeout = this.#options.requestTimeout } = {}) {
    const id = ++this.#lastRequest;
    return new Promise((resolve, reject) => {
      this.#post(encode(wrap({ request: id, payload })), id);
      const late = () => this.#fail(id, `no answer within ${timeout} ms`, "TimeoutError");
      this.#requests.set(id, { resolve, reject, timer: after(timeout, late) });
    });
  }

  #waits(request) {
    return this.#buffer.some((waiting) => waiting.request === request);
  }

  #failRequests(which) {
    const ids = [...this.#requests.keys()].filter(which);
    for (const id of ids) this.#fail(id, "the connection ended before the answer", "NetworkError");
  }

  #fail(id, text, name) {
    // Nobody waits for its answer any more, so it need not be sent.
    this.#buffer = this.#buffer.filter(({ request }) => request !== id);
    this.#take(id).reject(new DOMException(text, name));
  }

  #take(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    clearTimeout(request?.timer);
    return request;
  }

  // -- receiving --------------------------------------------------------------------------------

  #received(data) {
    const wanted = this.#emit("message", { data }, { cancelable: true });
    if (!wanted || typeof data !== "string") return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      console.warn("busway: a message is not JSON:", data.slice(0, 200));
      return;
    }
    this.#route(message);
  }

  #route(message) {
    const inStream = message?.stream !== undefined;
    const action = inStream ? message.payload : message;
    const stream = inStream ? message.stream : null;
    if (this.#answers(action)) return;
    const callback = this.#streams.get(stream) ?? this.#listener;
    callback?.(action, stream);
  }

  /** Say whether `action` is the response to a request of ours, and hand it over. */
  #answers(action) {
    const id = action?.response;
    if (!Number.isInteger(id) || id < 1 || id > this.#lastRequest) return false;
    const request = this.#take(id);
    if (!request) this.#log("too late: the response to request", id);
    else if (action.error === undefined) request.resolve(action.payload);
    else request.reject(new Error(describe(action.error), { cause: action.error }));
    return true;
  }

  // -- telling ----------------------------------------------------------------------------------

  /** Tell the listeners of an event; returns false if one of them prevented what follows. */
  #emit(type, details = {}, init) {
    this.#log(type, details);
    return this.dispatchEvent(Object.assign(new Event(type, init), details));
  }

  #log(...words) {
    if (this.#options.debug) console.debug("busway:", ...words);
  }
}

/** Return the milliseconds to wait before a retry; `retries` came before it. */
function delayBefore(retries, options) {
  const { minReconnectionDelay: min, maxReconnectionDelay: max } = options;
  const base = min * options.reconnectionDelayGrowFactor ** retries;
  const longest = Math.min(max, base * JITTER);
  const shortest = Math.min(longest, Math.max(min, longest / JITTER));
  return shortest + Math.random() * (longest - shortest);
}

function merge(options, more = {}) {
  for (const name of Object.keys(more)) {
    if (!Object.hasOwn(DEFAULTS, name)) throw new TypeError(`WebSocketBridge has no option ${name}`);
  }
  const given = Object.entries(more).filter(([, value]) => value !== undefined);
  return { ...options, ...Object.fromEntries(given) };
}

function absolute(url) {
  const page = globalThis.location;
  const result = new URL(url ?? page?.pathname ?? "", page?.href);
  result.protocol = result.protocol.replace("http", "ws"); // and so https becomes wss
  result.hash = "";
  return result.href;
}

function encode(message) {
  if (isBinary(message)) return message;
  const text = JSON.stringify(message);
  if (text === undefined) throw new TypeError("a message must be JSON or binary");
  return text;
}

function isBinary(message) {
  return message instanceof ArrayBuffer || ArrayBuffer.isView(message) || message instanceof Blob;
}

/** Return what `data` is now: the page may write into its buffer before there is a connection. */
function snapshot(data) {
  if (!ArrayBuffer.isView(data)) return data.slice();
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
}

/** Call `callback` after some time, which may be Infinity. */
function after(milliseconds, callback) {
  return milliseconds <= LONGEST_TIMER ? setTimeout(callback, milliseconds) : undefined;
}

function describe(error) {
  return typeof error === "string" ? error : "the request was refused";
}
