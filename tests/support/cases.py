"""Random subjects and questions about them, made so that answers are seldom nobody or everybody."""

from random import Random

from cvf_app.records.model import (
    Advanced,
    AgeFilter,
    AllelesFilter,
    EavFilter,
    EavRelation,
    FamilyTypeFilter,
    GenesFilter,
    HpoFilter,
    OrdoFilter,
    RecordQuery,
    SnomedFilter,
    SubjectFilter,
    VariantFilter,
)
from cvf_app.subject import (
    Capability,
    FamilyType,
    GeneAlleles,
    Mutation,
    Sex,
    Subject,
    SubjectCapability,
    SubjectId,
    Variant,
)

HPO = ("0000001", "0000002", "0000003", "0000004", "0000005", "0000006")
ORDO = ("1", "22", "333")
SNOMED = ("100001", "100002", "100003")
GENES = ("BRCA1", "TTN", "a\x00b")
MUTATIONS = (Mutation.MISSENSE, Mutation.NONSENSE, Mutation.INDEL)
FREQUENCIES = (0.0, 0.01, 0.05, 0.2, 0.5)
TEXTS = ("red", "dark red", "two\nlines", "", "nu\x00ll", "été")
ATTRIBUTES = ("colour", "mixed", "list", "level", "a\x00b")
NUMBERS = (0, 1, -2.5, 6.2, 2**53 + 1)
PATTERNS = (
    "red", "^red$", "^.*$", "e", "(?i)RED", "lines", "^lines", "[^x]+d", "o\nl", r"\Ared", "é",
    "b?", "^$", r"\s", "(red|blue)$", r"\x00", r"d\b", "(?s)a.*", r"\Qr", "nothing",
)  # fmt: skip
RELATIONS = tuple(EavRelation)


def subjects(random: Random, count: int, first: int = 0) -> list[Subject]:
    """Make subjects; now and then a whole kind of data is missing."""
    kinds = {
        name: random.random() > 0.06
        for name in (
            "age",
            "sex",
            "family",
            "affected",
            "hpo",
            "ordo",
            "snomed",
            "alleles",
            "variant",
            "eav",
        )
    }
    return [_subject(random, first + at, kinds) for at in range(count)]


def query(random: Random) -> RecordQuery:
    """Make a question of one to three filters."""
    fields: dict[str, object] = {}
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        name = random.choice(
            ("subject", "hpo", "hpo", "ordo", "snomed", "genes", "variant", "eav", "eav")
        )
        if name == "subject":
            fields[name] = _demographics(random)
        else:
            fields[name] = (*fields.get(name, ()), _MAKERS[name](random))
    if random.random() < 0.06:
        fields["advanced"] = _advanced(random)
    return RecordQuery(**fields)


def _maybe(random: Random, value, share: float = 0.8):
    return value if random.random() < share else None


def _some(random: Random, values, most: int) -> tuple:
    return tuple(random.sample(values, random.randint(0, most)))


def _subject(random: Random, number: int, kinds: dict[str, bool]) -> Subject:
    def given(kind: str, value, share: float = 0.8):
        return _maybe(random, value, share) if kinds[kind] else None

    terms = [{term: 25} if random.random() < 0.2 else term for term in _some(random, HPO, 4)]
    return Subject(
        subject_id=SubjectId(f"s-{number}"),
        sex=given("sex", random.choice(tuple(Sex))),
        age=given("age", random.randint(0, 110)),
        age_first_diagnosis=given("age", random.randint(0, 100), 0.5),
        age_first_symptoms=given("age", random.randint(0, 20), 0.5),
        family_type=given("family", random.choice(tuple(FamilyType))),
        affected=given("affected", random.random() < 0.6),
        hpo=given("hpo", tuple(terms)) or (),
        excluded_hpo=_some(random, HPO, 2),
        ordo=given("ordo", _some(random, ORDO, 2)) or (),
        snomed=given("snomed", _some(random, SNOMED, 2)) or (),
        variant=given("variant", tuple(_variant(random) for _ in range(random.randint(0, 3))))
        or (),
        alleles=given("alleles", tuple(_alleles(random) for _ in range(random.randint(0, 2))))
        or (),
        eav=given("eav", _eav_of(random), 0.95) or {},
    )


