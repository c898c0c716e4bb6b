"""Models bound to sockets."""

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.db import transaction
from django.db.models import F
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from busway.app.message import Message
from busway.bus.errors import ConfigurationError, UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import GroupSend
from busway.django import Group, channel_layers, route
from busway.django.binding import Binding
from busway.django.binding.base import CREATE, DELETE, UPDATE
from busway.django.binding.websockets import WebsocketBinding, WebsocketBindingWithMembers
from busway.django.generic.websockets import (
    AsyncWebsocketDemultiplexer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)
from busway_django.consuming import REPLY, Consumption, contents
from busway_django.project.models import (
    Article,
    CastleMuseum,
    Draft,
    Lesson,
    Museum,
    Place,
    Review,
    Tag,
)

pytestmark = pytest.mark.django_db(transaction=True)

Told = Callable[[str], list[Any]]
Define = Callable[..., Any]


@pytest.fixture(autouse=True)
def layer() -> Iterator[ChannelLayer]:
    """Let the default layer be one of this test's own."""
    layer = MemoryChannelLayer()
    before = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", before)
    layer.close()


@pytest.fixture
def told(layer: ChannelLayer) -> Told:
    """Return what returns the messages that a group was sent, as (action, pk, data)."""

    def told(group: str) -> list[Any]:
        found = []
        while (message := layer.receive([f"test.{group}"])[1]) is not None:
            frame = json.loads(message["text"])
            found.append((frame["payload"]["action"], frame["payload"]["pk"]))
        return found

    for group in ("news", "sports", "places", "tagged", "all"):
        layer.group_add(group, f"test.{group}")
    return told


@pytest.fixture
def define() -> Iterator[Define]:
    """Return what makes a binding that ends with the test."""
    made: list[type[Binding]] = []

    def define(base: Any = WebsocketBinding, **body: Any) -> Any:
        given = {"model": Article, "stream": "articles", "fields": ["title"], **body}
        given.setdefault("channel_session_user", False)
        made.append(type("ArticleBinding", (base,), given))
        return made[-1]

    yield define
    for binding in made:
        binding.unregister()


@classmethod  # type: ignore[misc]
def by_section(cls: Any, instance: Article) -> list[str]:
    """Return the group of an article's section."""
    return [instance.section]


@classmethod  # type: ignore[misc]
def for_all(cls: Any, instance: Any) -> list[str]:
    """Return the one group."""
    return ["all"]


# Outbound


def test_changes_are_told_to_the_groups_of_an_instance(define: Define, told: Told) -> None:
    define(group_names=by_section)
    article = Article.objects.create(title="a")
    pk = article.pk
    article.title = "b"
    article.save()
    article.delete()
    assert told("news") == [(CREATE, pk), (UPDATE, pk), (DELETE, pk)]
    assert told("sports") == []


def test_moving_between_groups_is_a_delete_here_and_a_create_there(
    define: Define, told: Told
) -> None:
    define(group_names=by_section)
    article = Article.objects.create(title="a")
    told("news")
    article.section = "sports"
    article.save()
    assert told("news") == [(DELETE, article.pk)]
    assert told("sports") == [(CREATE, article.pk)]


def test_the_groups_before_are_those_of_what_is_stored(define: Define, told: Told) -> None:
    define(group_names=by_section)
    pk = Article.objects.create(title="a").pk
    told("news")
    Article(pk=pk, title="a", section="sports").save()  # never loaded
    assert told("news") == [(DELETE, pk)]
    assert told("sports") == [(CREATE, pk)]


def test_what_is_not_saved_is_not_told(define: Define, told: Told) -> None:
    define(group_names=by_section)
    article = Article.objects.create(title="a")
    article.title, article.section = "b", "sports"
    article.save(update_fields=["title"])
    assert told("news") == [(CREATE, article.pk), (UPDATE, article.pk)]
    assert told("sports") == []


def test_what_the_database_computes_is_told_as_it_is_stored(
    define: Define, layer: ChannelLayer
) -> None:
    define(group_names=for_all, fields=["rating", "tags"])
    layer.group_add("all", "test.all")
    article = Article.objects.create(title="a")
    layer.receive(["test.all"])
    article.rating = F("rating") + 1
    article.save()
    article.tags.add(Tag.objects.create(name="x"))
    article.delete()
    ratings = []
    while (message := layer.receive(["test.all"])[1]) is not None:
        payload = json.loads(message["text"])["payload"]
        ratings.append((payload["action"], payload["data"]["rating"]))
    assert ratings == [(UPDATE, 1), (UPDATE, 1), (DELETE, 1)]


