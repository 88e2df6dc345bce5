"""Hardware addresses: taken for new pairs, changed, and returned."""

from __future__ import annotations

import contextlib
import errno

import pytest

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.kernel.errors import KernelError
from epaird.names.macpool import MacPool, NoAddress
from tests.control.stage import idle_stage
from tests.loop import on_loop

OWN = "02:00:00:00:00:01"


@on_loop
async def test_addresses_are_taken_until_the_pair_could_not_be_created() -> None:
    pool = MacPool(1)
    addresses = PairAddresses(pool)
    settings = PairSettings(a=HalfSettings(mac=OWN), b=HalfSettings(mac="stable"))
    async with contextlib.AsyncExitStack() as undo:
        macs = addresses.take(undo, "epair0", settings)
        assert macs["a"] == OWN
        for taken in macs.values():
            with pytest.raises(NoAddress):
                pool.claim(taken)
        with pytest.raises(KernelError, match=f"epair1: mac {OWN}") as refused:
            addresses.take(undo, "epair1", settings)
        assert refused.value.errno == errno.EEXIST
    for returned in macs.values():
        pool.claim(returned)


@on_loop
async def test_the_unused_address_of_a_derived_couple_is_returned() -> None:
    pool = MacPool(1)
    async with contextlib.AsyncExitStack() as undo:
        PairAddresses(pool).take(undo, "epair0", PairSettings(a=HalfSettings(mac=OWN)))
        assert len(pool._taken) == 2


@on_loop
async def test_a_changed_address_is_taken_and_the_unused_one_returned() -> None:
    async with idle_stage() as stage:
        half = (await stage.make()).halves[0]
        pool = MacPool(1)
        addresses = PairAddresses(pool)
        addresses.adopt(half)
        assert addresses.change(half, HalfSettings(mac=half.mac)) == half.mac
        assert addresses.change(half, HalfSettings(mac=OWN)) == OWN
        addresses.release_unused(half, half.mac)
        assert pool._taken == {OWN, half.mac}
        addresses.release_unused(half, OWN)
        assert pool._taken == {half.mac}
        derived = addresses.change(half, HalfSettings())
        assert pool._taken == {half.mac, derived}
        addresses.release(half)
        assert pool._taken == {derived}
