"""A page that uses the browser client, and the service that it talks to."""

from importlib import resources

from busway import Message, respond, route

CLIENT = resources.files("busway") / "django/static/busway/busway.js"
PAGE = """<!doctype html>
<title>A page</title>
<ol></ol>
<script type="module">
import { WebSocketBridge } from "/static/busway/busway.js";

const bridge = new WebSocketBridge(window.options);
bridge.listen(({ text }) => {
  const item = document.createElement("li");
  item.textContent = text;
  document.querySelector("ol").append(item);
});
for (const type of ["open", "close", "reconnecting"]) {
  bridge.addEventListener(type, () => (document.title = type));
}
bridge.connect();
window.bridge = bridge;
</script>
"""


def page(message: Message) -> None:
    """Answer the page."""
    respond(message, PAGE, content_type="text/html; charset=utf-8")


def client(message: Message) -> None:
    """Answer the browser client."""
    respond(message, CLIENT.read_bytes(), content_type="text/javascript; charset=utf-8")


def accept(message: Message) -> None:
    """Let a socket in."""
    message.reply_channel.send({"accept": True})


def echo(message: Message) -> None:
    """Send a frame back."""
    message.reply_channel.send({"text": message["text"]})


routing = [
    route("http.request", client, path=r"^/static/busway/busway\.js$"),
    route("http.request", page, path=r"^/page/$"),
    route("websocket.connect", accept, path=r"^/page/$"),
    route("websocket.receive", echo, path=r"^/page/$"),
]
