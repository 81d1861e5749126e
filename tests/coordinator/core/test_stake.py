"""Stake: bonds, slashes and their division, to the lamport."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.config import CoreConfig
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import OperationFailed
from coordinator.core.stake import divide_slash, required_bond, slash_amount
from tests.coordinator.core.world import World, balances

LAMPORTS = st.integers(0, 10**12)


@pytest.fixture
def world() -> World:
    made = World()
    for agent_id in ("alice", "bob", "carol"):
        made.agent(agent_id, 10_000_000)
    return made


def condemn(world: World, operation_id: str) -> None:
    """Register the task's constraint hash so that the operation's output is not the one asked for."""
    task_id = world.state.operation(operation_id).task_id
    world.do("register_task", task_id, constraint_hash=bytes(32))


def test_the_bond_grows_with_depth() -> None:
    config = CoreConfig(stake_min_lamports=5, stake_per_depth_lamports=3)
    assert [required_bond(config, depth) for depth in (0, 1, 7)] == [5, 8, 26]


@given(LAMPORTS, st.integers(0, 10_000))
def test_a_slash_never_exceeds_the_bond(bond: int, basis_points: int) -> None:
    assert 0 <= slash_amount(bond, basis_points) <= bond
    assert slash_amount(bond, 10_000) == bond


@given(LAMPORTS, st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**9)), max_size=8))
def test_a_slash_is_divided_without_loss(slashed: int, victims: list[tuple[str, int]]) -> None:
    slash = divide_slash("s", slashed, agent_id="z", bonded_by="y", victims=victims, cooldown_until_ms=0)
    assert (slash.agent_id, slash.bonded_by) == ("z", "y")
    total = sum(bond for _, bond in victims)
    assert sum(share for _, share in slash.victims) + slash.treasury_lamports == slashed
    assert list(slash.victims) == sorted(slash.victims)
    expected: dict[str, int] = {}
    for agent_id, bond in victims:
        if total:
            expected[agent_id] = expected.get(agent_id, 0) + slashed // 2 * bond // total
    assert dict(slash.victims) == {agent_id: share for agent_id, share in expected.items() if share}


def test_without_victims_the_treasury_gets_all() -> None:
    slash = divide_slash("s", 7, agent_id="z", bonded_by="z", victims=[], cooldown_until_ms=0)
    assert (slash.victims, slash.treasury_lamports) == ((), 7)


def test_bonds_are_locked_at_admission_and_return_at_confirmation(world: World) -> None:
    world.chain_of(3)
    alice = world.state.agents["alice"]
    assert (alice.bonded_lamports, alice.free_lamports) == (3_300_000, 6_700_000)
    assert (world.state.locked_lamports, world.state.commitments) == (3_300_000, 3)
    world.run_until_quiet()
    assert (alice.bonded_lamports, alice.returned_lamports, alice.free_lamports) == (0, 3_300_000, 10_000_000)


def test_the_bond_is_fixed_at_admission(world: World) -> None:
    world.submit("a")
    world.configure(stake_min_lamports=9)
    assert world.state.live["a"].bond_lamports == 1_000_000
    world.run_until_quiet()
    assert world.state.agents["alice"].free_lamports == 10_000_000


def test_a_fault_slashes_the_agent_and_pays_its_victims(world: World) -> None:
    world.submit("a", task="t", output="wrong")
    world.submit("b", "a", agent="bob")
    world.submit("c", "b", agent="carol")
    world.submit("mine", "a")
    condemn(world, "a")
    (event,) = world.seen(OperationFailed)
    slash = event.slash
    assert slash is not None
    # 10 % of 1,000,000; half to bob and carol by their bonds of 1.1 and 1.2 million; alice's own is no victim.
    assert slash.lamports == 100_000
    assert slash.victims == (("bob", 50_000 * 11 // 23), ("carol", 50_000 * 12 // 23))
    assert slash.treasury_lamports == 100_000 - sum(share for _, share in slash.victims)
    assert balances(world.state) == {
        "alice": 9_900_000,
        "bob": 10_000_000 + slash.victims[0][1],
        "carol": 10_000_000 + slash.victims[1][1],
    }
    assert world.state.totals.treasury_lamports == slash.treasury_lamports
    assert world.state.slashes[slash.slash_id].code == "constraint_mismatch"
    assert world.state.operation("a").slash_id == slash.slash_id
    assert world.state.agents["alice"].cooldown_until_ms == world.now_ms + 60_000


def test_an_unbonded_operation_fails_without_a_slash(world: World) -> None:
    world.configure(enabled=False)
    world.submit("a", task="t", output="wrong")
    condemn(world, "a")
    assert world.seen(OperationFailed)[0].slash is None
    assert world.state.agents["alice"].cooldown_until_ms == 0
    assert world.state.totals.slashes == 0


def test_free_balance_goes_out_bonded_does_not(world: World) -> None:
    world.submit("a")
    with pytest.raises(CoreError) as refused:
        world.do("withdraw", "alice", 9_000_001)
    assert refused.value.code is ErrorCode.STAKE_INSUFFICIENT
    world.do("withdraw", "alice", 9_000_000)
    world.do("deposit", "alice", 5)
    assert world.state.agents["alice"].free_lamports == 5


@pytest.mark.parametrize("lamports", [0, -1, 1 << 60])
def test_amounts_are_checked(world: World, lamports: int) -> None:
    for command in ("deposit", "withdraw"):
        with pytest.raises(CoreError) as refused:
            world.do(command, "alice", lamports)
        assert (refused.value.code, refused.value.field) == (ErrorCode.INVALID, "lamports")


def test_agents_register_once(world: World) -> None:
    with pytest.raises(CoreError) as refused:
        world.agent("alice")
    assert refused.value.code is ErrorCode.ID_CONFLICT
    with pytest.raises(CoreError):
        world.agent("dora", -1)


# -- delegation ----------------------------------------------------------------------------------------------------


def test_a_delegator_bonds_up_to_its_cap_and_bears_the_slash(world: World) -> None:
    world.configure(stake_delegation=True)
    world.agent("poor", 0)
    world.do("delegate", "bob", "poor", 1_500_000)
    first = world.submit("a", agent="poor", task="t", output="wrong")
    assert (first.committed, first.bonded_by) == (True, "bob")
    assert not world.submit("b", agent="poor").committed, "the cap is used up"
    assert world.state.agents["bob"].bonded_lamports == 1_000_000
    assert world.state.agents["poor"].commitments == 1
    condemn(world, "a")
    assert balances(world.state)["bob"] == 9_900_000
    assert world.state.agents["bob"].cooldown_until_ms == 0
    assert world.state.agents["poor"].cooldown_until_ms > world.now_ms
    assert world.state.agents["poor"].delegators["bob"].used_lamports == 0


def test_delegation_counts_only_when_it_is_enabled(world: World) -> None:
    world.agent("poor", 0)
    world.do("delegate", "bob", "poor", 1_500_000)
    assert not world.submit("a", agent="poor").committed


def test_a_revoked_delegation_ends_when_its_bonds_return(world: World) -> None:
    world.configure(stake_delegation=True)
    world.agent("poor", 0)
    world.do("delegate", "bob", "poor", 5_000_000)
    world.submit("a", agent="poor")
    world.do("delegate", "bob", "poor", 0)
    assert not world.submit("b", agent="poor").committed
    world.run_until_quiet()
    assert world.state.agents["poor"].delegators == {}
    assert balances(world.state)["bob"] == 10_000_000


def test_nobody_delegates_to_itself(world: World) -> None:
    with pytest.raises(CoreError):
        world.do("delegate", "bob", "bob", 1)
