"""The interface server for WSGI servers: HTTP under gunicorn, uWSGI or mod_wsgi."""

from busway.interfaces.wsgi.application import WSGIApplication
from busway.interfaces.wsgi.response import ResponseBroken

__all__ = ["ResponseBroken", "WSGIApplication"]
