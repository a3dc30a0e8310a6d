// What all load tests share: settings, carts, placing, following an order to its end, and the count afterwards.
//
// Everything is set by the environment: BASE_URL (the order service), INVENTORY_URL, and what each script names.
// LATENCY=off leaves out every threshold about time, so that only what must be true on any machine remains.

import http from "k6/http";
import exec from "k6/execution";
import { check, fail, sleep } from "k6";
import { Counter, Rate, Trend } from "k6/metrics";

const ORDER = setting("BASE_URL", "http://127.0.0.1:8001");
const INVENTORY = setting("INVENTORY_URL", "http://127.0.0.1:8003");
// One line of the log for each key that is used and each order that is seen, for `cargo shop load --k6`.
const TOLD = setting("TELL_ORDERS", "") !== "";
// How long an order may take to its end, and all of them after the last was placed, in seconds.
const PATIENCE = Number(setting("PATIENCE", "300"));
const OPEN = ["PENDING", "RESERVED", "CONFIRMED", "SHIPPED", "CANCELLING"];
const ENDS = ["COMPLETED", "CANCELLED", "REFUNDED"];
const MOST_LINES = 4;
const MOST_PIECES = 3;

// Answers to POST /v1/orders that are neither an order nor allowed.
export const failed = new Rate("orders_failed");
export const accepted = new Counter("orders_accepted");
// Refused for want of stock: 409.
export const refused = new Counter("orders_refused");
// Turned away for now: 503 with Retry-After.
export const shed = new Counter("orders_shed");
// 5xx that is not that.
export const broken = new Counter("answers_5xx");
// Followed orders that ended in another way than they had to.
export const wrong = new Counter("ends_wrong");
// Accepted orders that the shop does not know afterwards.
export const lost = new Counter("orders_lost");
// Orders of this run that did not come to an end in time.
export const unfinished = new Counter("orders_unfinished");
// Orders of this run as the shop lists them afterwards, by state.
export const ended = new Counter("orders_ended");
// From the first byte of the request to the last state, in milliseconds.
export const endToEnd = new Trend("order_end_to_end", true);

// What must be true of every run.
export const CORRECT = {
  checks: ["rate==1"],
  orders_accepted: ["count>0"],
  answers_5xx: ["count==0"],
  ends_wrong: ["count==0"],
  orders_lost: ["count<=0"],
  orders_unfinished: ["count==0"],
};

export const COMMON = {
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
  setupTimeout: "2m",
  teardownTimeout: `${2 * PATIENCE}s`,
};

export function setting(name, usual) {
  const said = __ENV[name];
  return said === undefined || said === "" ? usual : said;
}

export function number(name, usual) {
  const value = Number(setting(name, usual));
  if (!(value >= 0)) throw new Error(`${name} is "${__ENV[name]}", but must be a number`);
  return value;
}

// '1h', '1m30s' or '90' as seconds.
export function seconds(text) {
  const units = { h: 3600, m: 60, s: 1 };
  const parts = [...String(text).matchAll(/(\d+(?:\.\d+)?)([hms]?)/g)];
  if (parts.map((part) => part[0]).join("") !== String(text)) throw new Error(`"${text}" is no duration such as 1m30s`);
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit] || 1), 0);
}

// Thresholds about time, unless LATENCY=off.
export function timed(thresholds) {
  return setting("LATENCY", "on") === "off" ? {} : thresholds;
}

// A customer of this run's own, by whom its orders are told from others, and enough of everything for `orders` carts.
export function open(orders) {
  const page = http.get(`${INVENTORY}/v1/products?limit=100`, { tags: { name: "catalogue" } });
  const skus = page.status === 200 ? page.json("items").map((product) => product.sku) : [];
  if (skus.length === 0) fail(`the catalogue at ${INVENTORY} is empty or away: ${page.status} ${page.error}`);
  for (const sku of skus) stock(sku, Math.ceil(orders * MOST_PIECES));
  return { skus, customer: crypto.randomUUID(), began: Date.now() };
}

export function list(sku, name, price) {
  const body = JSON.stringify({ name, price, currency: "EUR" });
  const answer = http.put(`${INVENTORY}/v1/products/${sku}`, body, json("catalogue"));
  if (answer.status !== 201) fail(`${sku} cannot be listed: ${answer.status} ${answer.body}`);
}

export function stock(sku, delta) {
  const body = JSON.stringify({ delta: Math.max(1, delta), reason: "load" });
  const answer = http.post(`${INVENTORY}/v1/products/${sku}/stock`, body, json("catalogue"));
  if (answer.status !== 200) fail(`${sku} takes no stock: ${answer.status} ${answer.body}`);
}

export function product(sku) {
  return http.get(`${INVENTORY}/v1/products/${sku}`, { tags: { name: "catalogue" } }).json();
}

// One to four articles; the first of the catalogue are asked for more often than the last.
export function cart(skus) {
  const wanted = new Set();
  const lines = 1 + Math.floor(Math.random() * Math.min(MOST_LINES, skus.length));
  while (wanted.size < lines) wanted.add(skus[Math.floor(Math.random() ** 2 * skus.length)]);
  return [...wanted].map((sku) => ({ sku, quantity: 1 + Math.floor(Math.random() * MOST_PIECES) }));
}

