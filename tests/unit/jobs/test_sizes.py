"""Sizes on a host: derived budgets, cuts, and which kind has which size."""

from cvf_app.config import Jobs, JobSize
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.workload import Limits

HOST = (2, 3000)


class TestSizes:
    def test_the_budget_is_derived_from_the_host_when_it_is_not_given(self) -> None:
        sizes = Sizes.of(Jobs(), HOST)
        assert (sizes.cores, sizes.memory_mib) == (3, 3000)
        assert sizes.limits["large"] == Limits(2, 3000, 86400.0)
        assert sizes.limits["small"] == Limits(1, 2048, 3600.0)

    def test_a_small_job_goes_beside_a_large_one(self) -> None:
        sizes = Sizes.of(Jobs(), (2, 8000))
        large, small = sizes.limits["large"], sizes.limits["small"]
        assert large.cores == 2
        assert large.cores + small.cores <= sizes.cores
        assert large.memory_mib + small.memory_mib <= sizes.memory_mib

    def test_this_host_has_a_core_and_memory(self) -> None:
        sizes = Sizes.of(Jobs())
        assert sizes.cores >= 1
        assert sizes.memory_mib >= 1

    def test_a_size_larger_than_the_host_is_cut(self) -> None:
        huge = {"small": JobSize(), "large": JobSize(cores=64, memory_mib=2**20)}
        assert Sizes.of(Jobs(sizes=huge), HOST).limits["large"] == Limits(3, 3000, 3600.0)

    def test_a_given_budget_wins_over_the_host(self) -> None:
        sizes = Sizes.of(Jobs(cores=16, memory_mib=64000), HOST)
        assert sizes.limits["large"].cores == 16
        assert sizes.limits["large"].memory_mib == 4096

    def test_a_configured_type_overrides_a_kinds_own_size(self) -> None:
        sizes = Sizes.of(Jobs(types={"ingest": "large"}), HOST)
        assert sizes.size_of("ingest", "small") == "large"
        assert sizes.size_of("remap", "large") == "large"
        assert sizes.size_of("remap", "unknown") == "small"
