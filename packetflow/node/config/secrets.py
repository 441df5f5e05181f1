"""Secrets in configurations: references to where they are kept, never the secret itself.

A field of type `Secret` is written as one of

    { file = "run/token" }             the file's content, read once
    { env = "DESK_TOKEN" }             an environment variable
    { exec = ["pass", "desk/token"] }  what a program prints, run once, when the secret is first needed
    { token_file = "/var/run/token" }  like file, read again whenever it changes (workload identity)
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from packetflow.documents.faults import MASK, KeyPath, nearest, reason, shown
from packetflow.otp.errors import PacketFlowError

KINDS: Final = ("file", "env", "exec", "token_file")
FORMS: Final = (
    '{ file = "path" }, { env = "NAME" }, { exec = ["program", "argument"] } or { token_file = "path" }'
)
LONGEST: Final = 64 * 1024  # bytes
PATIENCE: Final = 10.0  # seconds that a program may take to print a secret

_WORDS = {
    "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "tokens", "apikey",
    "apikeys", "credential", "credentials", "bearer",
}  # fmt: skip
_KEY_OF = {"api", "access", "private", "secret", "signing", "encryption", "master", "auth", "license"}
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@")


class SecretError(PacketFlowError):
    """A secret can't be had; the message names where it should be, never what it is."""

    code = "unavailable"


def looks_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret: `db_password`, `apiKey`, `auth-token`; not `token_file`."""
    parts = [part.lower() for part in _PART.findall(key[:200])]
    if not parts:
        return False
    if parts[-1] in _WORDS:
        return True
    return len(parts) > 1 and parts[-1] in ("key", "keys") and parts[-2] in _KEY_OF


def is_literal_secret(path: KeyPath, value: object) -> bool:
    """Whether a secret is written out here: a text under a key that looks secret, or a URL with a password in it."""
    if isinstance(value, str):
        named = next((part for part in reversed(path) if isinstance(part, str)), "")
        return bool(value) and (looks_secret(named) or _URL_PASSWORD.match(value) is not None)
    return False


def may_be_secret(path: KeyPath, value: object) -> bool:
    """Whether a value had better not be shown: like `is_literal_secret`, misspelt keys too (`passwrd`)."""
    if is_literal_secret(path, value):
        return True
    named = next((part for part in reversed(path) if isinstance(part, str)), "")
    parts = _PART.findall(named[:200]) if isinstance(value, str) and value else []
    return bool(parts) and bool(difflib.get_close_matches(parts[-1].lower(), _WORDS, n=1, cutoff=0.83))


def masked(value: object, path: KeyPath = ()) -> Any:
    """The value with stars for each secret that is written out in it."""
    if isinstance(value, Secret) or may_be_secret(path, value):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, (*path, index)) for index, item in enumerate(value)]
    return value


def is_reference(value: object) -> bool:
    """Whether a value has the form of a secret's reference."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


