"""The circuit breaker in JavaScript, by the same cases as the one in Python."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "client" / "breaker_cases.json").read_text(encoding="utf-8")
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUN_CASE = """async (text) => {
  const { Breaker } = await import('/js/breaker.js');
  const { BreakerOpen } = await import('/js/errors.js');
  const given = JSON.parse(text);
  let nowS = 100;
  const breaker = new Breaker({ clock: () => nowS, rng: () => given.random });
  const requests = new Map();
  const work = (what, name) => {
    if (what === 'fail' || what === 'succeed') {
      const request = breaker.request();
      request[what === 'fail' ? 'failed' : 'succeeded']();
      request.end();
    } else if (what === 'sign') breaker.giveAChance();
    else if (what === 'begin') requests.set(name, breaker.request());
    else if (what !== 'look') {
      if (what !== 'cancelled') requests.get(name)[what]();
      requests.get(name).end();
    }
  };
  return given.steps.map(({ at_s, do: what, times = 1 }) => {
    nowS = 100 + at_s;
    let refused = false;
    for (let n = 0; n < times; n += 1) {
      try {
        work(...what.split(' '));
      } catch (error) {
        if (!(error instanceof BreakerOpen) || error.retryAfterS !== breaker.retryInS) throw error;
        refused = true;
      }
    }
    return [refused, breaker.state, Number(breaker.retryInS.toFixed(6))];
  });
}"""


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
async def test_case(case: dict[str, Any], unit_page: Page) -> None:
    found = await unit_page.evaluate(RUN_CASE, json.dumps(case))
    assert found == [[given.get("refused", False), given["state"], given["retry_in_s"]] for given in case["steps"]]
