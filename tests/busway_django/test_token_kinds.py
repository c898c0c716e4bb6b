"""JSON Web Tokens."""

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User

from busway.bus.errors import ConfigurationError
from busway.django.token_kinds import BadToken, JSONWebTokens
from busway_django.browsers import make_user

jwt = pytest.importorskip("jwt")

SECRET = "s" * 64
RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())


def public(key: Any) -> str:
    """Return the public part of a key in PEM format."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def token(
    key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any
) -> str:
    """Return a token for user 7; a claim that is None is left out."""
    content = {"sub": "7", "exp": time.time() + 60} | claims
    content = {name: value for name, value in content.items() if value is not None}
    headers = {"kid": kid} if kid else None
    return str(jwt.encode(content, key, algorithm=algorithm, headers=headers))


def test_a_secret_checks_it() -> None:
    claims = JSONWebTokens(keys=SECRET).read(token(room="lobby"))
    assert claims.user_id == "7"
    assert claims.expires == pytest.approx(time.time() + 60, abs=5)
    assert claims.content["room"] == "lobby"


def test_the_projects_secret_does_without_another(settings: Any) -> None:
    settings.SECRET_KEY = SECRET
    assert JSONWebTokens().read(token()).user_id == "7"
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 64, [SECRET]
    assert JSONWebTokens().read(token()).user_id == "7"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(BadToken, match="not valid"):
        JSONWebTokens().read(token())


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA), ("ES256", EC)])
def test_a_public_key_checks_it(algorithm: str, key: Any) -> None:
    kind = JSONWebTokens(algorithms=[algorithm], keys=public(key))
    assert kind.read(token(key, algorithm)).user_id == "7"


def test_several_keys_are_tried_or_chosen_by_name() -> None:
    tried = JSONWebTokens(algorithms=["RS256"], keys=[public(OTHER_RSA), public(RSA)])
    assert tried.read(token(RSA, "RS256")).user_id == "7"
    keys = {"old": public(OTHER_RSA), "new": public(RSA)}
    chosen = JSONWebTokens(algorithms=["RS256"], keys=keys)
    assert chosen.read(token(RSA, "RS256", kid="new")).user_id == "7"
    for kid in ("old", "other", None):
        with pytest.raises(BadToken, match="not valid"):
            chosen.read(token(RSA, "RS256", kid=kid))


def unsigned() -> str:
    """Return a token that says of itself that nobody signed it."""
    parts = [{"alg": "none", "typ": "JWT"}, {"sub": "7", "exp": time.time() + 60}]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(text.rstrip("=") for text in texts), ""])


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: token("x" * 64), "not valid"),
        (lambda: token(algorithm="HS512"), "not valid"),
        (unsigned, "not valid"),
        (lambda: "nonsense", "not valid"),
        (lambda: "a.b.c", "not valid"),
        (lambda: "ä", "not valid"),
        (lambda: token(exp=None), "no claim 'exp'"),
        (lambda: token(sub=None), "no claim 'sub'"),
        (lambda: token(sub=7), "not valid"),
        (lambda: token(exp=time.time() - 10), "has expired"),
        (lambda: token(nbf=time.time() + 100), "not valid yet"),
        (lambda: token(aud="other"), "for somebody else"),
    ],
)
def test_others_are_refused(made: Any, reason: str) -> None:
    with pytest.raises(BadToken, match=reason):
        JSONWebTokens(keys=SECRET).read(made())


def test_audience_and_issuer_may_be_asked_for() -> None:
    kind = JSONWebTokens(keys=SECRET, audience="chat", issuer="https://id.example.com")
    good: dict[str, Any] = {"aud": ["chat", "shop"], "iss": "https://id.example.com"}
    assert kind.read(token(**good)).user_id == "7"
    bads: list[tuple[dict[str, Any], str]] = [
        ({"aud": "shop"}, "for somebody else"),
        ({"aud": None}, "no claim 'aud'"),
        ({"iss": "https://evil.org"}, "from somebody else"),
        ({"iss": None}, "no claim 'iss'"),
    ]
    for bad, reason in bads:
        with pytest.raises(BadToken, match=reason):
            kind.read(token(**(good | bad)))


def test_clocks_may_differ_by_the_leeway() -> None:
    late = token(exp=time.time() - 10)
    assert JSONWebTokens(keys=SECRET, leeway=60).read(late).user_id == "7"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"algorithms": []}, "expected some of"),
        ({"algorithms": ["none"]}, "expected some of"),
        ({"algorithms": ["HS256", "RS256"], "keys": "x"}, "mixes secrets with public keys"),
        ({"algorithms": ["RS256"]}, "'keys' has none"),
    ],
)
def test_what_would_not_be_safe_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        JSONWebTokens(**options)


@pytest.mark.django_db
class TestUsers:
    def test_the_subject_is_the_primary_key(self) -> None:
        user = make_user()
        kind = JSONWebTokens(keys=SECRET)
        assert kind.find_user(kind.read(token(sub=str(user.pk))))[0] == user

    def test_another_claim_may_name_another_field(self) -> None:
        user = make_user()
        User.objects.update(email="ada@example.com")
        kind = JSONWebTokens(keys=SECRET, user_claim="email", user_field="email")
        assert kind.find_user(kind.read(token(email="ada@example.com")))[0] == user

    @pytest.mark.parametrize("value", ["nobody", "", "999999999999999999999999", "-1"])
    def test_an_unknown_subject_is_refused(self, value: str) -> None:
        make_user()
        kind = JSONWebTokens(keys=SECRET)
        with pytest.raises(BadToken, match="nobody who may log in"):
            kind.find_user(kind.read(token(sub=value)))
