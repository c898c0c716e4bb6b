// What needs no service: where the client connects to, and when.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { WebSocketBridge } from "busway";

/** A WebSocket without a network: it closes when it is told to. */
class Unplugged {
  static made = [];
  readyState = 0;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    Unplugged.made.push(this);
  }

  close() {
    this.readyState = 3;
  }
}

afterEach(() => {
  Unplugged.made = [];
  delete globalThis.location;
  mock.restoreAll();
  mock.timers.reset();
});

function urlFrom(page, ...parameters) {
  globalThis.location = new URL(page);
  const bridge = new WebSocketBridge({ WebSocket: Unplugged });
  bridge.connect(...parameters);
  bridge.close();
  return Unplugged.made.at(-1).url;
}

test("a URL is relative to the page, and as safe", () => {
  const page = "https://example.org/rooms/tea/?sugar=1#top";
  assert.equal(urlFrom(page, "/chat/"), "wss://example.org/chat/");
  assert.equal(urlFrom(page, "live/?x=1"), "wss://example.org/rooms/tea/live/?x=1");
  assert.equal(urlFrom(page, "//other.example/"), "wss://other.example/");
  assert.equal(urlFrom(page, "ws://other.example/#part"), "ws://other.example/");
  assert.equal(urlFrom(page, new URL("http://other.example/")), "ws://other.example/");
  assert.equal(urlFrom("http://localhost:8000/", "/chat/"), "ws://localhost:8000/chat/");
});

test("without a URL it is the page's own path", () => {
  assert.equal(urlFrom("http://localhost:8000/a/b/?c#d"), "ws://localhost:8000/a/b/");
});

test("options of connect() add to those of the constructor", () => {
  const bridge = new WebSocketBridge({ binaryType: "blob" });
  bridge.connect("ws://example.org/", undefined, { WebSocket: Unplugged });
  assert.equal(Unplugged.made[0].binaryType, "blob");
  assert.deepEqual(Unplugged.made[0].protocols, []);
  bridge.close();
});

test("an option that does not exist is refused", () => {
  assert.throws(() => new WebSocketBridge({ maxRetry: 1 }), /no option maxRetry/);
  assert.throws(() => new WebSocketBridge({ toString: 1 }), TypeError);
});

/** Return the delays before `count` retries, if `Math.random` gives `chance`. */
function delays(chance, count) {
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(Math, "random", () => chance);
  const bridge = new WebSocketBridge({ WebSocket: Unplugged });
  const seen = [];
  bridge.addEventListener("reconnecting", ({ delay }) => seen.push(delay));
  bridge.connect("ws://example.org/");
  for (let retry = 0; retry < count; retry++) {
    Unplugged.made.at(-1).onclose({ code: 1006, reason: "" });
    const attempts = Unplugged.made.length;
    mock.timers.tick(seen.at(-1) - 1);
    assert.equal(Unplugged.made.length, attempts);
    mock.timers.tick(2);
    assert.equal(Unplugged.made.length, attempts + 1);
  }
  bridge.close();
  mock.timers.reset();
  mock.restoreAll();
  return seen.map(Math.round);
}

test("delays grow, within their bounds, and are never the same for all", () => {
  assert.deepEqual(delays(0, 9), [1500, 1950, 2535, 3296, 4284, 5569, 6667, 6667, 6667]);
  assert.deepEqual(delays(1, 9), [2250, 2925, 3803, 4943, 6426, 8354, 10000, 10000, 10000]);
});

test("it tells the console what happens, if it is to", () => {
  const debug = mock.method(console, "debug", () => {});
  const options = { WebSocket: Unplugged, debug: true };
  const bridge = new WebSocketBridge(options);
  bridge.connect("ws://example.org/");
  bridge.close();
  const words = debug.mock.calls.map(({ arguments: [, word] }) => word);
  assert.deepEqual(words, ["connecting to", "close"]);
});
