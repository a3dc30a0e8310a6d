// A hot row: everybody wants the same article at once, and there is not enough of it.
//
//   k6 run -e BUYERS=2000 -e PIECES=500 load-tests/flash_sale.js      or: cargo shop load --k6 flash_sale
//
// Each buyer wants one piece and does not give up before there is a yes or a no. Exactly PIECES are sold; who comes
// too late is refused at once, or, when the last piece went meanwhile, cancelled as out of stock.
//
// PIECES   how many there are (200)
// BUYERS   how many want one (1000)
// VUS      how many of them come at once (200)

import { check, sleep } from "k6";
import { Counter } from "k6/metrics";
import { COMMON, CORRECT, follow, list, number, open, placeStubbornly, product, settle, stock, wish } from "./lib.js";

const PIECES = number("PIECES", 200);
const BUYERS = number("BUYERS", 1000);
const VUS = Math.min(BUYERS, number("VUS", 200));
if (BUYERS <= PIECES) throw new Error("a flash sale has more buyers than pieces");

const sold = new Counter("buyers_served");
const late = new Counter("buyers_too_late");

export const options = {
  ...COMMON,
  scenarios: {
    sale: { executor: "shared-iterations", vus: VUS, iterations: BUYERS, maxDuration: "30m" },
  },
  thresholds: {
    ...CORRECT,
    buyers_served: [`count==${PIECES}`],
    buyers_too_late: [`count==${BUYERS - PIECES}`],
  },
};

export function setup() {
  const run = open(1);
  const sku = `FLASH-${run.customer.slice(0, 8)}`;
  list(sku, "A cup of which there are few", 9900);
  stock(sku, PIECES);
  // Its price has to be known to the order service as well, for the moment in which inventory has no time to answer.
  sleep(3);
  return { ...run, sku };
}

export default function (run) {
  const order = wish(run, [{ sku: run.sku, quantity: 1 }]);
  const placed = placeStubbornly(order);
  const end = placed.id ? follow(placed) : "REFUSED";
  if (end === "COMPLETED") sold.add(1);
  if (placed.refused || end === "CANCELLED OUT_OF_STOCK") late.add(1);
}

export function teardown(run) {
  settle(run);
  check(product(run.sku), {
    "the shelf is empty": (cup) => cup.on_hand === 0,
    "nothing is held any more": (cup) => cup.reserved === 0,
  });
}
