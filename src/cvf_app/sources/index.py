"""What is told about a source's contents: capability, attributes, their display names. Pure."""

from collections.abc import Iterable, Mapping

from cvf_app.errors import Invalid
from cvf_app.sources.model import EavIndex
from cvf_app.subject import Capability, SubjectCapability

MOST_VALUES = 200
MOST_ENTRIES = 20_000
LONGEST_VALUE = 200
LONGEST_NAME = 500


def capability_of(keys: Iterable[str]) -> Capability:
    """Return the published capability for the flat keys of a generation."""
    there = frozenset(keys)
    demographics = SubjectCapability(
        age="subject.age" in there,
        gender="subject.gender" in there,
        family_type="subject.familyType" in there,
        affected="subject.affected" in there,
    )
    return Capability(
        subject=any(key.startswith("subject.") for key in there),
        genes="genes" in there,
        hpo="hpo" in there,
        ordo="ordo" in there,
        snomed="snomed" in there,
        variant="variant" in there,
        eav="eav" in there,
        subject_capability=demographics,
    )


def bounded(attributes: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return the attributes with as many values as an index may hold; long texts are left out.

    All attributes stay as long as there is room for their names; values go first.
    """
    names = sorted(attributes)[:MOST_ENTRIES]
    left = MOST_ENTRIES - len(names)
    kept: dict[str, tuple[str, ...]] = {}
    for name in names:
        values = tuple(value for value in attributes[name] if len(value) <= LONGEST_VALUE)
        kept[name] = values[: min(MOST_VALUES, left)]
        left -= len(kept[name])
    return kept


def eav_index(mappings: Mapping[str, tuple[str, ...]], names: EavIndex) -> EavIndex:
    """Return an index with display names where there are any, else the thing itself."""
    values = dict.fromkeys(value for of_one in mappings.values() for value in of_one)
    return EavIndex(
        attributes={name: names.attributes.get(name, name) for name in mappings},
        values={value: names.values.get(value, value) for value in values},
        mappings=dict(mappings),
    )


def renamed(shown: EavIndex, names: EavIndex, change: EavIndex) -> EavIndex:
    """Return the display names after a change; names of what is gone now are kept.

    Raises:
        Invalid: the change names an attribute or value that is not there, or changes the mappings.
    """
    if change.mappings and change.mappings != shown.mappings:
        raise Invalid(
            "Which values an attribute has follows from the data; only names can change.",
            path="$.mappings",
        )
    _known(change.attributes, shown.attributes, "attribute", "$.attributes")
    _known(change.values, shown.values, "value", "$.values")
    return EavIndex(
        attributes=_merged(names.attributes, change.attributes),
        values=_merged(names.values, change.values),
    )


def _known(given: Mapping[str, str], there: Mapping[str, str], kind: str, path: str) -> None:
    for key, name in given.items():
        if key not in there:
            raise Invalid(f"The index of this source has no such {kind}.", path=f"{path}[{key!r}]")
        if len(name) > LONGEST_NAME:
            raise Invalid(
                f"A display name has at most {LONGEST_NAME} characters.", path=f"{path}[{key!r}]"
            )


def _merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Merge names; one that equals its key, or is empty, is no name of its own."""
    both = {**old, **new}
    return {key: name for key, name in both.items() if name and name != key}
