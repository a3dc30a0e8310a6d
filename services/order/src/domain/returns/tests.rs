#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use telemetry::TraceContext;

use super::*;
use crate::domain::{CancelReason, Cancellation, History, Priced, StockCheck, Wish};

const ONE: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// Three packets of tea at 2.50 and a mug at 9.00, delivered.
fn delivered() -> Order {
    let wish: Wish = serde_json::from_value(serde_json::json!({
        "customer": { "id": Uuid::now_v7(), "email": "ada@example.com" },
        "lines": [],
        "ship_to": { "name": "Ada", "street": "1 Main St", "city": "London", "postal_code": "N1", "country": "GB" },
        "payment_method": "pm_card_visa",
    }))
    .unwrap();
    let line = |sku: &str, quantity, unit_price| Line {
        sku: sku.into(),
        name: sku.to_uppercase(),
        quantity,
        unit_price,
    };
    let priced = Priced {
        lines: vec![line("tea", 2, 250), line("mug", 1, 900), line("tea", 1, 250)],
        total: 1_650,
        currency: "EUR".into(),
    };
    let placing = (Uuid::now_v7(), NOW, Duration::from_secs(900));
    let mut order = Order::place(&wish, priced, StockCheck::Passed, TraceContext::NONE, placing);
    order.learn(|facts| {
        facts.paid = Some(ONE);
        facts.committed = true;
        facts.delivered = Some(NOW);
    });
    order
}

fn wish(lines: &[(&str, i64)]) -> ReturnWish {
    let lines = lines.iter().map(|(sku, quantity)| ReturnLine {
        sku: (*sku).into(),
        quantity: *quantity,
    });
    ReturnWish {
        lines: lines.collect(),
        reason: "too hot".into(),
    }
}

fn ask(order: &mut Order, id: Uuid, lines: &[(&str, i64)]) -> Returning {
    order.request_return(id, &wish(lines), NOW).0
}

/// What is heard of a return.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Received,
    Rejected,
    Restocked,
    Refunded,
}

use Heard::{Received, Refunded, Rejected, Restocked};

fn hear(order: &mut Order, id: Uuid, heard: Heard) -> Option<OrderRefunded> {
    let worth = order.returns[&id].worth();
    let learned = order.learn_of_return(id, |known| match heard {
        Received => _ = known.received.get_or_insert((NOW, worth)),
        Rejected => _ = known.rejected.get_or_insert(NOW),
        Restocked => _ = known.restocked.get_or_insert(NOW),
        Refunded => _ = known.refunded.get_or_insert((NOW, worth)),
    });
    learned.unwrap().1.1.1
}

#[test]
fn a_partial_return_leaves_the_order_completed_and_the_last_one_refunded() {
    let mut order = delivered();
    assert_eq!(order.state(), State::Completed);
    let mut states = Vec::new();
    for (id, lines) in [(ONE, [("tea", 3)]), (OTHER, [("mug", 1)])] {
        assert_eq!(ask(&mut order, id, &lines), Returning::Accepted);
        states.push(order.state());
        for heard in [Received, Restocked, Refunded] {
            let told = hear(&mut order, id, heard).map(|event| event.amount);
            assert_eq!(told.is_some(), matches!(heard, Refunded));
            states.push(order.state());
        }
    }
    let (returning, completed) = (State::Returning, State::Completed);
    let expected = [
        returning,
        returning,
        returning,
        completed,
        returning,
        returning,
        returning,
        State::Refunded,
    ];
    assert_eq!(states, expected);
    assert!(order.state().is_terminal());
}