def test_a_child_of_two_parents_has_the_key_of_the_one_that_is_bound(
    define: Define, told: Told
) -> None:
    Museum.objects.create()
    define(model=Museum, fields=["__all__"], group_names=for_all)
    both = CastleMuseum.objects.create(label="a")
    pk = both.museum_id
    assert pk != both.pk
    both.save()
    both.delete()
    assert told("all") == [(CREATE, pk), (UPDATE, pk), (DELETE, pk)]


def test_signals_that_others_send_without_the_one_before_are_told(
    define: Define, told: Told
) -> None:
    define(group_names=for_all)
    article = Article.objects.create(title="a")
    told("all")
    given: dict[str, Any] = {"instance": article, "using": "default"}
    post_save.send(Article, created=False, raw=False, update_fields=None, **given)
    post_save.send(Article, created=True, **given)
    post_delete.send(Article, origin=article, **given)
    through = {"action": "post_add", "reverse": False, "model": Tag, "pk_set": {1}}
    m2m_changed.send(Article.tags.through, **through, **given)
    assert [action for action, _ in told("all")] == [UPDATE, CREATE, DELETE]


def test_the_frame_holds_the_chosen_fields_as_json(define: Define, layer: ChannelLayer) -> None:
    define(group_names=for_all, fields=None, exclude=["secret", "internal"])
    layer.group_add("all", "test.all")
    article = Article.objects.create(
        title="a",
        price=Decimal("1.50"),
        published=datetime.date(2026, 1, 2),
        details={"x": [1]},
        secret="s",
    )
    message = layer.receive(["test.all"])[1]
    assert message is not None
    assert json.loads(message["text"]) == {
        "stream": "articles",
        "payload": {
            "action": "create",
            "pk": article.pk,
            "model": "project.article",
            "data": {
                "title": "a",
                "section": "news",
                "rating": 0,
                "price": "1.50",
                "published": "2026-01-02",
                "attachment": "",
                "details": {"x": [1]},
                "origin": None,
                "tags": [],
            },
        },
    }


@pytest.mark.parametrize("everything", ["__all__", ["__all__"], ("__all__",)])
def test_all_fields_are_chosen_by_one_name(define: Define, everything: Any) -> None:
    binding = define(fields=everything)
    assert {"title", "secret", "tags", "origin"} < set(binding.data_fields)
    assert "id" not in binding.data_fields


def test_members_are_sent_besides_fields(define: Define) -> None:
    binding = define(WebsocketBindingWithMembers, send_members=["shout", "stars", "origin.title"])
    first = Article.objects.create(title="first")
    article = Article.objects.create(title="a", rating=3, origin=first)
    assert binding().serialize_data(article) == {
        "title": "a",
        "shout": "A",
        "stars": "***",
        "origin__title": "first",
    }


def test_nothing_is_told_before_the_commit_nor_after_a_rollback(define: Define, told: Told) -> None:
    define(group_names=for_all)
    with transaction.atomic():
        article = Article.objects.create(title="a")
        assert told("all") == []
    assert told("all") == [(CREATE, article.pk)]
    with transaction.atomic():
        Article.objects.create(title="b")
        transaction.set_rollback(True)
    assert told("all") == []


def test_in_a_consumer_it_is_held_and_goes_out_with_it(define: Define, layer: ChannelLayer) -> None:
    define(group_names=for_all)

    def save(message: Message) -> None:
        with transaction.atomic():
            Article.objects.create(title="a")
        if message.get("fail"):
            raise ZeroDivisionError

    async def asave(message: Message) -> None:
        await Article.objects.acreate(title="a")
        if message.get("fail"):
            raise ZeroDivisionError

    for consumer in (save, asave):
        consume = Consumption(layer, [route("work", consumer)])
        (sent,) = consume("work")
        assert isinstance(sent, GroupSend)
        assert sent.group == "all"
        assert consume("work", fail=True) == []


