// The client against Busway itself.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, mock, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { WebSocketBridge } from "busway";
import WebSocket from "ws";

import { start } from "./service.js";

const QUICK = { WebSocket, minReconnectionDelay: 20, maxReconnectionDelay: 50 };

let service;
let bridges = [];

before(async () => {
  service = await start();
});

after(() => service.kill());

afterEach(() => {
  for (const bridge of bridges) bridge.close();
  bridges = [];
  mock.restoreAll();
});

/** Return a bridge that notes what happens to it. */
function make(options) {
  const bridge = new WebSocketBridge({ ...QUICK, ...options });
  bridges.push(bridge);
  bridge.got = [];
  bridge.listen((action, stream) => bridge.got.push(stream ? [stream, action] : action));
  bridge.closes = [];
  bridge.addEventListener("close", (event) => bridge.closes.push(event));
  bridge.retries = [];
  bridge.addEventListener("reconnecting", ({ retry }) => bridge.retries.push(retry));
  return bridge;
}

/** Return a bridge that has connected. */
async function connected(options, path = "/") {
  const bridge = make(options);
  bridge.connect(service.url + path);
  await once(bridge, "open");
  return bridge;
}

async function until(condition) {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `in vain: ${condition}`);
    await sleep(5);
  }
}

async function gets(bridge, ...messages) {
  await until(() => bridge.got.length >= messages.length);
  assert.deepEqual(bridge.got, messages);
}

// -- messages and streams -----------------------------------------------------------------------

test("JSON goes there and back", async () => {
  const bridge = await connected();
  for (const message of [{ text: "Grüße" }, [1, 2], "text", 3, null]) {
    assert.equal(bridge.send(message), true);
  }
  await gets(bridge, { text: "Grüße" }, [1, 2], "text", 3, null);
});

test("a stream has a callback of its own, the others go to the listener", async () => {
  const bridge = await connected();
  const counts = [];
  bridge.demultiplex("counts", (action, stream) => counts.push([stream, action]));
  bridge.stream("counts").send({ n: 1 });
  bridge.stream("names").send("Ada");
  bridge.send({ text: "to no stream" });
  await gets(bridge, ["names", "Ada"], { text: "to no stream" });
  assert.deepEqual(counts, [["counts", { n: 1 }]]);
});

test("binary passes through, to the listeners of `message`", async () => {
  const bridge = await connected();
  const bytes = [];
  bridge.addEventListener("message", ({ data }) => bytes.push(...new Uint8Array(data)));
  bridge.send(new Uint8Array([1, 2]));
  bridge.send(new Uint8Array([3, 4]).buffer);
  bridge.send({ text: "last" });
  await until(() => bridge.got.length > 0);
  assert.deepEqual(bytes.slice(0, 4), [1, 2, 3, 4]);
});

test("what is not JSON is reported, and handed to the listeners of `message`", async () => {
  const warn = mock.method(console, "warn", () => {});
  const bridge = await connected();
  const texts = [];
  bridge.addEventListener("message", ({ data }) => texts.push(data));
  bridge.send({ raw: "{half a message" });
  bridge.send({ whole: true });
  await gets(bridge, { whole: true });
  assert.equal(texts[0], "{half a message");
  assert.equal(warn.mock.callCount(), 1);
  assert.match(String(warn.mock.calls[0].arguments), /not JSON.*half a message/);
});

test("a listener of `message` can keep a message to itself", async () => {
  const warn = mock.method(console, "warn", () => {});
  const bridge = await connected();
  bridge.addEventListener("message", (event) => {
    if (event.data === "tick") event.preventDefault();
  });
  bridge.send({ raw: "tick" });
  bridge.send({ whole: true });
  await gets(bridge, { whole: true });
  assert.equal(warn.mock.callCount(), 0);
});

test("what JSON cannot hold is refused", async () => {
  const bridge = await connected();
  assert.throws(() => bridge.send(undefined), TypeError);
  assert.throws(() => bridge.send(() => {}), TypeError);
});

test("a subprotocol is spoken", async () => {
  const bridge = make();
  bridge.connect(service.url, ["v2", "v1"]);
  await once(bridge, "open");
  assert.equal(bridge.socket.protocol, "v2");
});

// -- requests -----------------------------------------------------------------------------------

