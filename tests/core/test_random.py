"""Keys give streams that depend on the key alone."""

from medsynth.core.random import Key


def test_known_value_on_every_machine() -> None:
    assert Key(0).fold("case-007").integer() == Key(0, ("case-007",)).integer()
    assert Key(0, ("a", 1)).integer() == 4378677999189360247


def test_branches_differ_and_repeat() -> None:
    keys = [Key(0), Key(1), Key(0, ("a",)), Key(0, ("b",)), Key(0, ("a", 1)), Key(0, ("a", "1"))]
    assert len({key.integer() for key in keys}) == len(keys)
    assert (Key(3).numpy().random(5) == Key(3).numpy().random(5)).all()
