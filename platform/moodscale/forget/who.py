"""The person who is to be forgotten, under every name they may have."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moodscale.config import ConfigError
from moodscale.prepare.pseudonyms import (
    INTERVIEW_PREFIX,
    KEY_VARIABLE,
    PERSON_PREFIX,
    Pseudonyms,
    find_pseudonyms,
    own_id,
)

_LATER = re.compile(r"(?:@\d{4}-\d{2}-\d{2}(?:\.\d+)?)?")
"""What follows a user's id in the id of a later questionnaire's interview."""
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 16}


@dataclass(frozen=True)
class Who:
    """A person's key, e.g. ``daic:300``, or their pseudonym."""

    person: str
    pseudonyms: Pseudonyms | None

    @classmethod
    def of(cls, person: str) -> Who:
        """With the pseudonym key of the environment, where there is one."""
        if not re.fullmatch(r"[^\s:]+:\S(?:[^\r\n]*\S)?", person):  # an id may hold spaces, but for its ends
            raise ConfigError("PERSON is a person's key such as daic:300, or a pseudonym such as p:1f…; write it so")
        return cls(person, find_pseudonyms())

    @property
    def is_pseudonym(self) -> bool:
        return self.person.startswith(PERSON_PREFIX)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that rows may bear."""
        if self.is_pseudonym or self.pseudonyms is None:
            return (self.person,)
        return self.person, self.pseudonyms.person(self.person)

    def name_in(self, facts: Mapping[str, Any], place: str) -> str:
        """The name in one manifest.

        Raises:
            ConfigError: its people bear pseudonyms of a key that is not at hand.
        """
        key_id = facts.get("pseudonyms", {}).get("key_id")
        if key_id is None or self.is_pseudonym:
            return self.person
        if self.pseudonyms is None or self.pseudonyms.key_id != key_id:
            raise ConfigError(
                f"{place}: its people bear pseudonyms of the key {key_id}; set {KEY_VARIABLE} to that key, or give the "
                "person's pseudonym"
            )
        return self.pseudonyms.person(self.person)

    def is_own_interview(self, corpus: str, interview_id: str) -> bool:
        """Whether a ledger line of that interview is about this person; most corpora name interviews by person."""
        if not interview_id:
            return False
        name = self.person.partition(":")[2]
        if interview_id.startswith(INTERVIEW_PREFIX):
            known = self.pseudonyms
            return known is not None and not self.is_pseudonym and interview_id == known.interview(corpus, name)
        own = own_id(corpus, interview_id)
        return not self.is_pseudonym and own.startswith(name) and bool(_LATER.fullmatch(own[len(name) :]))

    def stands_in(self, text: str) -> bool:
        return mention(self.names).search(text.encode()) is not None

    def seal(self, name: str) -> dict[str, str]:
        """What recognises the name again and does not tell it: keyed where a key is at hand, else salted and slow.

        A pseudonym cannot be guessed: its seal needs no key, so that who gives the pseudonym finds it again without.
        """
        salt = secrets.token_hex(16)
        how = "scrypt" if self.pseudonyms is None or name.startswith(PERSON_PREFIX) else "hmac"
        return {"how": how, "salt": salt, "digest": self._digest(how, salt, name)}

    def is_sealed_in(self, line: Mapping[str, Any], name: str) -> bool:
        """Whether a line's seal is of this name; a keyed one cannot be told without its key."""
        how = str(line.get("how"))
        if how not in ("hmac", "scrypt") or (how == "hmac" and self.pseudonyms is None):
            return False
        return hmac.compare_digest(str(line.get("digest")), self._digest(how, str(line.get("salt")), name))

    def _digest(self, how: str, salt: str, name: str) -> str:
        if how == "hmac":
            assert self.pseudonyms is not None
            return self.pseudonyms.digest(f"{salt} {name}")
        return hashlib.scrypt(name.encode(), salt=salt.encode(), **_SCRYPT).hex()


def mention(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """A name by itself: ``daic:300`` is not in ``daic:3001``. As plain text, JSON or HTML has it."""
    written = dict.fromkeys(form for name in names for form in (name, json.dumps(name)[1:-1], html.escape(name)))
    found = "|".join(re.escape(form) for form in written)
    return re.compile(rf"(?<![0-9A-Za-z_:-])(?:{found})(?![0-9A-Za-z_-])".encode())