test("each request gets its own response", async () => {
  const bridge = await connected();
  const answers = await Promise.all([
    bridge.request({ double: 1 }),
    bridge.stream("sums").request({ double: 2 }),
    bridge.request({ double: 3 }),
  ]);
  assert.deepEqual(answers, [2, 4, 6]);
  assert.deepEqual(bridge.got, []);
});

test("a request can be refused", async () => {
  const bridge = await connected();
  await assert.rejects(bridge.request({ refuse: "not today" }), { message: "not today" });
  await assert.rejects(bridge.request({ refuse: { code: 7 } }), { cause: { code: 7 } });
});

test("a response that comes too late goes to nobody", async () => {
  const bridge = await connected();
  const late = bridge.request({ double: 1, after: 0.1 }, { timeout: 20 });
  await assert.rejects(late, { name: "TimeoutError" });
  bridge.send("after it");
  await gets(bridge, "after it");
});

test("a response to none of our requests is a message like others", async () => {
  const bridge = await connected();
  bridge.send({ response: 5 });
  bridge.send({ response: "yes" });
  await gets(bridge, { response: 5 }, { response: "yes" });
});

test("a request whose connection ends is rejected at once", async () => {
  const bridge = await connected();
  await assert.rejects(bridge.request({ close: 1012 }), { name: "NetworkError" });
  const unanswered = bridge.request({}); // waits for the next connection, then for a response
  await once(bridge, "open");
  bridge.close();
  await assert.rejects(unanswered, { name: "NetworkError" });
});

test("a request waits for the connection as other messages do", async () => {
  const bridge = make();
  const answer = bridge.request({ double: 4 });
  bridge.connect(service.url);
  assert.equal(await answer, 8);
});

test("a request that timed out before it could leave is not sent", async () => {
  const bridge = make();
  await assert.rejects(bridge.request({ double: 1 }, { timeout: 5 }), { name: "TimeoutError" });
  const seen = mock.fn();
  bridge.addEventListener("message", seen);
  bridge.connect(service.url);
  assert.equal(await bridge.request({ double: 2 }, { timeout: Infinity }), 4);
  assert.equal(seen.mock.callCount(), 1);
});

// -- what waits for a connection ----------------------------------------------------------------

test("what is sent before and between connections arrives, in order", async () => {
  const bridge = make();
  assert.equal(bridge.send(1), false);
  bridge.connect(service.url);
  bridge.send(2);
  await gets(bridge, 1, 2);
  bridge.send({ close: 1012 });
  await once(bridge, "close");
  bridge.send(3);
  bridge.send(4);
  await gets(bridge, 1, 2, 3, 4);
});

test("a listener of `open` speaks before what has waited", async () => {
  const bridge = make();
  bridge.addEventListener("open", () => bridge.send("hello"));
  bridge.send("waited");
  bridge.connect(service.url);
  await gets(bridge, "hello", "waited");
});

test("one message too many is refused, and those that wait are kept", async () => {
  const bridge = make({ maxBuffered: 2 });
  bridge.send(1);
  bridge.send(2);
  assert.throws(() => bridge.send(3), { name: "QuotaExceededError" });
  await assert.rejects(bridge.request(4), { name: "QuotaExceededError" });
  bridge.connect(service.url);
  await gets(bridge, 1, 2);
});

test("binary that waits is what it was when it was sent", async () => {
  const bridge = make();
  const bytes = new Uint8Array([0, 1, 2, 3]);
  bridge.send(bytes.subarray(1, 3));
  bytes.fill(9);
  bridge.connect(service.url);
  const [{ data }] = await once(bridge, "message");
  assert.deepEqual([...new Uint8Array(data)], [1, 2]);
});

test("what waits outlives an end that is not the page's", async () => {
  const bridge = await connected();
  bridge.send({ close: 4401 });
  await once(bridge, "close");
  bridge.send("signed in now");
  bridge.connect(service.url);
  await gets(bridge, "signed in now");
});

// -- ends and retries ---------------------------------------------------------------------------

for (const code of [1001, 1009, 1011, 1012, 1013, 3000, 4000, 4399, 4500]) {
  test(`it comes back after ${code}`, async () => {
    const bridge = await connected();
    bridge.send({ close: code });
    await once(bridge, "close");
    await once(bridge, "open");
    const [{ code: seen, reason, reconnects }] = bridge.closes;
    assert.deepEqual([seen, reason, reconnects], [code, "as you wish", true]);
  });
}