#[test]
fn only_what_is_left_of_what_was_bought_can_come_back() {
    let mut order = delivered();
    assert!(matches!(
        ask(&mut order, ONE, &[("tea", 2), ("tea", 2)]),
        Returning::TooMuch(_)
    ));
    assert_eq!(ask(&mut order, ONE, &[("tea", 1), ("tea", 1)]), Returning::Accepted);
    let Returning::TooMuch(excess) = ask(&mut order, OTHER, &[("mug", 1), ("tea", 2)]) else {
        panic!("four of three packets would come back");
    };
    assert_eq!((excess[0].field.as_str(), excess.len()), ("lines[1].quantity", 1));
    hear(&mut order, ONE, Rejected);
    assert_eq!(order.state(), State::Completed, "nothing came back");
    assert_eq!(
        ask(&mut order, OTHER, &[("tea", 3)]),
        Returning::Accepted,
        "what was refused may be tried again"
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_its_line() {
    let mut order = delivered();
    let Returning::Invalid(faults) = ask(&mut order, ONE, &[("tea", 1), ("pot", 1)]) else {
        panic!("a pot was never bought");
    };
    assert_eq!(faults[0].field, "lines[1].sku");
    assert_eq!(wish(&[]).faults()[0].field, "lines");
    assert_eq!(wish(&[("tea", 1), ("mug", 0)]).faults()[0].field, "lines[1].quantity");
    assert_eq!(order.returns, BTreeMap::new());
}

#[test]
fn only_what_has_arrived_comes_back_and_what_comes_back_is_not_cancelled() {
    let mut order = delivered();
    order.facts.delivered = None;
    order.facts.shipped = true;
    assert_eq!(
        ask(&mut order, ONE, &[("tea", 1)]),
        Returning::NotInState(State::Shipped)
    );
    order.facts.delivered = Some(NOW);
    assert_eq!(ask(&mut order, ONE, &[("tea", 1)]), Returning::Accepted);
    let (outcome, event) = order.request_cancellation(CancelReason::RequestedByCustomer, "customer");
    assert_eq!((outcome, event), (Cancellation::TooLate(State::Returning), None));
}

#[test]
fn the_same_request_is_one_return_and_another_one_under_its_key_is_refused() {
    let mut order = delivered();
    assert_eq!(ask(&mut order, ONE, &[("tea", 1)]), Returning::Accepted);
    let version = order.version;
    assert_eq!(ask(&mut order, ONE, &[("tea", 1)]), Returning::AskedBefore);
    assert_eq!(ask(&mut order, ONE, &[("tea", 2)]), Returning::KeyReused);
    assert_eq!((order.version, order.returns.len()), (version, 1));
}

#[test]
fn an_order_waits_for_the_goods_first_and_then_for_the_money() {
    use crate::domain::Waits;
    let mut order = delivered();
    assert_eq!(order.waits(), None);
    ask(&mut order, ONE, &[("tea", 1)]);
    assert_eq!(order.waits(), Some(Waits::ForTheParcel));
    hear(&mut order, ONE, Received);
    assert_eq!(order.waits(), Some(Waits::ForServices));
    hear(&mut order, ONE, Restocked);
    assert_eq!(order.waits(), Some(Waits::ForServices));
    hear(&mut order, ONE, Refunded);
    assert_eq!(order.waits(), None);
}

/// What is heard of two returns, each paid back or rejected.
fn stories() -> impl Strategy<Value = Vec<(Uuid, Heard)>> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(one, other)| {
        let of = |id, back: bool| {
            let heard: &[Heard] = if back {
                &[Received, Restocked, Refunded]
            } else {
                &[Rejected]
            };
            heard.iter().map(move |heard| (id, *heard)).collect::<Vec<_>>()
        };
        let all = [of(ONE, one), of(OTHER, other)].concat();
        Just([all.clone(), all].concat())
    })
}

proptest! {
    /// Whatever is heard first, and however often: the same state, and each refund told once.
    #[test]
    fn any_order_and_repetition_of_what_is_heard_ends_the_same(
        (straight, shuffled) in stories().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let mut ends = Vec::new();
        for heard in [straight, shuffled] {
            let mut order = delivered();
            order.id = Uuid::nil();
            order.customer.id = Uuid::nil();
            ask(&mut order, ONE, &[("tea", 3)]);
            ask(&mut order, OTHER, &[("mug", 1)]);
            let mut told: Vec<_> = heard.into_iter().filter_map(|(id, heard)| hear(&mut order, id, heard)).collect();
            told.sort_by_key(|event| event.return_id);
            prop_assert!(order.state().is_terminal());
            let back: i64 = told.iter().map(|event| event.amount).sum();
            prop_assert_eq!(order.state() == State::Refunded, back == order.total);
            // The way there may differ, the end may not.
            order.history = History::default();
            ends.push((order, told));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
