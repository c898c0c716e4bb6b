"""What a token is, and how it says who somebody is: signed by Django, or a JSON Web Token."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.utils.crypto import constant_time_compare

from busway.bus.errors import BuswayError, ConfigurationError

HOUR = 3600.0


class BadToken(BuswayError):
    """A token is not accepted; the text says why, and the client is told."""


class Claims(NamedTuple):
    """What a token says."""

    user_id: Any
    """The value of the user's field: see `Tokens.user_field`."""
    expires: float | None
    """When it ends, in seconds since the epoch; None: never."""
    content: dict[str, Any]
    """All of it; consumers get it as `message.token`."""


class Tokens(ABC):
    """A kind of token. Subclasses implement `read`, for what the two here do not cover."""

    user_field = "pk"
    """The field of the user model that tokens name somebody by."""

    @abstractmethod
    def read(self, token: str) -> Claims:
        """Return what a token says; raises `BadToken`. It must not block."""

    def accepts(self, user: AbstractBaseUser, claims: Claims) -> bool:
        """Say whether the token still counts for `user`."""
        del user, claims
        return True

    def find_user(self, claims: Claims) -> tuple[AbstractBaseUser, str]:
        """Return the user of a token, and the authentication backend that knows them.

        Raises `BadToken` when there is none, or none that may log in.
        """
        key = self._key_of(claims.user_id)
        for path in settings.AUTHENTICATION_BACKENDS if key is not None else ():
            user = load_backend(path).get_user(key)
            if user is not None and self.accepts(user, claims):
                return user, path
        raise BadToken("the token belongs to nobody who may log in")

    def _key_of(self, value: Any) -> Any:
        """Return the primary key of the user with this value, or None."""
        model = get_user_model()
        try:
            if self.user_field == "pk":
                return model._meta.pk.to_python(value)
            found = model._default_manager.filter(**{self.user_field: value})
            return found.values_list("pk", flat=True).first()
        except (ValidationError, ValueError, TypeError, OverflowError):
            return None


class SignedTokens(Tokens):
    """Tokens signed with SECRET_KEY. They end with their age, or with a change of password."""

    def __init__(self, *, max_age: float = HOUR, salt: str = "busway.django.tokens") -> None:
        """`max_age` is how long a token counts, in seconds; `salt` sets apart what it is for.

        Raises `ConfigurationError` unless `max_age` is above 0.
        """
        if not max_age > 0:
            raise ConfigurationError(f"max_age is {max_age!r}, expected seconds above 0")
        self.max_age = max_age
        self.salt = salt

    def issue(self, user: AbstractBaseUser, **content: Any) -> str:
        """Return a token for `user`, which may carry more: what JSON can hold.

        Everybody who has it can read it, and is `user` to the consumers.
        """
        own = {"sub": str(user.pk), "exp": time.time() + self.max_age, "mark": _marks(user)[0]}
        return self._signer().sign_object({**content, **own})

    def read(self, token: str) -> Claims:
        """See `Tokens.read`."""
        try:
            content: Any = self._signer().unsign_object(token, max_age=self.max_age)
        except SignatureExpired:
            raise BadToken("the token has expired") from None
        except (BadSignature, ValueError):
            raise BadToken("the token is not valid") from None
        if content["exp"] <= time.time():
            raise BadToken("the token has expired")
        return Claims(content["sub"], content["exp"], content)

    def accepts(self, user: AbstractBaseUser, claims: Claims) -> bool:
        """Say whether the user's password is the one of then."""
        given = str(claims.content["mark"])
        return any(constant_time_compare(given, mark) for mark in _marks(user))

    def _signer(self) -> TimestampSigner:
        # Such a token may be a subprotocol, where ":" may not be (RFC 9110, "Tokens").
        return TimestampSigner(salt=self.salt, sep=".")