def _variant(random: Random) -> Variant:
    return Variant(
        gene=random.choice(GENES),
        mutation=_maybe(random, random.choice(MUTATIONS)),
        af=_maybe(random, random.choice(FREQUENCIES), 0.6),
        ac=_maybe(random, random.choice((1, 2)), 0.5),
    )


def _alleles(random: Random) -> GeneAlleles:
    return GeneAlleles(gene=random.choice(GENES), alleles=_some(random, ("01:01", "02:01"), 2))


def _eav_of(random: Random) -> dict:
    made: dict[str, object] = {}
    if random.random() < 0.8:
        made["colour"] = random.choice(TEXTS)
    if random.random() < 0.8:
        made["mixed"] = random.choice((*TEXTS, *NUMBERS, True, False))
    if random.random() < 0.7:
        made["list"] = tuple(
            random.choices((*TEXTS, *NUMBERS, True, False), k=random.choice((0, 1, 2, 3, 4)))
        )
    if random.random() < 0.8:
        made["level"] = random.choice(NUMBERS)
    if random.random() < 0.5:
        made["a\x00b"] = random.choice(TEXTS)
    return made


def _age(random: Random) -> AgeFilter:
    low = random.choice((0, random.randint(0, 60)))
    return AgeFilter(min=low, max=random.randint(low, 100))


def _demographics(random: Random) -> SubjectFilter:
    fields: dict[str, object] = {}
    for _ in range(random.choice((1, 1, 2))):
        name = random.choice(
            (
                "age",
                "age_first_symptoms",
                "age_first_diagnosis",
                "gender",
                "affected_only",
                "family_type",
            )
        )
        fields[name] = {
            "gender": lambda: random.choice(("male", "female", "any")),
            "affected_only": lambda: True,
            "family_type": lambda: FamilyTypeFilter(
                family=random.random() < 0.5,
                singletons=random.random() < 0.5,
                trios=random.random() < 0.5,
            ),
        }.get(name, lambda: _age(random))()
    return SubjectFilter(**fields)


def _terms(random: Random, values: tuple[str, ...], form: str) -> dict:
    terms = tuple(random.sample(values, random.randint(1, len(values))))
    minimum = random.randint(1, max(1, len(terms) // 2))
    return {
        "terms": tuple(random.choice((form, "{}")).format(term) for term in terms),
        "minimum_match": minimum,
    }


def _genes(random: Random) -> GenesFilter:
    wanted = [
        AllelesFilter(gene=random.choice(GENES), alleles=_some(random, ("01:01", "02:01", "x"), 3))
        for _ in range(random.choice((0, 1, 1, 1, 1, 1, 2)))
    ]
    return GenesFilter(alleles=tuple(wanted))


def _variants(random: Random) -> VariantFilter:
    return VariantFilter(
        genes=_some(random, GENES, 2),
        mutation=_some(random, MUTATIONS, 2),
        max_af=random.choice((*FREQUENCIES, 0.08, 0.1, 1.0)),
        use_local_af=random.random() < 0.4,
    )


def _eav(random: Random) -> EavFilter:
    relation = random.choice(RELATIONS)
    if relation.value.startswith("string"):
        attribute = random.choice(("colour", "mixed", "list", "a\x00b"))
        value = random.choice((*TEXTS, True, False))
    elif relation.value.startswith("regex"):
        attribute, value = random.choice(ATTRIBUTES), random.choice(PATTERNS)
    else:
        attribute, value = random.choice(("level", "mixed", "list")), random.choice(NUMBERS)
    return EavFilter(attribute=attribute, relation=relation, value=value)


def _advanced(random: Random) -> Advanced:
    return Advanced(
        required_filters=Capability(
            subject=random.random() < 0.3,
            hpo=random.random() < 0.3,
            variant=random.random() < 0.3,
            subject_capability=SubjectCapability(age=random.random() < 0.3),
        )
    )


_MAKERS = {
    "hpo": lambda random: HpoFilter(**_terms(random, HPO, "HP:{}")),
    "ordo": lambda random: OrdoFilter(**_terms(random, ORDO, "ORPHA:{}")),
    "snomed": lambda random: SnomedFilter(**_terms(random, SNOMED, "SNOMED:{}")),
    "genes": _genes,
    "variant": _variants,
    "eav": _eav,
}
