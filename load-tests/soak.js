// A long time at a modest rate: what grows, leaks or slows down shows.
//
//   k6 run -e DURATION=8h load-tests/soak.js                          or: cargo shop load --k6 soak
//
// Each virtual user compares what it sees now with what it saw in the first tenth of the time: the drift is 1 when
// nothing has changed, 2 when everything takes twice as long.
//
// RATE       orders a second (20)
// DURATION   how long (1h)
// MOST_DRIFT what the median may grow to, as a multiple (1.5); LATENCY=off promises nothing about time

import exec from "k6/execution";
import { Trend } from "k6/metrics";
import {
  COMMON,
  CORRECT,
  cart,
  follow,
  number,
  open,
  place,
  repeat,
  seconds,
  setting,
  settle,
  timed,
  wish,
} from "./lib.js";

const RATE = number("RATE", 20);
const DURATION = setting("DURATION", "1h");
const MOST_DRIFT = number("MOST_DRIFT", 1.5);
const MIX = { declined: 0.05, undeliverable: 0.01 };
const [EARLY, LATE] = [0.1, 0.8];

const driftOfPost = new Trend("drift_of_post");
const driftOfEnd = new Trend("drift_of_end");

export const options = {
  ...COMMON,
  scenarios: {
    soak: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: DURATION,
      // All from the beginning: who comes later has nothing to compare with.
      preAllocatedVUs: number("VUS", Math.max(10, 2 * RATE)),
      gracefulStop: "5m",
    },
  },
  thresholds: {
    ...CORRECT,
    orders_failed: ["rate<0.0001"],
    ...timed({
      dropped_iterations: ["count==0"],
      drift_of_post: [`med<${MOST_DRIFT}`],
      drift_of_end: [`med<${MOST_DRIFT}`],
      "http_req_duration{phase:early,name:place}": ["p(99)<1000"],
      "http_req_duration{phase:late,name:place}": ["p(99)<1000"],
    }),
  },
};

// What this virtual user saw in the beginning, in milliseconds.
const usual = { post: [], end: [] };

export function setup() {
  return open(RATE * seconds(DURATION));
}

export default function (run) {
  const time = (Date.now() - exec.scenario.startTime) / 1000 / seconds(DURATION);
  const phase = time < EARLY ? "early" : time < LATE ? "middle" : "late";
  const order = wish(run, cart(run.skus), MIX);
  const placed = place(order, { tags: { phase } });
  if (!placed.id) return;
  compare(phase, usual.post, driftOfPost, placed.answer.timings.duration);
  if (Math.random() < 0.02) repeat(order, placed);
  const end = follow(placed, order.end, { phase });
  if (end === "COMPLETED") compare(phase, usual.end, driftOfEnd, Date.now() - placed.sent);
}

function compare(phase, known, drift, took) {
  if (phase === "early") known.push(took);
  if (phase === "late" && known.length > 0) drift.add(took / median(known));
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

export function teardown(run) {
  settle(run);
}
