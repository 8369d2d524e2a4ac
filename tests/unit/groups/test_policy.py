"""Which depth applies to whom."""

import pytest

from cvf_app.errors import Invalid
from cvf_app.groups.model import Depth, DiscoveryGroup
from cvf_app.groups.policy import check_policy, depths, reaches


def group(depth, *, users=("ann",), sources=("s1",), network="own"):
    return DiscoveryGroup(
        group_id="g",
        group_name="group",
        network_id=network,
        discovery_policy=depth,
        assigned_users=users,
        assigned_sources=sources,
    )


class TestDepths:
    def test_highest_of_a_users_groups_wins_per_source(self):
        groups = [
            group(Depth.COUNT, sources=("s1", "s2")),
            group(Depth.LIST, sources=("s2",)),
            group(Depth.BOOLEAN, sources=("s1",)),
        ]
        assert depths(groups, "ann", "own") == {"s1": Depth.COUNT, "s2": Depth.LIST}

    def test_no_access_is_absent_and_does_not_lower_another_group(self):
        assert depths([group(Depth.NO_ACCESS)], "ann", "own") == {}
        both = [group(Depth.NO_ACCESS), group(Depth.BOOLEAN)]
        assert depths(both, "ann", "own") == {"s1": Depth.BOOLEAN}

    def test_groups_of_others_and_of_other_networks_do_not_count(self):
        others = [group(Depth.LIST, users=("bob",)), group(Depth.LIST, network="other")]
        assert depths(others, "ann", "own") == {}


class TestReaches:
    def test_of_many_it_says_what_depths_says_of_each(self):
        groups = [
            group(Depth.COUNT, users=("ann", "bob"), sources=("s1", "s2")),
            group(Depth.LIST, users=("bob",), sources=("s2",)),
            group(Depth.NO_ACCESS, users=("cat",)),
            group(Depth.LIST, users=("ann", "cat"), network="other"),
        ]
        users = frozenset({"ann", "bob", "cat", "dan"})
        each = {user: depths(groups, user, "own") for user in users}
        assert reaches(groups, users, "own") == {u: found for u, found in each.items() if found}
        assert set(reaches(groups, frozenset({"ann"}), "own")) == {"ann"}


class TestCheckPolicy:
    def test_range_is_refused_with_its_path(self):
        with pytest.raises(Invalid) as refused:
            check_policy(Depth.RANGE)
        assert refused.value.path == "$.discoveryPolicy"