def test_a_layer_that_fails_does_not_fail_the_change(
    define: Define, layer: ChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    define(group_names=for_all)
    layer.close()
    assert Article.objects.create(title="a").pk is not None
    assert "ArticleBinding could not tell all of a change" in caplog.text
    channel_layers.set("default", MemoryChannelLayer())


def test_a_change_that_is_too_large_to_tell_does_not_fail_its_maker(
    define: Define, caplog: pytest.LogCaptureFixture
) -> None:
    define(group_names=for_all, fields=["details"])

    def save(message: Message) -> None:
        Article.objects.create(title="a", details={"x": "y" * 2000})
        Group("all").send({"text": "{}"})

    with closing(MemoryChannelLayer(message_size=1000)) as small:
        channel_layers.set("default", small)
        (sent,) = Consumption(small, [route("work", save)])("work")
    assert contents([sent]) == [{}]
    assert "ArticleBinding could not tell all of a change" in caplog.text
    assert "the limit is 1000" in caplog.text


def test_changes_within_changes_keep_their_own_groups(define: Define, told: Told) -> None:
    def move(instance: Article, **_: Any) -> None:
        if instance.title == "moving":
            instance.title, instance.section = "moved", "sports"
            instance.save()

    post_save.connect(move, sender=Article)
    try:
        define(group_names=by_section)
        article = Article.objects.create(title="a")
        told("news")
        article.title = "moving"
        article.save()
    finally:
        post_save.disconnect(move, sender=Article)
    assert told("sports")[0] == (CREATE, article.pk)
    assert told("news")[0] == (DELETE, article.pk)
    assert not [name for name in vars(article) if "binding" in name]


def test_fixtures_are_not_told(define: Define, told: Told, tmp_path: Any) -> None:
    define(group_names=for_all)
    file = tmp_path / "articles.json"
    file.write_text(
        json.dumps(
            [
                {"model": "project.tag", "pk": 1, "fields": {"name": "x"}},
                {"model": "project.article", "pk": 7, "fields": {"title": "a"}},
            ]
        )
    )
    call_command("loaddata", str(file), verbosity=0)
    assert told("all") == []


def test_a_child_is_one_of_its_parents_and_told_once(define: Define, told: Told) -> None:
    binding = define(group_names=by_section)
    review = Review.objects.create(title="a", verdict="good")
    review.section = "sports"
    review.save()
    assert told("news") == [(CREATE, review.pk), (DELETE, review.pk)]
    assert told("sports") == [(CREATE, review.pk)]
    assert binding().serialize_data(review) == {"title": "a"}
    pk = review.pk
    review.delete()
    assert told("sports") == [(DELETE, pk)]


def test_a_child_s_own_binding_has_the_fields_of_its_parent(define: Define, told: Told) -> None:
    binding = define(model=Review, fields=["title", "verdict", "tags"], group_names=for_all)
    review = Review.objects.create(title="a", verdict="good")
    Article.objects.create(title="b")
    assert told("all") == [(CREATE, review.pk)]
    assert binding().serialize_data(review) == {"title": "a", "verdict": "good", "tags": []}
    review.tags.add(Tag.objects.create(name="x"))
    assert told("all") == [(UPDATE, review.pk)]


def test_a_proxy_is_told_as_its_model(define: Define, told: Told) -> None:
    define(group_names=for_all)
    draft = Draft.objects.create(title="a")
    pk = draft.pk
    draft.delete()
    assert told("all") == [(CREATE, pk), (DELETE, pk)]


@classmethod  # type: ignore[misc]
def by_tags(cls: Any, instance: Article) -> list[str]:
    """Return groups that a relation decides on."""
    return ["all", *(["tagged"] if instance.tags.exists() else [])]


def test_a_many_to_many_relation_changes_its_instance(define: Define, told: Told) -> None:
    define(group_names=by_tags, fields=["tags"])
    article = Article.objects.create(title="a")
    tag = Tag.objects.create(name="x")
    article.tags.add(tag)
    article.tags.clear()
    pk = article.pk
    assert told("all") == [(CREATE, pk), (UPDATE, pk), (UPDATE, pk)]
    assert told("tagged") == [(CREATE, pk), (DELETE, pk)]


def test_it_does_from_the_other_side_as_well(define: Define, told: Told) -> None:
    define(group_names=by_tags, fields=["title"])
    article = Article.objects.create(title="a")
    Article.objects.create(title="b")
    tag = Tag.objects.create(name="x")
    told("all")
    tag.article_set.add(article)
    tag.article_set.remove(article)
    tag.article_set.add(article)
    tag.article_set.clear()
    pk = article.pk
    assert told("tagged") == [(CREATE, pk), (DELETE, pk), (CREATE, pk), (DELETE, pk)]
    assert told("all") == []  # the field is not among those sent


def test_a_binding_made_before_the_models_were_ready_is_connected(told: Told) -> None:
    Place.objects.create(code="x", label="X")
    place = Place(code="x", label="Y")  # an update, for all that it looks new
    place.save()
    assert told("places") == [(CREATE, "x"), (UPDATE, "x")]


def test_an_empty_payload_is_not_sent(define: Define, told: Told) -> None:
    define(group_names=for_all, serialize=lambda *_: {})
    Article.objects.create(title="a")
    assert told("all") == []


def test_the_signal_s_arguments_are_there(define: Define) -> None:
    seen: list[Any] = []

    def serialize(self: Any, instance: Article, action: str) -> Any:
        seen.append(self.signal_kwargs["update_fields"])

    define(group_names=for_all, serialize=serialize)
    Article.objects.create(title="a").save(update_fields=["title"])
    assert seen == [None, frozenset({"title"})]


def test_a_binding_is_connected_once_and_can_be_let_go(define: Define, told: Told) -> None:
    binding = define(group_names=for_all)
    binding.register()
    Article.objects.create(title="a")
    assert len(told("all")) == 1
    binding.unregister()
    Article.objects.create(title="a").tags.add(Tag.objects.create(name="x"))
    assert told("all") == []


def test_one_name_in_place_of_a_list_is_refused(define: Define) -> None:
    define(group_names=classmethod(lambda cls, instance: "all"))
    with pytest.raises(UsageError, match="expected a list of names"):
        Article.objects.create(title="a")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"fields": None}, "has neither of fields and exclude"),
        ({"exclude": ["title"]}, "has both of fields and exclude"),
        ({"fields": "title"}, "fields is 'title'; expected a list of names"),
        ({"fields": None, "exclude": "__all__"}, "exclude is '__all__'; expected a list"),
        ({"fields": ["titel"]}, "names 'titel', which is no field of project.Article"),
        ({"fields": None, "exclude": ["titel"]}, "names 'titel'"),
        ({"model": "project.Articel"}, "model is 'project.Articel'"),
        ({"model": "Article"}, "model is 'Article'"),
        ({"model": dict}, "expected a model that is not abstract"),
        ({"stream": None}, "stream is None; expected the name of a stream"),
    ],
)
def test_mistakes_are_told_when_the_class_is_made(
    define: Define, body: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        define(**body)


# Inbound


class Open(WebsocketBinding):
    """For bindings that let everybody do everything."""

    channel_session_user = False
    asked: ClassVar[list[Any]] = []

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Permit."""
        self.asked.append((str(user), action, pk))
        return True

    def rejected(self, error: Any) -> None:
        """Tell the client."""
        name = type(error).__name__
        self.kwargs["multiplexer"].send({"action": "rejected", "error": name})


@pytest.fixture
def ask(define: Define, layer: ChannelLayer) -> Callable[..., Any]:
    """Return what has a frame handled by a binding on a stream; returns what is answered."""

    def ask(binding: Any = None, **payload: Any) -> list[Any]:
        binding = binding or define(Open)

        class Streams(WebsocketDemultiplexer):
            consumers: ClassVar = {"articles": binding.consumer}

        consume = Consumption(layer, [Streams.as_route()])
        frame = json.dumps({"stream": "articles", "payload": payload})
        found = contents(consume("websocket.receive", text=frame))
        assert consume.counts.failed == 0
        return [one["payload"] for one in found]

    return ask


def test_clients_create_update_and_delete(ask: Any) -> None:
    Open.asked.clear()
    assert ask(action="create", data={"title": "a"}) == []
    article = Article.objects.get()
    assert article.title == "a"
    assert ask(action="update", pk=article.pk, data={"title": "b"}) == []
    article.refresh_from_db()
    assert article.title == "b"
    assert ask(action="delete", pk=str(article.pk)) == []
    assert not Article.objects.exists()
    assert Open.asked == [
        ("AnonymousUser", "create", None),
        ("AnonymousUser", "update", article.pk),
        ("AnonymousUser", "delete", article.pk),
    ]


@pytest.mark.parametrize("pk", [{"evil": 1}, 7, "7", []])
def test_clients_cannot_choose_the_key_that_permission_to_create_is_asked_for(
    ask: Any, pk: Any
) -> None:
    Open.asked.clear()
    assert ask(action="create", pk=pk, data={"title": "a"}) == []
    assert Open.asked == [("AnonymousUser", "create", None)]


def test_nor_can_a_subclass_that_reads_messages_itself(define: Define) -> None:
    binding = define(Open)()
    binding.user = "somebody"
    Open.asked.clear()
    binding.run_action(CREATE, 7, {"title": "a"})
    assert Open.asked == [("somebody", "create", None)]


def test_fields_that_are_not_listed_are_not_set(ask: Any) -> None:
    hostile = {"title": "a", "secret": "x", "id": 7, "pk": 7, "section": "x"}
    ask(action="create", data=hostile)
    article = Article.objects.get()
    assert (article.title, article.secret, article.section) == ("a", "", "news")
    assert article.pk != 7 or Article.objects.count() == 1
    ask(action="update", pk=article.pk, data=hostile)
    article.refresh_from_db()
    assert (article.secret, article.section) == ("", "news")


def test_an_excluded_field_is_not_set_either(ask: Any, define: Define) -> None:
    binding = define(Open, fields=None, exclude=["secret"])
    ask(binding, action="create", data={"title": "a", "secret": "x", "section": "x"})
    article = Article.objects.get()
    assert (article.secret, article.section) == ("", "x")


def test_files_and_what_forms_do_not_edit_cannot_be_set(ask: Any, define: Define) -> None:
    binding = define(Open, fields=["__all__"])
    ask(binding, action="create", data={"title": "a", "attachment": "/etc/x", "internal": "x"})
    article = Article.objects.get()
    assert (article.attachment.name, article.internal) == ("", "")


def test_relations_are_set_by_primary_keys(ask: Any, define: Define) -> None:
    binding = define(Open, fields=["title", "origin", "tags"])
    first = Article.objects.create(title="first")
    tag = Tag.objects.create(name="x")
    data = {"title": "a", "origin": first.pk, "tags": [tag.pk]}
    assert ask(binding, action="create", data=data) == []
    article = Article.objects.get(title="a")
    assert article.origin == first
    assert list(article.tags.all()) == [tag]
    assert ask(binding, action="update", pk=article.pk, data={"tags": [], "origin": None}) == []
    changed = Article.objects.get(title="a")
    assert changed.origin is None
    assert not changed.tags.exists()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"title": "far too long for this field"},
        {"title": ""},
        {"title": "a", "rating": "many"},
        {"title": "a", "rating": 10**30},
        {"title": "a", "rating": 1e308},
        {"title": "a", "rating": []},
        {"title": "a", "price": "1.555"},
        {"title": "a", "published": []},
        {"title": "a", "published": "yesterday"},
        {"title": "a", "origin": 999},
        {"title": "a", "origin": {}},
        {"title": "a", "tags": 1},
        {"title": "a", "tags": [999]},
        {"title": "a", "tags": [[]]},
    ],
)
def test_what_a_form_would_not_take_is_rejected(
    ask: Any, define: Define, data: dict[str, Any]
) -> None:
    binding = define(Open, fields=["title", "rating", "price", "published", "origin", "tags"])
    answer = ask(binding, action="create", data=data)
    assert answer == [{"action": "rejected", "error": "ValidationError"}]
    assert not Article.objects.exists()


REJECTED = [{"action": "rejected", "error": "ValidationError"}]


@pytest.fixture
def lessons(define: Define) -> Any:
    """Return a binding of lessons that lets everybody do everything."""
    return define(Open, model=Lesson, fields=["course", "number", "remark", "details", "topics"])


@pytest.fixture
def lesson() -> Lesson:
    """Return the first lesson of a course, with a topic."""
    lesson = Lesson.objects.create(course="a", number=1)
    lesson.topics.add(Tag.objects.create(name="public"))
    return lesson


def test_a_relation_takes_only_what_its_choice_is_limited_to(
    ask: Any, lessons: Any, lesson: Lesson
) -> None:
    public, internal = lesson.topics.get().pk, Tag.objects.create(name="internal").pk
    for topics in ([internal], [public, internal]):
        data = {"course": "b", "number": 1, "topics": topics}
        assert ask(lessons, action="create", data=data) == REJECTED
        assert ask(lessons, action="update", pk=lesson.pk, data={"topics": topics}) == REJECTED
    assert [topic.pk for topic in lesson.topics.all()] == [public]
    data = {"course": "b", "number": 1, "topics": [public, str(public)]}
    assert ask(lessons, action="create", data=data) == []
    assert Lesson.objects.count() == 2


@pytest.mark.parametrize("given", [{"topics": []}, {}])
def test_a_relation_that_a_form_requires_is_required(
    ask: Any, lessons: Any, lesson: Lesson, given: dict[str, Any]
) -> None:
    data = {"course": "b", "number": 1, **given}
    assert ask(lessons, action="create", data=data) == REJECTED
    expected = REJECTED if given else []  # an update need not have everything
    assert ask(lessons, action="update", pk=lesson.pk, data=given) == expected
    assert lesson.topics.count() == 1
    assert Lesson.objects.count() == 1


@pytest.mark.parametrize(
    "data",
    [
        {"remark": None},
        {"remark": "a\0b"},
        {"details": {"x": ["a\0b"]}},
        {"details": {"a\0b": 1}},
        {"topics": None},
        {"topics": ["1\0"]},
    ],
)
def test_what_a_database_would_not_take_is_rejected(
    ask: Any, lessons: Any, lesson: Lesson, data: dict[str, Any]
) -> None:
    assert ask(lessons, action="update", pk=lesson.pk, data=data) == REJECTED
    given = {"course": "b", "number": 1, "topics": [lesson.topics.get().pk], **data}
    assert ask(lessons, action="create", data=given) == REJECTED
    assert Lesson.objects.count() == 1


def test_a_key_with_a_nul_character_is_rejected(ask: Any, define: Define) -> None:
    binding = define(Open, model=Place, fields=["label"])
    assert ask(binding, action="delete", pk="a\0b") == REJECTED


def test_an_update_of_half_of_what_is_unique_together_is_rejected(
    ask: Any, lessons: Any, lesson: Lesson
) -> None:
    other = Lesson.objects.create(course="a", number=2)
    assert ask(lessons, action="update", pk=other.pk, data={"number": 1}) == REJECTED
    assert ask(lessons, action="update", pk=other.pk, data={"number": 3}) == []
    assert sorted(Lesson.objects.values_list("number", flat=True)) == [1, 3]


def test_a_conflict_with_what_another_has_just_stored_is_rejected(
    ask: Any, lessons: Any, lesson: Lesson
) -> None:
    def be_faster(instance: Lesson, **_: Any) -> None:
        if instance.remark:
            Lesson.objects.create(course=instance.course, number=instance.number)

    data = {"course": "b", "number": 1, "remark": "x", "topics": [lesson.topics.get().pk]}
    pre_save.connect(be_faster, sender=Lesson)
    try:
        assert ask(lessons, action="create", data=data) == REJECTED
    finally:
        pre_save.disconnect(be_faster, sender=Lesson)
    assert ask(lessons, action="create", data=data) == []


def test_a_delete_of_what_is_protected_is_rejected(ask: Any, lessons: Any, lesson: Lesson) -> None:
    Lesson.objects.create(course="a", number=2, after=lesson)
    assert ask(lessons, action="delete", pk=lesson.pk) == REJECTED
    assert Lesson.objects.count() == 2


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({}, "ValidationError"),
        ({"action": 1}, "ValidationError"),
        ({"action": "destroy"}, "ValidationError"),
        ({"action": "create", "data": "title"}, "ValidationError"),
        ({"action": "update", "data": {}}, "ValidationError"),
        ({"action": "update", "pk": "x", "data": {}}, "ValidationError"),
        ({"action": "delete", "pk": {}}, "ValidationError"),
        ({"action": "update", "pk": 999, "data": {}}, "DoesNotExist"),
    ],
)
def test_malformed_frames_are_rejected(ask: Any, payload: dict[str, Any], error: str) -> None:
    assert ask(**payload) == [{"action": "rejected", "error": error}]


def test_what_is_no_json_is_rejected(define: Define, layer: ChannelLayer) -> None:
    binding = define(Open)
    message = Message({"text": "{", "reply_channel": REPLY}, "websocket.receive", layer)
    multiplexer = WebsocketMultiplexer("articles", message.reply_channel)
    binding.consumer(message, multiplexer=multiplexer)
    binding.consumer(Message({}, "websocket.receive", layer), multiplexer=multiplexer)


def test_nobody_may_do_anything_by_default(
    ask: Any, define: Define, caplog: pytest.LogCaptureFixture
) -> None:
    article = Article.objects.create(title="a")
    binding = define()
    for action in (CREATE, UPDATE, DELETE):
        assert ask(binding, action=action, pk=article.pk, data={"title": "b"}) == []
    article.refresh_from_db()
    assert article.title == "a"
    assert Article.objects.count() == 1
    assert caplog.text.count("rejected what AnonymousUser asked for: PermissionDenied") == 3


def test_an_async_permission_permits_nothing(define: Define, layer: ChannelLayer) -> None:
    async def has_permission(*_: Any) -> bool:
        return True

    binding = define(has_permission=has_permission)
    consume = Consumption(layer, [route("websocket.receive", binding.consumer)])
    consume("websocket.receive", text='{"action": "create", "data": {"title": "a"}}')
    assert consume.counts.failed == 1
    assert not Article.objects.exists()


def test_the_user_of_the_message_is_asked_about(define: Define, layer: ChannelLayer) -> None:
    binding = define(Open)
    Open.asked.clear()
    message = Message({"text": '{"action": "create", "data": {"title": "a"}}'}, "x", layer)
    vars(message)["user"] = "somebody"
    binding.consumer(message)
    assert Open.asked == [("somebody", "create", None)]


def test_connecting_and_disconnecting_do_not_reach_a_binding(
    define: Define, layer: ChannelLayer
) -> None:
    binding = define(Open)

    class Streams(WebsocketDemultiplexer):
        consumers: ClassVar = {"articles": binding.consumer}

    consume = Consumption(layer, [Streams.as_route()])
    assert contents(consume("websocket.connect")) == [{"accept": True}]
    assert consume("websocket.disconnect", code=1000) == []


def test_a_binding_is_a_stream_of_an_async_socket(define: Define, layer: ChannelLayer) -> None:
    binding = define(Open, group_names=for_all)
    layer.group_add("all", "test.all")

    class Streams(AsyncWebsocketDemultiplexer):
        consumers: ClassVar = {"articles": binding.aconsumer}

    consume = Consumption(layer, [Streams.as_route()])
    frame = {"stream": "articles", "payload": {"action": "create", "data": {"title": "a"}}}
    (told,) = consume("websocket.receive", text=json.dumps(frame))
    assert isinstance(told, GroupSend)
    (rejected,) = consume("websocket.receive", text='{"stream": "articles", "payload": 1}')
    assert contents([rejected])[0]["payload"]["action"] == "rejected"
    assert Article.objects.count() == 1


def test_the_consumer_has_to_fit_the_socket(define: Define) -> None:
    binding = define(Open)
    for given, expected in (
        (binding.consumer, "is sync; the streams"),
        (binding, "of a binding give ArticleBinding.consumer"),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            AsyncWebsocketDemultiplexer.as_route(attrs={"consumers": {"x": given}})


def test_what_a_client_changes_is_told_to_all(
    define: Define, ask: Any, layer: ChannelLayer
) -> None:
    binding = define(Open, group_names=for_all)
    answers = ask(binding, action="create", data={"title": "a"})
    assert [(one["action"], one["data"]) for one in answers] == [("create", {"title": "a"})]
    assert Group("all").channels() == []


def test_a_binding_looks_the_user_up_in_the_channel_session(
    define: Define, layer: ChannelLayer
) -> None:
    pytest.importorskip("busway.django.auth")
    binding = define(Open, channel_session_user=True)
    Open.asked.clear()
    consume = Consumption(layer, [route("websocket.receive", binding.consumer)])
    consume("websocket.receive", text='{"action": "create", "data": {"title": "a"}}')
    assert Open.asked == [("AnonymousUser", "create", None)]
