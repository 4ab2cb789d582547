"""What is checked: whose program, with which of ours, and what is to be seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tests.interop import guide, majortomo
from tests.interop.places import Place

Needs: TypeAlias = Literal["guide", "c", "pypi"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        theirs: the program of others, as on the page.
        ours: what of ours it talks to.
        run: raises `AssertionError` if it does not work, and returns what was seen.
        why_not: why it is known not to work; empty if it is to work.
    """

    theirs: str
    ours: str
    run: Callable[[Place], str]
    why_not: str = ""


@dataclass(frozen=True)
class Source:
    """A collection of programs of others."""

    title: str
    needs: Needs
    checks: tuple[Check, ...]
    requirements: tuple[str, ...] = ()


def _guide_checks(language: guide.Language) -> tuple[Check, ...]:
    python = (
        (
            Check("mdclient2 and mdworker", "`MAJORDOMO`", guide.majordomo_many_at_once),
            Check("lbbroker's clients and workers", "`BALANCER`", guide.load_balancer),
            Check("clone (the client of model six)", "`CLONE`", guide.clone),
        )
        if language == "python"
        else ()
    )
    return (
        Check("mdclient and mdworker", "`MAJORDOMO`", language_check(guide.majordomo, language)),
        Check("mmiecho", "`MAJORDOMO`", language_check(guide.management, language)),
        Check("mdbroker", "`MajordomoClient` and `MajordomoWorker`", language_check(guide.their_majordomo, language)),
        Check("mdworker", "`MAJORDOMO`, started again", language_check(guide.majordomo_again, language)),
        Check("ticlient and mdworker", "`TITANIC`", language_check(guide.titanic_client, language)),
        Check(
            "titanic and mdworker", "`MAJORDOMO` and `TitanicClient`", language_check(guide.titanic_server, language)
        ),
        Check("lpclient and ppworker", "`PARANOID_PIRATE`", language_check(guide.pirate, language)),
        Check("ppworker", "`PARANOID_PIRATE`, started again", language_check(guide.pirate_again, language)),
        Check("ppqueue", "`PirateClient` and `PirateWorker`", language_check(guide.their_pirate, language)),
        *python,
    )


def language_check(check: Callable[[Place, guide.Language], str], language: guide.Language) -> Callable[[Place], str]:
    """A check of the guide's programs in one language."""
    return lambda place: check(place, language)


SOURCES: Final[Mapping[str, Source]] = {
    "guide-python": Source("The ZeroMQ guide, Python", "guide", _guide_checks("python")),
    "guide-c": Source("The ZeroMQ guide, C", "c", _guide_checks("c")),
    "majortomo": Source(
        "majortomo 0.2.0 (PyPI)",
        "pypi",
        (
            Check("worker", "`MAJORDOMO`", majortomo.our_broker, why_not=majortomo.WHY_NOT),
            Check(
                "broker", "`MajordomoClient` and `MajordomoWorker`", majortomo.their_broker, why_not=majortomo.WHY_NOT
            ),
        ),
        requirements=("majortomo==0.2.0", "six"),
    ),
}
