"""What a narrower policy tells can always be worked out from what a wider one tells."""

from hypothesis import given
from hypothesis import strategies as st

from cvf_app.groups.model import Depth
from cvf_app.records.disclose import Findings, disclose, settle
from cvf_app.sources.model import InternalSource
from cvf_app.wire import decode, encode

SOURCE = InternalSource(source_id="s", source_name="s", display_name="S", online=True)
IDS = st.lists(st.text(min_size=1), unique=True, max_size=20)
DEPTHS = st.sampled_from(list(Depth))


def forbidden(_limit):
    raise AssertionError("a depth below this one must not read it")


def findings(known, ignored=(), /, **readers):
    given_readers = {
        "ids": lambda limit: tuple(known[:limit]),
        "documents": lambda limit: [encode({"subjectId": i, "age": 3}) for i in known[:limit]],
    }
    return Findings(
        source=SOURCE, count=len(known), ignored=ignored, **{**given_readers, **readers}
    )


class TestDisclose:
    @given(IDS, DEPTHS, st.none() | DEPTHS)
    def test_an_answer_tells_what_its_depth_allows_and_no_more(self, ids, allowed, asked):
        answer = disclose(findings(ids, ("$.hpo[0]",)), allowed, asked)
        depth = settle(allowed, asked)
        if depth is Depth.NO_ACCESS:
            assert answer is None
            return
        told = decode(encode(answer), dict)
        assert told["exist"] is bool(ids)
        assert told["ignoredFilters"] == ["$.hpo[0]"]
        assert ("recordCount" in told) is (depth.rank >= Depth.COUNT.rank)
        assert ("resultDetails" in told) is (depth.rank >= Depth.LIST.rank)

    @given(IDS, DEPTHS, st.none() | DEPTHS)
    def test_asking_never_adds_to_what_is_allowed(self, ids, allowed, asked):
        assert settle(allowed, asked).rank <= allowed.rank
        if asked is not None:
            assert settle(allowed, asked).rank <= asked.rank
        assert disclose(findings(ids), allowed, allowed) == disclose(findings(ids), allowed)

    @given(IDS, st.sampled_from([Depth.BOOLEAN, Depth.RANGE, Depth.COUNT]), st.none() | DEPTHS)
    def test_below_list_no_subject_is_even_read(self, ids, allowed, asked):
        found = findings(ids, ids=forbidden, documents=forbidden)
        disclose(found, allowed, asked)

    @given(IDS)
    def test_list_gives_ids_alone_and_no_document_is_read(self, ids):
        answer = disclose(findings(ids, documents=forbidden), Depth.LIST)
        assert [bytes(each) for each in answer.result_details.subjects] == [
            encode({"subjectId": each}) for each in ids
        ]

    @given(IDS)
    def test_detailed_list_gives_whole_subjects(self, ids):
        answer = disclose(findings(ids, ids=forbidden), Depth.DETAILED_LIST)
        assert len(answer.result_details.subjects) == answer.record_count == len(ids)
        assert not answer.result_details.truncated

    def test_more_than_one_answer_carries_is_said(self):
        ids = [str(number) for number in range(100_001)]
        answer = disclose(findings(ids), Depth.LIST)
        assert answer.record_count == 100_001
        assert len(answer.result_details.subjects) == 100_000
        assert answer.result_details.truncated
