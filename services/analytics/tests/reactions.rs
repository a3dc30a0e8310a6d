//! The projections do not depend on the order of events, on their repetition, or on how they are batched.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use analytics::MIGRATIONS;
use analytics::domain::{Dimension, Sales, Tally};
use proptest::prelude::*;
use sqlx::PgPool;
use support::Ending::{Completed, Declined, OutOfStock, PartlyReturned, Undeliverable};
use support::{Memory, Order, Told, hear, level, story};

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let ending = prop::sample::select(vec![Completed, PartlyReturned, OutOfStock, Declined, Undeliverable]);
    let currency = prop::sample::select(vec!["EUR", "GBP"]);
    let order = (ending, 1..5_i32, 1..2_000_i64, currency, 0..300_i64);
    let order = order.prop_map(|(ending, quantity, price, currency, at)| Order {
        ending,
        quantity,
        price,
        currency,
        at,
    });
    prop::collection::vec(order, 1..5)
}

/// The events in the order in which they happened, and as they may arrive: shuffled, some twice.
fn deliveries() -> impl Strategy<Value = (Vec<Told>, Vec<Told>)> {
    let told = orders().prop_map(|orders| {
        let levels = (1..4).map(|sequence| level("tea", 10 * sequence, sequence));
        orders.iter().flat_map(story).chain(levels).collect::<Vec<Told>>()
    });
    told.prop_flat_map(|told| {
        let twice = prop::sample::subsequence(told.clone(), 0..=told.len());
        let arriving = twice.prop_flat_map({
            let told = told.clone();
            move |twice| Just([told.clone(), twice].concat()).prop_shuffle()
        });
        (Just(told), arriving)
    })
}

proptest! {
    #[test]
    fn any_permutation_repetition_and_batching_gives_the_same_projections(
        (told, arriving) in deliveries(),
        batch in 1..20_usize,
    ) {
        let (mut expected, mut actual) = (Memory::default(), Memory::default());
        expected.hear(&told);
        arriving.chunks(batch).for_each(|batch| actual.hear(batch));
        prop_assert_eq!(&actual, &expected);
        let mut from_scratch = Tally::default();
        actual.orders.values().for_each(|facts| from_scratch.add(facts.contribution(), 1));
        prop_assert_eq!(&actual.tally, &from_scratch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn the_tables_hold_the_same_whatever_arrives_when(
        (told, arriving) in deliveries(),
        batch in 1..20_usize,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (expected, actual) = (testbed::database(&MIGRATIONS).await, testbed::database(&MIGRATIONS).await);
            hear(&expected, &told).await;
            for batch in arriving.chunks(batch) {
                hear(&actual, batch).await;
            }
            let (expected, actual) = (tables(&expected).await, tables(&actual).await);
            assert!(!expected["orders"].is_empty() && expected == actual, "{expected:#?}\n{actual:#?}");
        });
    }
}

/// Every projection, row by row, but for versions and clocks.
async fn tables(pool: &PgPool) -> BTreeMap<&'static str, Vec<serde_json::Value>> {
    let mut tables = BTreeMap::new();
    for (name, query) in [
        (
            "orders",
            "select to_jsonb(orders) - 'version' from orders order by order_id",
        ),
        ("products", "select to_jsonb(products) from products order by sku"),
        (
            "counters",
            "select to_jsonb(counters) from counters order by step, detail",
        ),
        (
            "sales",
            "select to_jsonb(sales) from sales order by dimension, key, currency",
        ),
        ("progress", "select to_jsonb(progress) - 'handled_at' from progress"),
    ] {
        tables.insert(name, sqlx::query_scalar(query).fetch_all(pool).await.unwrap());
    }
    tables
}

fn order(ending: support::Ending, at: i64) -> Order {
    Order {
        ending,
        quantity: 2,
        price: 500,
        currency: "EUR",
        at,
    }
}

#[test]
fn a_completed_order_is_counted_once_in_every_dimension() {
    let mut memory = Memory::default();
    memory.hear(&story(&order(Completed, 0)));
    let sales = |orders, units, revenue| Sales {
        orders,
        units,
        revenue,
        refunded: 0,
    };
    let expected = [
        ((Dimension::Total, String::new()), sales(1, 4, 2_490)),
        // Told ten seconds apart from noon on, the eleventh is OrderCompleted.
        ((Dimension::Minute, "2026-01-05T12:01:00Z".into()), sales(1, 4, 2_490)),
        ((Dimension::Product, "cup".into()), sales(1, 1, 990)),
        ((Dimension::Product, "tea".into()), sales(1, 3, 1_500)),
    ];
    let expected = expected.map(|((dimension, key), sales)| ((dimension, key, "EUR".to_owned()), sales));
    assert_eq!(memory.tally.sales, BTreeMap::from(expected));
}

#[test]
fn a_return_lowers_the_revenue_and_a_cancelled_order_never_had_any() {
    let mut memory = Memory::default();
    memory.hear(&story(&order(PartlyReturned, 0)));
    let total = (Dimension::Total, String::new(), "EUR".to_owned());
    assert_eq!(
        memory.tally.sales[&total],
        Sales {
            orders: 1,
            units: 4,
            revenue: 2_490 - 1_000,
            refunded: 1_000,
        }
    );
    let before = memory.tally.sales.clone();
    for ending in [Undeliverable, Declined, OutOfStock] {
        memory.hear(&story(&order(ending, 0)));
    }
    assert_eq!(memory.tally.sales, before);
    let cancelled = |reason: &str| memory.tally.counts[&("cancelled", reason.to_owned())];
    let reasons = ["SHIPPING_FAILED", "PAYMENT_DECLINED", "OUT_OF_STOCK"];
    assert_eq!(reasons.map(cancelled), [1, 1, 1]);
    assert_eq!(memory.tally.counts[&("not_notified", "order_cancelled".to_owned())], 1);
}

/// Two replicas hear alternate events of the same orders at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_hear_of_the_same_orders_at_once_lose_nothing() {
    let (pool, expected) = (
        testbed::database(&MIGRATIONS).await,
        testbed::database(&MIGRATIONS).await,
    );
    let told: Vec<Told> = (0..10).flat_map(|at| story(&order(Completed, at))).collect();
    let part = |remainder| {
        let (pool, told) = (pool.clone(), told.clone());
        let mine = told
            .into_iter()
            .enumerate()
            .filter(move |(place, _)| place % 2 == remainder);
        let mine: Vec<Told> = mine.map(|(_, told)| told).collect();
        tokio::spawn(async move {
            for batch in mine.chunks(3) {
                hear(&pool, batch).await;
            }
        })
    };
    let (first, second) = tokio::join!(part(0), part(1));
    first.unwrap();
    second.unwrap();
    hear(&expected, &told).await;
    assert_eq!(tables(&pool).await, tables(&expected).await);
}

#[test]
fn analytics_hears_every_fact_and_answers_none() {
    let reactions = analytics::reactions::reactions();
    let heard: Vec<String> = reactions.wiring().map(|(event, _)| event.name.to_owned()).collect();
    assert_eq!(heard.len(), 25);
    assert!(reactions.wiring().all(|(_, emits)| emits.is_empty()));
    for commands_and_notes in [
        "OrderCancellationRequested",
        "OrderReturnRequested",
        "ShipmentCancelRejected",
    ] {
        assert!(!heard.iter().any(|name| name == commands_and_notes));
    }
}
