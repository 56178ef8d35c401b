"""Groups of pictures that look nearly the same, by their perceptual hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# Of 256 bits. Measured with dHash of 16 x 16: saving as JPEG of quality 60 or at half the size changes at most 9, 15 %
# more light 4 to 15. Pairs of different photographs of cats differ in 63 or more, of drawn characters in 55; of 10,153
# pairs of emoji faces, which share their outline, 5 differ in 12 or fewer (and look it). Crops change 40 or more: to
# find those, a distance would be needed that puts a third of the emoji into one group.
WITHIN_BITS = 12


def near_duplicates(hashes: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Groups of two or more that hang together by pairs within a few bits.

    Every picture is compared once with those that have no group yet, so that 10,000 take seconds, also when all are
    alike.

    Args:
        hashes: of each picture in hex, and of its mirror image.

    Returns:
        Groups of indices, ascending, in the order of their first members.
    """
    if not hashes:
        return []
    import numpy as np  # noqa: PLC0415  # whoever looks at datasets without judging them does without

    # A word of 64 bits a row, a picture a column.
    own = np.array([np.frombuffer(bytes.fromhex(own), np.uint64) for own, _ in hashes]).T.copy()
    mirrored = np.array([np.frombuffer(bytes.fromhex(mirror), np.uint64) for _, mirror in hashes]).T.copy()
    without_group = np.ones(len(hashes), dtype=bool)
    groups = []
    for first in range(len(hashes)):
        if not without_group[first]:
            continue
        without_group[first] = False
        group = [first]
        for member in group:  # grows while it is walked
            near = np.flatnonzero(without_group)
            for words in (slice(1), slice(None)):  # one word alone rules out nearly all of them
                near = near[_is_near(own[words, near], own[words, member], mirrored[words, member])]
            without_group[near] = False
            group.extend(near.tolist())
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def _is_near(
    others: NDArray[np.uint64], own: NDArray[np.uint64], mirrored: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    import numpy as np  # noqa: PLC0415

    straight, turned = (
        np.bitwise_count(others ^ one[:, None]).sum(axis=0, dtype=np.uint16) for one in (own, mirrored)
    )
    near: NDArray[np.bool_] = np.minimum(straight, turned) <= WITHIN_BITS
    return near
