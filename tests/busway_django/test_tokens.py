"""Users by token."""

import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session

from busway.app import DenyConnection, Message
from busway.django.sessions import session_for_reply_channel
from busway.django.tokens import (
    EXPIRES,
    BadToken,
    Claims,
    SignedTokens,
    Tokens,
    issue_token,
    token_user,
    verify_token,
)
from busway_django.browsers import make_user, routing_of
from busway_django.sockets import Socket

pytestmark = pytest.mark.django_db

ADA = [{"accept": True, "text": "ada"}]


@pytest.fixture
def user() -> User:
    """Return a user."""
    return make_user()


def tell(message: Message) -> None:
    message.reply_channel.send({"accept": True, "text": message.user.username})


async def atell(message: Message) -> None:
    user = await message.auser()
    await message.reply_channel.asend({"accept": True, "text": user.username})


kinds = pytest.mark.parametrize("consumer", [tell, atell])


def bearer(token: str) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def refused(answer: list[dict[str, Any]], reason: str) -> bool:
    """Say whether a WebSocket was refused for a reason."""
    (reply,) = answer
    assert not reply["accept"]
    assert reply["status"] == 403
    assert reply["content"].decode() == f"{reason}\n"
    return True


@kinds
class TestShowingIt:
    def test_a_header_can(self, consumer: Any, user: User) -> None:
        routing = routing_of(token_user(consumer))
        assert Socket(routing, headers=bearer(issue_token(user))).connect() == ADA
        assert Socket(routing, headers=bearer(issue_token(user))).request() == ADA

    def test_a_subprotocol_can_and_is_answered(self, consumer: Any, user: User) -> None:
        offered = ["chat", "access_token", issue_token(user)]
        answer = Socket(routing_of(token_user(consumer)), subprotocols=offered).connect()
        assert answer == [{**ADA[0], "subprotocol": "access_token"}]

    def test_a_parameter_can_only_if_it_is_named(self, consumer: Any, user: User) -> None:
        query = f"token={issue_token(user)}"
        assert refused(
            Socket(routing_of(token_user(consumer)), query=query).connect(), "A token is needed."
        )
        routing = routing_of(token_user(parameter="token")(consumer))
        assert Socket(routing, query=query).connect() == ADA
        assert refused(Socket(routing, query="token=").connect(), "A token is needed.")

    def test_the_socket_stays_the_users(self, consumer: Any, user: User) -> None:
        socket = Socket(routing_of(token_user(consumer)), headers=bearer(issue_token(user)))
        assert [socket.connect(), socket.receive(), socket.disconnect()] == [ADA] * 3
        assert not Session.objects.exists()

    def test_a_request_leaves_no_session(self, consumer: Any, user: User) -> None:
        Socket(routing_of(token_user(consumer)), headers=bearer(issue_token(user))).request()
        assert not Session.objects.exists()

    def test_without_one_the_consumer_is_not_called(self, consumer: Any) -> None:
        socket = Socket(routing_of(token_user(consumer)))
        assert refused(socket.connect(), "A token is needed.")
        (answer,) = socket.request()
        assert answer["status"] == 401
        assert [b"www-authenticate", b"Bearer"] in answer["headers"]
        assert not Session.objects.exists()

    def test_it_may_be_left_out_where_it_is_not_required(self, consumer: Any, user: User) -> None:
        routing = routing_of(token_user(required=False)(consumer))
        socket = Socket(routing)
        assert socket.connect() == socket.receive() == [{"accept": True, "text": ""}]
        assert Socket(routing, headers=bearer(issue_token(user))).connect() == ADA
        assert refused(Socket(routing, headers=bearer("x")).connect(), "The token is not valid.")

    def test_when_it_has_ended_the_next_frame_closes_the_socket(
        self, consumer: Any, user: User
    ) -> None:
        socket = Socket(routing_of(token_user(consumer)), headers=bearer(issue_token(user)))
        socket.connect()
        session = session_for_reply_channel(socket.reply_channel)
        session[EXPIRES] = time.time() - 1
        session.save()
        assert socket.receive() == [{"close": 4401, "reason": "the token has expired"}]
        assert socket.disconnect() == ADA

    def test_who_is_deactivated_meanwhile_is_anonymous(self, consumer: Any, user: User) -> None:
        socket = Socket(routing_of(token_user(consumer)), headers=bearer(issue_token(user)))
        socket.connect()
        User.objects.update(is_active=False)
        assert socket.receive() == [{"accept": True, "text": ""}]


