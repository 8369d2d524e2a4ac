"""The attributes of a source's subjects: declared ones, inferred ones, and changes of them.

Promises: what is declared holds for every stored value, since a change of declarations is a job
that checks all of them (`retyping`). What is not declared is inferred from the generation that
answers, as far as its index tells.
"""

from typing import Any

import numpy as np

from cvf_app.engine.keys import Kind, prefix
from cvf_app.engine.segments import Generation, Segment
from cvf_app.errors import Invalid
from cvf_app.ids import SourceId, new_id
from cvf_app.jobs.model import JobDocument
from cvf_app.loops import in_process, in_thread
from cvf_app.pipelines.attributes import (
    AttributeSchema,
    AttributeType,
    Units,
    check_removed,
    check_schemas,
    check_units,
    merged,
    units_of,
)
from cvf_app.pipelines.outline import infer, json_schema
from cvf_app.principal import UserId
from cvf_app.sources.index import MOST_ENTRIES
from cvf_app.sources.model import (
    Declarations,
    DeclarationsChange,
    KnownAttribute,
    KnownAttributes,
    Retype,
)
from cvf_app.sources.requests import Requests
from cvf_app.sources.service import Sources
from cvf_app.subject import EavValue
from cvf_app.wire import encode

LARGEST_DECLARATIONS = 2 * 2**20
_LOOKED_AT = 200
_EXACT = 2**53


class Attributes:
    """The declared and inferred attributes of sources."""

    def __init__(self, sources: Sources, requests: Requests) -> None:
        """Show those of these sources; changes become jobs."""
        self._sources = sources
        self._store = sources.store
        self._requests = requests

    async def known(self, source_id: SourceId) -> KnownAttributes:
        """Return all attributes of a source, the declared ones first.

        Raises:
            NotFound: there is no such source. Unavailable: its index is not on this machine.
        """
        await self._sources.require(source_id)
        declared = await self._store.declarations(source_id)
        _, names, _ = await self._store.mappings(source_id)
        generation = await self._sources.open_generation(source_id)
        ours = {schema.name for schema in declared.attributes}
        shown = [
            KnownAttribute(
                name=schema.name,
                display_name=schema.display_name or names.attributes.get(schema.name, schema.name),
                declared=True,
                value_type=schema.value_type,
                description=schema.description,
                required=schema.required,
            )
            for schema in declared.attributes
        ]
        found = {} if generation is None else await in_thread(inferred, generation)
        shown += [
            KnownAttribute(
                name=name,
                display_name=names.attributes.get(name, name),
                declared=False,
                value_type=of,
            )
            for name, of in found.items()
            if name not in ours
        ]
        return KnownAttributes(on_mismatch=declared.on_mismatch, attributes=tuple(shown))

    async def schema(self, source_id: SourceId) -> dict[str, Any]:
        """Return the JSON Schema of the attributes of one subject.

        Raises:
            NotFound: there is no such source. Unavailable: its index is not on this machine.
        """
        source, _ = await self._sources.require(source_id)
        known = await self.known(source_id)
        schemas = [
            AttributeSchema(
                name=each.name,
                display_name=each.display_name,
                description=each.description,
                required=each.required,
                value_type=each.value_type,
            )
            for each in known.attributes
        ]
        return json_schema(schemas, title=source.display_name)

    async def change(
        self,
        source_id: SourceId,
        asked: Declarations | DeclarationsChange,
        user_id: UserId,
        *,
        check_only: bool,
    ) -> JobDocument:
        """Begin to change the declared attributes, or only to check what would come of it.

        Raises:
            NotFound: there is no such source. Conflict: a job is at work on it.
            Invalid: a schema contradicts itself or has an unknown unit; the path says which.
        """
        await self._sources.require(source_id)
        whole = isinstance(asked, Declarations)
        change = (
            DeclarationsChange(on_mismatch=asked.on_mismatch, attributes=asked.attributes)
            if isinstance(asked, Declarations)
            else asked
        )
        check_schemas(change.attributes)
        old = await self._store.declarations(source_id)
        check_removed(old.attributes, change.attributes, change.removed)
        new = changed(old, change, whole=whole)
        if len(encode(new)) > LARGEST_DECLARATIONS:
            raise Invalid("These declarations are too large to be kept.", path="$.attributes")
        if units := units_of(change.attributes):
            # Pint is loaded in a child alone.
            await in_process(check_units, Units(units=units))
        job = Retype(
            source_id=source_id,
            change=change,
            whole=whole,
            check_only=check_only,
            request_id=new_id(),
        )
        return await self._requests.retype(job, user_id)


def changed(old: Declarations, change: DeclarationsChange, *, whole: bool) -> Declarations:
    """Return declarations after a change; a whole change replaces all there are.

    Raises:
        Invalid: there would be too many.
    """
    before = () if whole else old.attributes
    new = Declarations(
        on_mismatch=change.on_mismatch or old.on_mismatch,
        attributes=merged(before, change.attributes, change.removed),
    )
    check_schemas(new.attributes)
    return new


def inferred(generation: Generation) -> dict[str, AttributeType]:
    """Return the types of a generation's attributes as its values suggest them."""
    names = {
        name
        for segment in generation.segments
        for name in segment.names(Kind.HAS_ATTRIBUTE)
        if segment.posting(Kind.HAS_ATTRIBUTE, name) - segment.dead
    }
    found: dict[str, AttributeType] = {}
    for name in sorted(names)[:MOST_ENTRIES]:
        values: list[EavValue] = []
        for segment in generation.segments:
            values += _numbers(segment, name)
            values += [text == "true" for text in _texts(segment, Kind.TRUTH, name)]
            values += _texts(segment, Kind.TEXT, name)
        of = infer(values)
        if of is not None:
            found[name] = of
    return found


def _numbers(segment: Segment, name: str) -> list[EavValue]:
    """Return the least and the greatest number, as whole ones if all are whole."""
    column = segment.column(Kind.NUMBERS, name).numbers()
    dead = np.frombuffer(segment.dead.to_array(), np.uint32)
    values = column.values if not len(dead) else column.values[~np.isin(column.rows, dead)]
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if max(abs(low), abs(high)) < _EXACT and not np.any(values % 1):
        return [int(low), int(high)]
    return [low, high]


def _texts(segment: Segment, kind: Kind, name: str) -> list[str]:
    """Return the texts; of very many the first and the last, which is enough to tell their type."""
    start = prefix(kind, name)
    low, high = segment.span(start)
    half = _LOOKED_AT // 2
    many = high - low > _LOOKED_AT
    places = (*range(low, low + half), *range(high - half, high)) if many else range(low, high)
    return [
        segment.text_at(at, len(start))
        for at in places
        if not segment.dead or segment.posted(at) - segment.dead
    ]