// An order that is to be placed: its body, the key under which it is placed however often it is sent, how it must end.
export function wish(run, lines, { declined = 0, undeliverable = 0 } = {}) {
  const lot = Math.random();
  const bad = lot < declined ? "PAYMENT_DECLINED" : lot < declined + undeliverable ? "SHIPPING_FAILED" : null;
  return {
    key: `${run.customer}-${exec.scenario.name}-${exec.scenario.iterationInTest}`,
    end: bad ? `CANCELLED ${bad}` : "COMPLETED",
    body: JSON.stringify({
      customer: { id: run.customer, email: "load@example.com" },
      lines,
      ship_to: {
        name: "Load",
        street: "Harbour Street 1",
        city: "Hamburg",
        postal_code: "20457",
        country: bad === "SHIPPING_FAILED" ? "XX" : "DE",
      },
      payment_method: bad === "PAYMENT_DECLINED" ? "pm_card_chargeDeclined" : "pm_card_visa",
    }),
  };
}

// Sends it once. `allowed` are answers other than 201 that are no failure.
export function place(wish, { tags = {}, allowed = [] } = {}) {
  if (TOLD) console.log(`attempted ${wish.key}`);
  const sent = Date.now();
  const answer = http.post(`${ORDER}/v1/orders`, wish.body, keyed(wish, "place", tags));
  const placed = { status: answer.status, sent, answer };
  if (answer.status === 201) {
    placed.id = answer.json("id");
    accepted.add(1, tags);
    lost.add(1);
    if (TOLD) console.log(`accepted ${placed.id}`);
  } else if (answer.status === 409 && problem(answer) === "out-of-stock") {
    placed.refused = true;
    refused.add(1, tags);
  } else if (answer.status === 503) {
    shed.add(1, tags);
    check(answer, { "a 503 says when to come back": (it) => retryAfter(it) > 0 });
  } else if (answer.status >= 500) {
    broken.add(1);
  }
  failed.add(answer.status !== 201 && !allowed.includes(answer.status));
  return placed;
}

// As a careful client: under the same key, after the time it was told to wait, until there is a yes or a no.
export function placeStubbornly(wish, options) {
  const until = Date.now() + 1000 * PATIENCE;
  for (;;) {
    const placed = place(wish, options);
    if (placed.id || placed.refused || Date.now() > until) return placed;
    sleep(retryAfter(placed.answer) || 1);
  }
}

// A client that was not sure sends the same again: the answer of the first, and nothing new.
export function repeat(wish, placed) {
  const again = http.post(`${ORDER}/v1/orders`, wish.body, keyed(wish, "repeat", {}));
  check(again, {
    "a repeated submit gets the first answer": (it) =>
      it.status === 201 && it.json("id") === placed.id && it.headers["Idempotent-Replayed"] === "true",
  });
}

// Follows the order's Server-Sent Events to their end, which is the order's; the end as 'COMPLETED' or 'CANCELLED why'.
export function follow(placed, expected, tags = {}) {
  const until = Date.now() + 1000 * PATIENCE;
  let seen = { id: "0", end: null };
  while (seen.end === null && Date.now() < until) {
    const stream = http.get(`${ORDER}/v1/orders/${placed.id}/events`, {
      headers: { "Last-Event-ID": seen.id },
      timeout: "60s",
      tags: { name: "follow" },
    });
    if (stream.status === 200) seen = lastOf(stream.body, seen);
    if (seen.end === null) sleep(retryAfter(stream) || 1);
  }
  if (seen.end === null) {
    unfinished.add(1);
  } else {
    endToEnd.add(Date.now() - placed.sent, { ...tags, end: seen.end.split(" ")[0] });
    if (expected && seen.end !== expected) {
      wrong.add(1);
      console.error(`order ${placed.id} ended as ${seen.end} instead of ${expected}`);
    }
  }
  return seen.end;
}

// Waits until every order of this run is at its end and counts them: what was accepted must be there.
export function settle(run) {
  const until = Date.now() + 1000 * PATIENCE;
  for (const state of OPEN) {
    while (ordersOf(run, `&status=${state}&limit=1`).items.length > 0 && Date.now() < until) sleep(0.5);
  }
  for (let next = ""; next !== null;) {
    const page = ordersOf(run, `&limit=100${next}`);
    for (const { state } of page.items) {
      ended.add(1, { state });
      lost.add(-1);
      if (!ENDS.includes(state)) unfinished.add(1);
    }
    next = page.next_cursor ? `&cursor=${page.next_cursor}` : null;
  }
}

function ordersOf(run, query) {
  for (;;) {
    const page = http.get(`${ORDER}/v1/orders?customer_id=${run.customer}${query}`, { tags: { name: "list" } });
    if (page.status === 200) return page.json();
    if (page.status !== 503) fail(`orders cannot be listed: ${page.status} ${page.error} ${page.body}`);
    sleep(retryAfter(page) || 1);
  }
}

function lastOf(body, before) {
  const seen = { ...before };
  for (const event of body.split("\n\n")) {
    const id = /^id: ?(\d+)$/m.exec(event);
    const data = /^data: ?(.*)$/m.exec(event);
    if (!id || !data) continue;
    const { state, reason } = JSON.parse(data[1]);
    seen.id = id[1];
    if (ENDS.includes(state)) seen.end = state === "CANCELLED" ? `${state} ${reason}` : state;
  }
  return seen;
}

function keyed(wish, name, tags) {
  const { headers } = json(name);
  return { headers: { ...headers, "Idempotency-Key": wish.key }, tags: { ...tags, name } };
}

function json(name) {
  return { headers: { "Content-Type": "application/json" }, tags: { name } };
}

function retryAfter(answer) {
  return Number(answer.headers["Retry-After"] || 0);
}

function problem(answer) {
  return String(answer.json("type")).split("/").pop();
}