for (const code of [1000, 1008, 4400, 4401, 4499]) {
  test(`it does not come back after ${code}`, async () => {
    const bridge = await connected();
    bridge.send({ close: code });
    const [event] = await once(bridge, "close");
    assert.deepEqual([event.code, event.reconnects], [code, false]);
    assert.equal(bridge.socket, null);
    assert.deepEqual(bridge.retries, []);
  });
}

test("the page may decide on its own whether to come back", async () => {
  const bridge = await connected({ shouldReconnect: ({ code }) => code === 1000 });
  bridge.send({ close: 1000 });
  await once(bridge, "open");
  bridge.send({ close: 1012 });
  await once(bridge, "close");
  assert.deepEqual(bridge.closes.map(({ reconnects }) => reconnects), [true, false]);
});

test("a denied handshake is retried as often as allowed", async () => {
  const bridge = make({ maxRetries: 2 });
  bridge.connect(`${service.url}/denied/`);
  await until(() => bridge.closes.length === 3);
  assert.deepEqual(bridge.closes.map(({ code }) => code), [1006, 1006, 1006]);
  assert.deepEqual(bridge.closes.map(({ reconnects }) => reconnects), [true, true, false]);
  assert.deepEqual(bridge.retries, [1, 2]);
});

test("a connection that does not open in time is given up", async () => {
  const bridge = make({ maxRetries: 0, connectionTimeout: 50 });
  bridge.connect(`${service.url}/silent/`);
  const [event] = await once(bridge, "close");
  assert.deepEqual([event.code, event.reason], [1006, "not connected within 50 ms"]);
});

test("retries are counted anew once a connection has lasted", async () => {
  const brief = await connected({ minUptime: 10_000 });
  const lasting = await connected({ minUptime: 0 });
  for (const bridge of [brief, lasting]) {
    for (let end = 0; end < 2; end++) {
      bridge.send({ close: 1012 });
      await once(bridge, "open");
    }
  }
  assert.deepEqual(brief.retries, [1, 2]);
  assert.deepEqual(lasting.retries, [1, 1]);
});

test("close() closes for good", async () => {
  const bridge = await connected();
  const { socket } = bridge;
  bridge.close(4000, "done");
  const [{ code, reason, reconnects }] = bridge.closes;
  assert.deepEqual([code, reason, reconnects], [4000, "done", false]);
  assert.equal(bridge.socket, null);
  await until(() => socket.readyState === WebSocket.CLOSED);
  bridge.close();
  assert.equal(bridge.closes.length, 1);
});

test("close() ends the wait for a retry, and tells how much it forgot", async () => {
  const bridge = await connected({ minReconnectionDelay: 100, maxReconnectionDelay: 100 });
  bridge.send({ close: 1012 });
  await once(bridge, "close");
  bridge.send(1);
  const request = bridge.request(2);
  bridge.close();
  await assert.rejects(request, { name: "NetworkError" });
  assert.equal(bridge.closes[1].dropped, 1);
  await sleep(150);
  assert.equal(bridge.socket, null);
});

test("close() can be called by whoever hears of a close", async () => {
  const bridge = await connected();
  bridge.addEventListener("close", () => bridge.close());
  bridge.send({ close: 1012 });
  await until(() => bridge.closes.length === 2);
  await sleep(60);
  assert.equal(bridge.socket, null);
  assert.deepEqual(bridge.retries, []);
});

test("connect() leaves one connection for another", async () => {
  const bridge = await connected();
  const { socket } = bridge;
  bridge.connect(`${service.url}/elsewhere/`);
  bridge.send("here");
  await gets(bridge, "here");
  await until(() => socket.readyState === WebSocket.CLOSED);
  assert.deepEqual(bridge.closes.map(({ reconnects }) => reconnects), [true]);
});

test("it finds a service that was killed and started again", async () => {
  const mortal = await start();
  const bridge = make();
  bridge.connect(mortal.url);
  await once(bridge, "open");
  const lost = once(bridge, "close");
  await mortal.kill();
  const [{ code }] = await lost;
  assert.equal(code, 1006);
  const numbers = Array.from({ length: 50 }, (_, n) => n);
  for (const n of numbers) bridge.send(n);
  const born = await start(mortal.port);
  await gets(bridge, ...numbers);
  await born.kill();
});
