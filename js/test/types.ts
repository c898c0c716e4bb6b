// What users see of the types; tsc checks it, nothing runs it.

import { WebSocketBridge, type CloseEvent, type Stream } from "busway";
import { WebSocketBridge as Written } from "../../src/busway/django/static/busway/busway.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function check<_Holds extends true>(): void {}

// What is declared is what is written.
const declared: typeof WebSocketBridge = Written;

const bridge = new declared({ maxRetries: 3, WebSocket, debug: true });
bridge.connect();
bridge.connect("/chat/", ["v1"], { connectionTimeout: 1000 });
bridge.connect(new URL("wss://example.org/"));
bridge.listen((action, stream) => {
  check<Same<typeof stream, string | null>>();
  console.log(action.text);
});
bridge.demultiplex("counts", (action) => console.log(action.n));

const stream = bridge.stream("counts");
check<Same<typeof stream, Stream>>();
const left = stream.send({ n: 1 });
check<Same<typeof left, boolean>>();
bridge.send(new Uint8Array(2));

const answer = bridge.request<{ n: number }>({ double: 2 }, { timeout: 500 });
check<Same<typeof answer, Promise<{ n: number }>>>();
stream.request("count").then((count: number) => count);

bridge.addEventListener("open", () => bridge.send("hello"));
bridge.addEventListener("message", (event) => {
  check<Same<typeof event.data, string | ArrayBuffer | Blob>>();
});
bridge.addEventListener("close", (event) => {
  check<Same<typeof event, CloseEvent>>();
  console.log(event.code, event.reconnects, event.dropped);
});
bridge.addEventListener("reconnecting", ({ retry, delay }) => console.log(retry + delay));
const socket = bridge.socket;
check<Same<typeof socket, WebSocket | null>>();
bridge.close(4000, "done");

// @ts-expect-error: no such option
new WebSocketBridge({ maxRetry: 3 });
// @ts-expect-error: no such event
bridge.addEventListener("opened", () => {});
// @ts-expect-error: not for the page to change
bridge.socket = null;
