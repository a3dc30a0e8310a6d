// An open loop: orders arrive at a rate, whatever the shop makes of them, and are followed to their end.
//
//   k6 run -e RATE=50 -e DURATION=1m load-tests/place_order.js        or: cargo shop load --k6 place_order
//
// RATE         orders a second (20)
// DURATION     how long they arrive (30s)
// FOLLOW       share of the orders that are followed to their end (all, but at most 50 a second)
// REPEAT       share that is sent twice under one Idempotency-Key (0.05)
// DECLINED     share whose card is declined (0.05)
// UNDELIVERABLE  share that goes where nobody delivers (0.01)
// VUS          how many may be under way at once (4 × RATE, 20 to 900)
// POST_P95_MS, POST_P99_MS, END_P95_MS   what is promised (100, 250, 2000); LATENCY=off promises nothing about time

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
const DURATION = setting("DURATION", "30s");
const FOLLOW = number("FOLLOW", Math.min(1, 50 / RATE));
const REPEAT = number("REPEAT", 0.05);
const MIX = { declined: number("DECLINED", 0.05), undeliverable: number("UNDELIVERABLE", 0.01) };
const VUS = number("VUS", Math.min(900, Math.max(20, 4 * RATE)));

export const options = {
  ...COMMON,
  scenarios: {
    orders: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: DURATION,
      // One that were made only when it is needed would miss its arrival.
      preAllocatedVUs: VUS,
      maxVUs: VUS,
      gracefulStop: "5m",
    },
  },
  thresholds: {
    ...CORRECT,
    "orders_ended{state:COMPLETED}": ["count>0"],
    ...timed({
      orders_failed: ["rate<0.001"],
      dropped_iterations: ["count==0"],
      "http_req_duration{name:place}": [`p(95)<${number("POST_P95_MS", 100)}`, `p(99)<${number("POST_P99_MS", 250)}`],
      "order_end_to_end{end:COMPLETED}": [`p(95)<${number("END_P95_MS", 2000)}`],
    }),
  },
};

export function setup() {
  return open(RATE * seconds(DURATION));
}

export default function (run) {
  const order = wish(run, cart(run.skus), MIX);
  const placed = place(order);
  if (!placed.id) return;
  if (Math.random() < REPEAT) repeat(order, placed);
  if (Math.random() < FOLLOW) follow(placed, order.end);
}

export function teardown(run) {
  settle(run);
}