class TestAnsweringTheSubprotocol:
    def connect(self, consumer: Any, user: User) -> list[dict[str, Any]]:
        offered = ["access_token", issue_token(user), "chat"]
        return Socket(routing_of(token_user(consumer)), subprotocols=offered).connect()

    def test_a_frame_accepts_and_names_it_too(self, user: User) -> None:
        def consume(message: Message) -> None:
            message.reply_channel.send({"text": "hi"})

        answer = {"accept": True, "text": "hi", "subprotocol": "access_token"}
        assert self.connect(consume, user) == [answer]

    def test_the_consumer_may_choose_another(self, user: User) -> None:
        def consume(message: Message) -> None:
            message.reply_channel.send({"accept": True, "subprotocol": "chat"})

        assert self.connect(consume, user) == [{"accept": True, "subprotocol": "chat"}]

    @pytest.mark.parametrize("answer", [{"accept": False}, {"close": True}])
    def test_a_refusal_names_none(self, user: User, answer: Any) -> None:
        def consume(message: Message) -> None:
            message.reply_channel.send(answer)

        assert self.connect(consume, user) == [answer]

    def test_a_refusal_by_exception_names_none(self, user: User) -> None:
        def consume(message: Message) -> None:
            raise DenyConnection

        assert self.connect(consume, user) == [{"accept": False}]


class TestSigned:
    def test_it_carries_what_it_was_given(self, user: User) -> None:
        kind = SignedTokens()
        claims = kind.read(kind.issue(user, room="lobby"))
        assert claims.content["room"] == "lobby"
        assert claims.expires
        assert 3590 < claims.expires - time.time() <= 3600
        assert verify_token(issue_token(user)) == user

    def test_it_has_only_what_a_subprotocol_may(self, user: User) -> None:
        assert set(issue_token(user)) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
        )

    @pytest.mark.parametrize("token", ["", "x", "x.y.z", "ä", "." * 100])
    def test_anything_else_is_refused(self, token: str) -> None:
        with pytest.raises(BadToken, match="not valid"):
            verify_token(token)

    def test_a_changed_one_is_refused(self, user: User) -> None:
        token = issue_token(user)
        with pytest.raises(BadToken, match="not valid"):
            verify_token(("A" if token[0] != "A" else "B") + token[1:])

    def test_one_for_something_else_is_refused(self, user: User) -> None:
        with pytest.raises(BadToken, match="not valid"):
            verify_token(SignedTokens(salt="downloads").issue(user))

    def test_an_old_one_is_refused(self, user: User) -> None:
        short = SignedTokens(max_age=0.000001)
        with pytest.raises(BadToken, match="expired"):
            short.read(short.issue(user))
        with pytest.raises(BadToken, match="expired"):
            SignedTokens().read(short.issue(user))
        with pytest.raises(BadToken, match="expired"):
            short.read(SignedTokens().issue(user))

    def test_a_new_password_ends_it(self, user: User) -> None:
        token = issue_token(user)
        user.set_password("another")
        user.save()
        with pytest.raises(BadToken, match="nobody who may log in"):
            verify_token(token)

    def test_a_new_secret_with_the_old_one_as_fallback_does_not_end_it(
        self, user: User, settings: Any
    ) -> None:
        token = issue_token(user)
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "new"  # noqa: S105
        assert verify_token(token) == user

    @pytest.mark.parametrize("change", ["inactive", "deleted"])
    def test_it_is_no_use_to_who_may_not_log_in(self, user: User, change: str) -> None:
        token = issue_token(user)
        if change == "deleted":
            user.delete()
        else:
            User.objects.update(is_active=False)
        with pytest.raises(BadToken, match="nobody who may log in"):
            verify_token(token)

    def test_an_age_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected seconds above 0"):
            SignedTokens(max_age=0)


def test_a_kind_of_ones_own(user: User) -> None:
    class Names(Tokens):
        user_field = "username"

        def read(self, token: str) -> Claims:
            return Claims(token, None, {"name": token})

    @token_user(Names())
    def consume(message: Message) -> None:
        message.reply_channel.send({"text": f"{message.token} {message.user.username}"})

    socket = Socket(routing_of(consume), headers=bearer("ada"))
    assert socket.connect() == [{"text": "{'name': 'ada'} ada"}]
    assert socket.receive() == [{"text": "None ada"}]
    assert refused(
        Socket(routing_of(consume), headers=bearer("eve")).connect(),
        "The token belongs to nobody who may log in.",
    )