def _marks(user: AbstractBaseUser) -> list[str]:
    """Return what tells a user's password, the present one, without telling anything of it."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return [sha256(text.encode()).hexdigest()[:24] for text in hashes]


_SECRET = frozenset({"HS256", "HS384", "HS512"})
_PUBLIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

Key = str | bytes
"""A secret, or a public key in PEM format."""


class JSONWebTokens(Tokens):
    """JSON Web Tokens (RFC 7519), by PyJWT: `pip install "busway[jwt]"`. They must have an end."""

    def __init__(
        self,
        *,
        algorithms: Sequence[str] = ("HS256",),
        keys: Key | Sequence[Key] | Mapping[str, Key] | None = None,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0.0,
        user_claim: str = "sub",
        user_field: str = "pk",
    ) -> None:
        """Say which tokens are accepted.

        Args:
            algorithms: those that are accepted, whatever a token says of itself.
            keys: a secret, or public keys in PEM format: one, several to try, or by the `kid`
                of the token's header. None: SECRET_KEY and its fallbacks, for HS algorithms.
            audience: what `aud` has to name, or one of it. None: tokens with an `aud` are for
                somebody else, and refused.
            issuer: what `iss` has to be, or one of it. None: anybody.
            leeway: by how many seconds clocks may differ.
            user_claim: the claim that says who it is.
            user_field: the field of the user model with that value.

        Raises `ConfigurationError` without PyJWT, for unknown algorithms, for secret and public
        ones together, and for public ones without a key.
        """
        try:
            import jwt  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                'JSON Web Tokens need PyJWT, which is not there: pip install "busway[jwt]"'
            ) from None
        self._jwt = jwt
        self.algorithms = _check_algorithms(algorithms)
        if keys is None and not _SECRET.issuperset(self.algorithms):
            raise ConfigurationError(
                f"{', '.join(self.algorithms)} check tokens with public keys, and 'keys' has none"
            )
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._user_claim = user_claim
        self.user_field = user_field

    def read(self, token: str) -> Claims:
        """See `Tokens.read`."""
        jwt = self._jwt
        try:
            content = self._decode(token)
        except jwt.ExpiredSignatureError:
            raise BadToken("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("the token is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise BadToken("the token is for somebody else") from None
        except jwt.InvalidIssuerError:
            raise BadToken("the token is from somebody else") from None
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(f"the token has no claim {error.claim!r}") from None
        except (jwt.PyJWTError, ValueError):
            raise BadToken("the token is not valid") from None
        expires = float(content["exp"]) + self._leeway
        return Claims(content[self._user_claim], expires, content)

    def _decode(self, token: str) -> dict[str, Any]:
        """Return the claims of a token; raises what PyJWT does."""
        jwt = self._jwt
        error: Exception = jwt.InvalidSignatureError("no key fits")
        for key in self._candidates(token):
            try:
                content: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=self.algorithms,
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._leeway,
                    options={"require": ["exp", self._user_claim]},
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError) as found:
                error = found  # perhaps a key of another kind
            else:
                return content
        raise error

    def _candidates(self, token: str) -> Sequence[Key]:
        """Return the keys that may have signed a token."""
        match self._keys:
            case None:
                return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
            case str() | bytes():
                return [self._keys]
            case Mapping():
                name: Any = self._jwt.get_unverified_header(token).get("kid")
                return [self._keys[name]] if name in self._keys else []
            case _:
                return self._keys


def _check_algorithms(given: Sequence[str]) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    unknown = set(names) - _SECRET - _PUBLIC
    if unknown or not names:
        raise ConfigurationError(
            f"algorithms is {given!r}; expected some of "
            f"{', '.join(sorted(_SECRET))}, or of {', '.join(sorted(_PUBLIC))}"
        )
    if not (_SECRET.issuperset(names) or _PUBLIC.issuperset(names)):
        # Whoever knows a public key could sign with it as if it were a secret.
        raise ConfigurationError(
            f"algorithms is {given!r}, which mixes secrets with public keys; make two kinds of "
            "tokens of it"
        )
    return names
