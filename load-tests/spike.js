// Ten times as much as usual, all of a sudden, and back again.
//
//   k6 run -e RATE=50 load-tests/spike.js                             or: cargo shop load --k6 spike
//
// What is too much may be turned away with 503 and Retry-After, and is counted. Nothing else may go wrong: no other
// 5xx, no order that was accepted and is not there afterwards, and once the spike is over everything is as before.
//
// RATE     orders a second before and after (20)
// FACTOR   how many times that in between (10)
// USUAL, SPIKE   how long it is as usual, before and after, and how long the spike lasts (30s, 30s)
// VUS      how many may be under way at once (900: a replica of the order service takes 1,024 connections)

import exec from "k6/execution";
import { COMMON, CORRECT, cart, follow, number, open, place, seconds, setting, settle, timed, wish } from "./lib.js";

const RATE = number("RATE", 20);
const FACTOR = number("FACTOR", 10);
const [USUAL, SPIKE] = [seconds(setting("USUAL", "30s")), seconds(setting("SPIKE", "30s"))];
const RAMP = 2;
// After the spike what was accepted has yet to be worked off.
const CALM = 10;
const MIX = { declined: 0.05, undeliverable: 0.01 };

export const options = {
  ...COMMON,
  scenarios: {
    spike: {
      executor: "ramping-arrival-rate",
      startRate: RATE,
      timeUnit: "1s",
      stages: [
        { target: RATE, duration: `${USUAL}s` },
        { target: RATE * FACTOR, duration: `${RAMP}s` },
        { target: RATE * FACTOR, duration: `${SPIKE}s` },
        { target: RATE, duration: `${RAMP}s` },
        { target: RATE, duration: `${CALM + USUAL}s` },
      ],
      preAllocatedVUs: Math.max(20, 2 * RATE),
      maxVUs: number("VUS", 900),
      gracefulStop: "5m",
    },
  },
  thresholds: {
    ...CORRECT,
    // Whatever is neither an order nor a 503 that says when to come back.
    orders_failed: ["rate==0"],
    "orders_shed{phase:spike}": ["count>=0"],
    ...timed({
      "orders_shed{phase:before}": ["count==0"],
      "orders_shed{phase:after}": ["count==0"],
      "http_req_duration{phase:before,name:place}": ["p(95)<250"],
      "http_req_duration{phase:spike,name:place}": ["p(95)<5000"],
      "http_req_duration{phase:after,name:place}": ["p(95)<250"],
    }),
  },
};

export function setup() {
  return open(RATE * (2 * USUAL + CALM) + RATE * FACTOR * (SPIKE + 2 * RAMP));
}

export default function (run) {
  const phase = phaseAt((Date.now() - exec.scenario.startTime) / 1000);
  const order = wish(run, cart(run.skus), MIX);
  const placed = place(order, { tags: { phase }, allowed: [503] });
  // During the spike one in ten is followed: all of them would be more than may follow at a time.
  if (placed.id && Math.random() < (phase === "spike" ? 1 / FACTOR : 1)) follow(placed, order.end, { phase });
}

function phaseAt(time) {
  if (time < USUAL) return "before";
  if (time < USUAL + SPIKE + 2 * RAMP) return "spike";
  return time < USUAL + SPIKE + 2 * RAMP + CALM ? "calm" : "after";
}

export function teardown(run) {
  settle(run);
}
