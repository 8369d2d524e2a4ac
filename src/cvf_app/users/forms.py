"""A new person in the forms they have: sealed in the database, and at the identity provider."""

from dataclasses import dataclass

from cvf_app.users.identity import NewAccount
from cvf_app.users.model import NewUser, User
from cvf_app.users.sealing import Person


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A new user, and the first password if we made the account."""

    user: User
    password: str | None


def account_of(person: Person | NewUser) -> NewAccount:
    """Return the account that the identity provider is to have for somebody."""
    return NewAccount(
        username=person.username,
        email=person.email,
        first_name=person.first_name,
        last_name=person.last_name,
        affiliation=person.affiliation,
    )


def person_of(new: NewUser, subject: str) -> Person:
    """Return what is sealed of a new user."""
    return Person(
        username=new.username,
        subject=subject,
        email=new.email,
        first_name=new.first_name,
        last_name=new.last_name,
        affiliation=new.affiliation,
    )
