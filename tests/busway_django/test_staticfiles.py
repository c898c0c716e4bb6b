"""Static files over the bus, from where they are in the applications."""

import pytest

from busway.bus.layer import ChannelLayer
from busway.django.staticfiles import StaticFilesConsumer
from busway_django.harness import Browser, working

pytestmark = pytest.mark.urls("busway_django.project.view_urls")


def test_a_static_file_is_found_in_its_application(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer, consumer=StaticFilesConsumer()):
        response = browser.get("/static/admin/css/base.css")
        assert browser.get("/static/nowhere.css").status == 404
        assert browser.get("/meta/").status == 200
    assert response.status == 200
    assert response.header("content-type") == "text/css"


def test_static_files_are_never_left_to_async_views() -> None:
    consumer = StaticFilesConsumer()
    assert consumer.claims("/static/admin/css/base.css")
    assert not consumer.claims("/where/")
