//! Stock: what is held is never sold twice, and never more than there is.

use super::{Check, Invariant, Kind, Source};
use crate::shop::Service;

const INVENTORY: &[Source] = &[Source::Database(Service::Inventory)];

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "stock-is-never-negative",
        promise: "no article has less than nothing on hand or held, nor more held than on hand",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from products",
            breaches: "select sku || ' has ' || on_hand || ' on hand and ' || reserved || ' held'
                       from products where on_hand < 0 or reserved < 0 or reserved > on_hand order by sku",
        },
    },
    Invariant {
        name: "stock-is-the-sum-of-its-movements",
        promise: "what is on hand of an article is what came in less what left",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from stock_movements",
            breaches: "select sku || ' has ' || on_hand || ' on hand, but its movements come to ' || moved
                       from products
                       cross join lateral (select coalesce(sum(delta), 0) as moved
                                           from stock_movements m where m.sku = products.sku) as movements
                       where on_hand <> moved order by sku",
        },
    },
    Invariant {
        name: "held-stock-is-what-reservations-hold",
        promise: "as many pieces are held of an article as reservations that are HELD name",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from reservations where state = 'HELD'",
            breaches: "with held as (
                           select line->>'sku' as sku, sum((line->>'quantity')::bigint) as pieces
                           from reservations, jsonb_array_elements(lines) as line
                           where state = 'HELD' group by 1
                       )
                       select coalesce(products.sku, held.sku) || ' has ' || coalesce(reserved, 0)
                              || ' pieces held, but reservations hold ' || coalesce(pieces, 0)
                       from products full join held using (sku)
                       where coalesce(reserved, 0) <> coalesce(pieces, 0)",
        },
    },
    Invariant {
        name: "one-reservation-per-order",
        promise: "an order holds its goods once",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from reservations",
            breaches: "select 'order ' || order_id || ' has ' || count(*) || ' reservations'
                       from reservations group by order_id having count(*) > 1",
        },
    },
    Invariant {
        name: "what-was-sold-was-committed",
        promise: "the pieces of an order that left the shelves are those of its committed reservation",
        kind: Kind::Always,
        reads: INVENTORY,
        check: Check::Sql {
            looked_at: "select count(*) from reservations where state = 'COMMITTED'",
            breaches: "with committed as (
                           select order_id, line->>'sku' as sku, sum((line->>'quantity')::bigint) as pieces
                           from reservations, jsonb_array_elements(lines) as line
                           where state = 'COMMITTED' group by 1, 2
                       ), sold as (
                           select order_id, sku, -sum(delta) as pieces
                           from stock_movements where reason = 'SALE' group by 1, 2
                       )
                       select 'order ' || coalesce(order_id::text, '?') || ' committed ' || coalesce(committed.pieces, 0)
                              || ' ' || sku || ', but ' || coalesce(sold.pieces, 0) || ' were sold'
                       from committed full join sold using (order_id, sku)
                       where committed.pieces is distinct from sold.pieces",
        },
    },
];
