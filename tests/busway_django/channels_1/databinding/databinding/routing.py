from channels import route, route_class
from channels.staticfiles import StaticFilesConsumer
from values.consumers import Demultiplexer, expire

channel_routing = [
    # This makes Django serve static files from settings.STATIC_URL
    route("http.request", StaticFilesConsumer()),
    route_class(Demultiplexer, path=r"^/binding/(?P<board>\w+)/$"),
    route("values.expire", expire),
]
