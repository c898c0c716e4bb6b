// Every time in here is in milliseconds.

/** What makes a WebSocket: the platform's class, or one like it. */
export interface WebSocketConstructor {
  new (url: string, protocols?: string | string[]): WebSocket;
}

export interface Options {
  /** The first delay before a retry is at least this long. Default: 1500. */
  minReconnectionDelay?: number;
  /** No delay is longer. Default: 10000. */
  maxReconnectionDelay?: number;
  /** By what the delay grows with each retry. Default: 1.3. */
  reconnectionDelayGrowFactor?: number;
  /** How long a connection may take to open. Default: 4000. */
  connectionTimeout?: number;
  /** How long a connection must have been open for retries to be counted anew. Default: 5000. */
  minUptime?: number;
  /** How many retries may fail in a row. Default: Infinity. */
  maxRetries?: number;
  /** Says whether to come back after a close. Default: not after 1000, 1008 and 4400 to 4499. */
  shouldReconnect?: (close: { code: number; reason: string }) => boolean;
  /** How long a request waits for its response. Default: 30000. */
  requestTimeout?: number;
  /** How many messages may wait for a connection. Default: 100. */
  maxBuffered?: number;
  /** What binary messages arrive as. Default: "arraybuffer". */
  binaryType?: BinaryType;
  /** Default: the platform's. */
  WebSocket?: WebSocketConstructor;
  /** Whether to tell the console what happens. Default: false. */
  debug?: boolean;
}

export interface RequestOptions {
  /** How long to wait for the response; Infinity: for ever. Default: `requestTimeout`. */
  timeout?: number;
}

export interface Stream {
  /** Send `{stream, payload: action}`; see `WebSocketBridge.send`. */
  send(action: unknown): boolean;
  /** Send a request in the stream; see `WebSocketBridge.request`. */
  request<Answer = any>(action: unknown, options?: RequestOptions): Promise<Answer>;
}

/** Gets a message, or the payload of one in a stream; `stream` is null outside of streams. */
export type Callback = (action: any, stream: string | null) => void;

/** A message has arrived, as it is; `preventDefault()` keeps it from all but the listeners. */
export interface MessageEvent extends Event {
  readonly data: string | ArrayBuffer | Blob;
}

/** A connection has ended. */
export interface CloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  /** Whether the bridge comes back by itself. */
  readonly reconnects: boolean;
  /** How many messages that waited were forgotten, by `close()`. */
  readonly dropped: number;
}

/** The wait for the next attempt begins. */
export interface ReconnectingEvent extends Event {
  /** 1 for the first retry. */
  readonly retry: number;
  /** How long it waits. */
  readonly delay: number;
}

export interface BridgeEventMap {
  /** Connected; what the listener sends goes before what has waited. */
  open: Event;
  message: MessageEvent;
  close: CloseEvent;
  reconnecting: ReconnectingEvent;
}

type Listener<E extends Event> = ((event: E) => void) | { handleEvent(event: E): void };

/** A WebSocket that reconnects, keeps what is sent meanwhile, and speaks JSON. */
export class WebSocketBridge extends EventTarget {
  constructor(options?: Options);

  /** The WebSocket of this moment; null while there is none. */
  readonly socket: WebSocket | null;

  /**
   * Connect to `url`, absolute or relative to the page; default: the page's own path.
   * `options` are added to those of the constructor.
   */
  connect(url?: string | URL, protocols?: string | string[], options?: Options): void;

  /** Call `callback` with every message that no stream's callback gets. */
  listen(callback?: Callback | null): void;

  /** Call `callback` with the messages of `stream`. */
  demultiplex(stream: string, callback: Callback): void;

  /** Return what sends to a stream. */
  stream(stream: string): Stream;

  /**
   * Send JSON, or an ArrayBuffer, a view of one or a Blob as it is.
   *
   * Returns whether it left at once; otherwise it waits for a connection. Throws a
   * QuotaExceededError when `maxBuffered` messages wait already.
   */
  send(message: unknown): boolean;

  /**
   * Send `{request: id, payload: message}`; resolves to the payload of
   * `{response: id, payload: …}`.
   *
   * Rejects with an Error whose `cause` is the `error` of `{response: id, error: …}`, or with a
   * DOMException: TimeoutError, NetworkError when the connection ends, QuotaExceededError.
   */
  request<Answer = any>(message: unknown, options?: RequestOptions): Promise<Answer>;

  /** Close for good, and forget what still waits to be sent. */
  close(code?: number, reason?: string): void;

  addEventListener<Type extends keyof BridgeEventMap>(
    type: Type,
    listener: Listener<BridgeEventMap[Type]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof BridgeEventMap>(
    type: Type,
    listener: Listener<BridgeEventMap[Type]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
