#![allow(clippy::unwrap_used)]

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

type Chain = (Option<CancelReason>, Vec<Fact>, State, Option<CancelReason>);
type Fact = (&'static str, fn(&mut Facts));

const RESERVED: Fact = ("reserved", |facts| facts.reserved = true);
const REJECTED: Fact = ("rejected", |facts| facts.rejected = true);
const PAID: Fact = ("paid", |facts| facts.paid = Some(Uuid::from_u128(1)));
const DECLINED: Fact = ("declined", |facts| facts.declined = true);
const TIMED_OUT: Fact = ("timed out", |facts| facts.timed_out = true);
const REFUNDED: Fact = ("refunded", |facts| facts.refunded = Some(500));
const VOIDED: Fact = ("voided", |facts| facts.voided = true);
const RELEASED: Fact = ("released", |facts| facts.released = true);
const COMMITTED: Fact = ("committed", |facts| facts.committed = true);
const SCHEDULED: Fact = ("scheduled", |facts| facts.scheduled = true);
const SHIPPED: Fact = ("shipped", |facts| facts.shipped = true);
const DELIVERED: Fact = ("delivered", |facts| {
    facts.delivered = DateTime::from_timestamp(1_790_000_000, 0)
});
const SHIPMENT_FAILED: Fact = ("shipment failed", |facts| facts.shipment_failed = true);
const SHIPMENT_CANCELLED: Fact = ("shipment cancelled", |facts| facts.shipment_cancelled = true);
const CANCEL_REJECTED: Fact = ("cancel rejected", |facts| facts.cancel_rejected = true);

/// Every chain of events.md without returns: whether a cancellation was asked for before, what is
/// heard, and how it ends.
fn chains() -> Vec<Chain> {
    use CancelReason::*;
    let cancelled = |asked, facts: &[Fact], reason| (asked, facts.to_vec(), State::Cancelled, Some(reason));
    let asked = Some(RequestedByCustomer);
    let happy = vec![RESERVED, PAID, SCHEDULED, SHIPPED, COMMITTED, DELIVERED];
    let too_late = [happy.clone(), vec![CANCEL_REJECTED]].concat();
    vec![
        (None, happy, State::Completed, None),
        (asked, too_late, State::Completed, None),
        cancelled(None, &[REJECTED], OutOfStock),
        cancelled(None, &[RESERVED, DECLINED, RELEASED], PaymentDeclined),
        cancelled(None, &[RESERVED, TIMED_OUT, RELEASED], PaymentTimedOut),
        cancelled(None, &[RESERVED, TIMED_OUT, RELEASED, REFUNDED], PaymentTimedOut),
        cancelled(
            None,
            &[RESERVED, PAID, SCHEDULED, SHIPMENT_FAILED, REFUNDED, RELEASED],
            ShippingFailed,
        ),
        cancelled(asked, &[SHIPMENT_CANCELLED, VOIDED, RELEASED], RequestedByCustomer),
        cancelled(
            asked,
            &[REJECTED, SHIPMENT_CANCELLED, VOIDED, RELEASED],
            RequestedByCustomer,
        ),
        cancelled(
            asked,
            &[RESERVED, SHIPMENT_CANCELLED, VOIDED, RELEASED],
            RequestedByCustomer,
        ),
        cancelled(
            asked,
            &[RESERVED, DECLINED, SHIPMENT_CANCELLED, VOIDED, RELEASED],
            RequestedByCustomer,
        ),
        cancelled(
            asked,
            &[RESERVED, PAID, SHIPMENT_CANCELLED, REFUNDED, RELEASED],
            RequestedByCustomer,
        ),
        cancelled(
            asked,
            &[RESERVED, PAID, SHIPMENT_FAILED, SHIPMENT_CANCELLED, REFUNDED, RELEASED],
            RequestedByCustomer,
        ),
        cancelled(
            Some(DeadlineExceeded),
            &[RESERVED, SHIPMENT_CANCELLED, VOIDED, RELEASED],
            DeadlineExceeded,
        ),
    ]
}

fn offers() -> BTreeMap<String, Offer> {
    let offer = |sku: &str, price, currency: &str| Offer {
        sku: sku.into(),
        name: sku.to_uppercase(),
        price,
        currency: currency.into(),
        available: 10,
        revision: 1,
    };
    let offers = [
        offer("tea", 250, "EUR"),
        offer("mug", 900, "EUR"),
        offer("kettle", 4_000, "USD"),
    ];
    offers.into_iter().map(|offer| (offer.sku.clone(), offer)).collect()
}

fn wish(lines: &[(&str, i64)]) -> Wish {
    serde_json::from_value(serde_json::json!({
        "customer": { "id": Uuid::now_v7(), "email": "ada@example.com" },
        "lines": lines.iter().map(|(sku, quantity)| serde_json::json!({ "sku": sku, "quantity": quantity })).collect::<Vec<_>>(),
        "ship_to": { "name": "Ada", "street": "1 Main St", "city": "London", "postal_code": "N1", "country": "GB" },
        "payment_method": "pm_card_visa",
    }))
    .unwrap()
}

fn order() -> Order {
    let wish = wish(&[("tea", 2)]);
    let priced = wish.price(&offers()).unwrap();
    let placing = (Uuid::now_v7(), Utc::now(), std::time::Duration::from_secs(900));
    Order::place(&wish, priced, StockCheck::Passed, TraceContext::NONE, placing)
}

/// What an order said in its life: confirmed, completed, cancelled.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Said(usize, usize, Vec<CancelReason>);

fn hear(order: &mut Order, facts: &[Fact]) -> Said {
    let mut said = Said::default();
    for (_, fact) in facts {
        let (confirmed, (completed, (cancelled, _))) = order.learn(fact);
        said.0 += usize::from(confirmed.is_some());
        said.1 += usize::from(completed.is_some());
        said.2.extend(cancelled.map(|event| event.reason));
    }
    said
}

#[test]
fn every_chain_ends_where_it_should() {
    for (asked, facts, state, reason) in chains() {
        let mut order = order();
        order.facts.cancel_requested = asked;
        let said = hear(&mut order, &facts);
        assert_eq!((order.state(), order.facts.cancelled), (state, reason), "{facts:?}");
        assert_eq!(said.1, usize::from(state == State::Completed), "{facts:?}");
        assert_eq!(said.2, reason.into_iter().collect::<Vec<_>>(), "{facts:?}");
    }
}

#[test]
fn an_order_goes_through_its_states_one_by_one() {
    let mut order = order();
    let mut states = vec![order.state()];
    for fact in [RESERVED, PAID, SCHEDULED, SHIPPED, DELIVERED] {
        hear(&mut order, &[fact]);
        states.push(order.state());
    }
    use State::*;
    assert_eq!(states, [Pending, Reserved, Confirmed, Confirmed, Shipped, Completed]);
}

#[test]
fn nothing_is_cancelled_before_every_compensation_is_confirmed() {
    let mut order = order();
    hear(&mut order, &[RESERVED, PAID, SHIPMENT_FAILED]);
    assert_eq!(
        (order.state(), order.reason()),
        (State::Cancelling, Some(CancelReason::ShippingFailed))
    );
    assert_eq!(hear(&mut order, &[REFUNDED]).2, []);
    assert_eq!(hear(&mut order, &[RELEASED]).2, [CancelReason::ShippingFailed]);
}

#[test]
fn a_payment_that_arrives_after_the_wish_to_cancel_confirms_nothing() {
    let mut order = order();
    hear(&mut order, &[RESERVED]);
    assert!(
        order
            .request_cancellation(CancelReason::RequestedByCustomer, "customer")
            .1
            .is_some()
    );
    assert_eq!(hear(&mut order, &[PAID]).0, 0);
    assert_eq!(order.state(), State::Cancelling);
}

#[test]
fn a_rejected_wish_to_cancel_puts_the_order_back() {
    let mut order = order();
    hear(&mut order, &[RESERVED, PAID]);
    order.request_cancellation(CancelReason::RequestedByCustomer, "customer");
    assert_eq!(order.state(), State::Cancelling);
    hear(&mut order, &[CANCEL_REJECTED, SHIPPED]);
    assert_eq!(order.state(), State::Shipped);
    assert_eq!(hear(&mut order, &[DELIVERED]).1, 1);
}

#[test]
fn cancelling_is_asked_once_and_refused_once_the_parcel_is_gone() {
    let mut order = order();
    assert_eq!(
        order
            .request_cancellation(CancelReason::RequestedByCustomer, "customer")
            .0,
        Cancellation::UnderWay
    );
    assert!(
        order
            .request_cancellation(CancelReason::RequestedByCustomer, "customer")
            .1
            .is_none()
    );
    let mut shipped = self::order();
    hear(&mut shipped, &[RESERVED, PAID, SHIPPED]);
    let refused = shipped.request_cancellation(CancelReason::RequestedByCustomer, "customer");
    assert_eq!(
        (refused.0, refused.1.is_none()),
        (Cancellation::TooLate(State::Shipped), true)
    );
}

#[test]
fn prices_come_from_the_catalogue_and_faults_name_their_line() {
    let priced = wish(&[("tea", 2), ("mug", 1)]).price(&offers()).unwrap();
    assert_eq!((priced.total, priced.currency.as_str()), (1_400, "EUR"));
    let unknown = wish(&[("tea", 1), ("unicorn", 1)]).price(&offers()).unwrap_err();
    assert_eq!(unknown[0].field, "lines[1].sku");
    let mixed = wish(&[("tea", 1), ("kettle", 1)]).price(&offers()).unwrap_err();
    assert_eq!(mixed[0].reason, "must all be sold in one currency");
    let dollars = Wish {
        currency: Some("USD".into()),
        ..wish(&[("tea", 1)])
    };
    assert_eq!(dollars.price(&offers()).unwrap_err()[0].field, "currency");
}

#[test]
fn every_bad_field_is_named() {
    let mut bad = wish(&[("tea", 0), ("", 1_001)]);
    bad.customer.email = "ada@localhost\r\nBcc: all@example.com".into();
    bad.ship_to.country = "England".into();
    bad.ship_to.city = " ".into();
    bad.payment_method = "4242424242424242".into();
    let fields: Vec<String> = bad.faults().into_iter().map(|fault| fault.field).collect();
    let expected = [
        "customer.email",
        "lines[0].quantity",
        "lines[1].quantity",
        "lines[1].sku",
        "ship_to.city",
        "ship_to.country",
        "payment_method",
    ];
    assert_eq!(fields, expected);
    assert_eq!(wish(&[]).faults()[0].field, "lines");
    assert_eq!(wish(&[("tea", 1)]).faults(), []);
}

#[test]
fn a_card_number_is_no_payment_method_whatever_it_hides_behind() {
    for method in [
        "4242424242424242",
        "pm_4242424242424242",
        "pm_card_4000056655665556x",
        "card_visa",
        "pm_",
        "pm_a b",
    ] {
        let wish = Wish {
            payment_method: method.into(),
            ..wish(&[("tea", 1)])
        };
        assert_eq!(wish.faults().len(), 1, "{method}");
        assert!(!wish.faults()[0].reason.contains("4242"), "the value is not repeated");
    }
}

#[test]
fn the_saga_shows_what_was_done_and_undone() {
    let mut order = order();
    let states = |order: &Order| order.steps().map(|step| step.state);
    assert_eq!(states(&order), [StepState::Waiting; 3]);
    hear(&mut order, &[RESERVED, PAID, SHIPMENT_FAILED]);
    assert_eq!(
        states(&order),
        [StepState::Compensating, StepState::Compensating, StepState::Failed]
    );
    hear(&mut order, &[REFUNDED, RELEASED]);
    assert_eq!(
        states(&order),
        [StepState::Compensated, StepState::Compensated, StepState::Failed]
    );
    let mut refused = self::order();
    hear(&mut refused, &[REJECTED]);
    assert_eq!(
        states(&refused),
        [StepState::Failed, StepState::Skipped, StepState::Skipped]
    );
}

/// A chain and the order, with duplicates, in which its facts arrive.
fn shuffled() -> impl Strategy<Value = (Option<CancelReason>, Vec<Fact>, Vec<Fact>)> {
    prop::sample::select(chains()).prop_flat_map(|(asked, facts, ..)| {
        let doubled = [facts.clone(), facts.clone()].concat();
        (Just(asked), Just(facts), Just(doubled).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn any_permutation_and_duplication_of_the_facts_ends_in_the_same_state((asked, straight, shuffled) in shuffled()) {
        let (mut one, mut other) = (order(), order());
        one.facts.cancel_requested = asked;
        other.facts.cancel_requested = asked;
        let (said, said_shuffled) = (hear(&mut one, &straight), hear(&mut other, &shuffled));
        prop_assert_eq!(one.state(), other.state());
        prop_assert_eq!(one.version, other.version);
        prop_assert_eq!(&one.facts, &other.facts);
        prop_assert_eq!(said, said_shuffled);
    }
}
