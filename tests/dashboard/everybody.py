"""Whether everybody can use a page, as axe-core finds it."""

from pathlib import Path

from tests.dashboard.screen import Screen

__all__ = ["AXE", "COLOURS", "PHONE", "faults"]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
COLOURS = ("color-contrast",)
PHONE = {"width": 390, "height": 844}


async def faults(screen: Screen, *rules: str) -> list[str]:
    """What axe finds serious or worse, by all rules or those."""
    only = {"runOnly": list(rules)} if rules else {}
    found = await screen.page.evaluate("(more) => axe.run(document, { resultTypes: ['violations'], ...more })", only)
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