class Secret:
    """A reference to a secret. `reveal()` gives it; `repr`, `str`, comparison, JSON and pickle do not.

    As a field of a module's `Config` it is written in one of the forms at the top of this file; a literal is refused.
    Relative paths are relative to the project folder.

    As a mark in a capability's contract (`pin: Annotated[str, Secret]`) it leaves the type as it is, and hides the field's
    values in traces, audit records, notices and logs.
    """

    __slots__ = ("_argument", "_environment", "_folder", "_kind", "_stamp", "_value")

    def __init__(
        self,
        reference: Mapping[str, Any],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Raises ValueError where the reference has none of the forms."""
        self._kind, self._argument = _parsed(reference)
        self._folder = folder if folder is not None else Path()
        self._environment: Mapping[str, str] = environment if environment is not None else os.environ
        self._value: str | None = None
        self._stamp: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, value: str) -> Secret:
        """A secret that is at hand already, for tests and for what was read from standard input."""
        made = cls({"env": "-"}, environment={})
        made._value = value
        return made

    def reveal(self) -> str:
        """The secret. A file's last line end is no part of it. Raises SecretError."""
        if self._kind == "token_file":
            return self._read_token()
        if self._value is None:
            if self._kind == "file":
                self._value = self._read_file()[0]
            elif self._kind == "env":
                self._value = self._read_environment()
            else:
                self._value = self._run()
        return self._value

    def check(self) -> Iterator[tuple[bool, str, str]]:
        """What is wrong with it, without revealing it and without running programs: (is an error, message, what to do)."""
        try:
            if self._kind in ("file", "token_file"):
                yield from self._check_mode(self._read_file()[1])
            elif self._kind == "env":
                self._read_environment()
            else:
                self._program()
        except SecretError as error:
            yield True, str(error), ""

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: pass its reference")

    def described(self) -> tuple[dict[str, Any], Path, Mapping[str, str]]:
        """What it was made of, never what it is. Raises SecretError for one that is at hand and has no reference."""
        if self._argument == ("-",) and not self._environment:
            raise SecretError("this secret is at hand and nowhere else: it has no reference")
        argument: Any = list(self._argument) if self._kind == "exec" else self._argument[0]
        return {self._kind: argument}, self._folder, self._environment

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def _path(self) -> Path:
        text = self._argument[0]
        return Path(text).expanduser() if text.startswith("~/") else self._folder / text

    def _read_file(self) -> tuple[str, os.stat_result]:
        path = self._path()
        what = f"the secret's file {shown(str(path))}"
        try:
            number = os.open(
                path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            )  # a pipe's end is not waited for
            try:
                found = os.fstat(number)
                if not stat.S_ISREG(found.st_mode):
                    raise SecretError(f"{what} is no regular file")
                with open(number, "rb", closefd=False) as file:
                    data = file.read(LONGEST + 1)
            finally:
                os.close(number)
        except (OSError, ValueError) as error:
            raise SecretError(f"{what}: {reason(error)}") from None
        return _text(data, what), found

    def _read_token(self) -> str:
        path = self._path()
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            raise SecretError(f"the secret's file {shown(str(path))}: {reason(error)}") from None
        if self._value is None or self._stamp != _stamp(found):
            self._value, found = self._read_file()
            self._stamp = _stamp(found)
        return self._value

    def _check_mode(self, found: os.stat_result) -> Iterator[tuple[bool, str, str]]:
        name = shown(str(self._path()))
        if found.st_mode & stat.S_IWOTH:
            yield True, f"the secret's file {name} can be written by everybody", f"chmod 600 {name}"
        elif found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
            # No error: the secrets that Kubernetes mounts have mode 0644.
            yield False, f"the secret's file {name} can be read by others", f"chmod 600 {name}"

    def _read_environment(self) -> str:
        name = self._argument[0]
        value = self._environment.get(name)
        if not value:
            similar = nearest(name, self._environment)
            hint = f"; nearest {shown(similar)}" if value is None and similar else ""
            state = "is not set" if value is None else "is empty"
            raise SecretError(f"the secret's environment variable {shown(name)} {state}{hint}")
        return value

    def _program(self) -> str:
        name = self._argument[0]
        found = shutil.which(
            str(self._folder / name) if "/" in name else name, path=self._environment.get("PATH")
        )
        if found is None:
            raise SecretError(f"the secret's program {shown(name)} is not there or may not be run")
        return found

    def _run(self) -> str:
        program = self._program()
        what = f"the secret's program {shown(self._argument[0])}"
        try:
            done = subprocess.run(
                [program, *self._argument[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may hold what must not be shown
                timeout=PATIENCE,
                check=False,
                cwd=self._folder,
                env=dict(self._environment),
            )
        except subprocess.TimeoutExpired:
            raise SecretError(f"{what} did not end within {PATIENCE:g} s") from None
        except (OSError, ValueError) as error:
            raise SecretError(f"{what} can't be run: {error}") from None
        if done.returncode:
            raise SecretError(f"{what} ended with {done.returncode}")
        return _text(done.stdout, f"what {what.removeprefix('the ')} printed")

    @classmethod
    def _validate(cls, value: object, info: ValidationInfo) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "secret_literal", "a secret is never written out; {forms}", {"forms": FORMS}
            )
        context = info.context if isinstance(info.context, Mapping) else {}
        try:
            return cls(value, context.get("folder"), context.get("environment"))
        except ValueError as error:
            raise PydanticCustomError("secret_reference", "{reason}", {"reason": str(error)}) from None

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        if source is not cls:  # it marks another type
            return handler(source)
        return core_schema.with_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: MASK, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if schema["type"] != "function-plain":
            return {**handler(schema), "writeOnly": True}
        texts: dict[str, Any] = {"type": "string", "minLength": 1}
        forms = dict.fromkeys(KINDS, texts) | {"exec": {"type": "array", "items": texts, "minItems": 1}}
        return {
            "description": "A reference to a secret.",
            "oneOf": [
                {
                    "type": "object",
                    "properties": {kind: form},
                    "required": [kind],
                    "additionalProperties": False,
                }
                for kind, form in forms.items()
            ],
        }


def _parsed(reference: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    unknown = [str(key) for key in reference if key not in KINDS]
    if unknown:
        word = nearest(unknown[0], KINDS)
        raise ValueError(
            f"unknown way to a secret: {shown(unknown[0])}" + (f", nearest {word}" if word else "")
        )
    if len(reference) != 1:
        raise ValueError("a secret has exactly one way to it")
    ((kind, value),) = reference.items()
    if kind == "exec":
        if (
            isinstance(value, list | tuple)
            and value
            and all(isinstance(item, str) and item for item in value)
        ):
            return kind, tuple(value)
        raise ValueError(
            'exec takes a list of texts: the program, then its arguments, like ["pass", "desk/token"]'
        )
    if isinstance(value, str) and value:
        return kind, (value,)
    raise ValueError(f"{kind} takes a text that is not empty")


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text(data: bytes, what: str) -> str:
    if len(data) > LONGEST:
        raise SecretError(f"{what} is larger than {LONGEST // 1024} KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretError(f"{what} is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretError(f"{what} is empty")
    return text


def secrets_in(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Secret]]:
    """Every Secret inside a validated configuration (models, tables, lists), with its path."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from secrets_in(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from secrets_in(item, (*path, index))


def with_secrets(
    values: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
    refuse: Callable[[KeyPath, str], None],
) -> dict[str, Any]:
    """A table without a schema (a capability's config) with Secrets in place of the references under secret-looking keys.

    `refuse(path, why)` is told of each malformed one, which is then left out.
    """

    def replaced(value: Any, path: KeyPath) -> Any:
        if isinstance(value, Mapping):
            if path and isinstance(path[-1], str) and looks_secret(path[-1]):
                try:
                    return Secret(value, folder, environment)
                except ValueError as error:
                    refuse(path, str(error))
                    return None
            return {key: replaced(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, (*path, index)) for index, item in enumerate(value)]
        return value

    out: dict[str, Any] = replaced(values, ())
    return out
