#![allow(clippy::unwrap_used)]

use super::*;

const OLD: i64 = 1_000_000;
const NOW: i64 = 2_000_000;

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// A payment and its charge, as they should be.
fn pair() -> (Payment, Charge) {
    let (order_id, payment_id) = (Uuid::now_v7(), Uuid::now_v7());
    let payment = Payment {
        order_id,
        payment_id: Some(payment_id),
        state: Some("SUCCEEDED".into()),
        captured: 2_500,
        refunded: 0,
        currency: Some("EUR".into()),
        booked: 2_500,
        booked_back: 0,
        changed_at: time(OLD),
    };
    let charge = Charge {
        id: "ch_1".into(),
        idempotency_key: Some(payment_id.to_string()),
        order_id: Some(order_id.to_string()),
        amount: 2_500,
        refunded: 0,
        currency: "eur".into(),
        created: OLD,
    };
    (payment, charge)
}

/// What is found after both books were tampered with.
fn found(tamper: impl FnOnce(&mut Payment, &mut Vec<Charge>)) -> Reconciliation {
    let (mut payment, charge) = pair();
    let mut charges = vec![charge];
    tamper(&mut payment, &mut charges);
    compare(vec![payment], charges, time(NOW - 60))
}

fn kinds(of: &[Mismatch]) -> Vec<Kind> {
    of.iter().map(|mismatch| mismatch.kind).collect()
}

#[test]
fn books_that_match_are_told_apart_from_those_that_do_not() {
    let nothing = found(|_, _| {});
    assert!(nothing.mismatches.is_empty() && nothing.under_way.is_empty());
    assert_eq!((nothing.payments, nothing.charges, nothing.net), (1, 1, 2_500));
}

#[test]
fn every_kind_of_mismatch_is_found_and_named() {
    type Tamper = fn(&mut Payment, &mut Vec<Charge>);
    let planted: [(Kind, Tamper); 10] = [
        (Kind::ChargeWithoutPayment, |_, charges| {
            let (_, stranger) = pair();
            charges.push(stranger);
        }),
        (Kind::PaymentWithoutCharge, |_, charges| charges.clear()),
        (Kind::State, |payment, _| {
            (payment.state, payment.captured) = (Some("DECLINED".into()), 0);
        }),
        (Kind::Amount, |_, charges| charges[0].amount = 2_600),
        (Kind::Currency, |_, charges| charges[0].currency = "usd".into()),
        (Kind::Refund, |_, charges| charges[0].refunded = 100),
        (Kind::ChargedTwice, |_, charges| {
            let mut again = charges[0].clone();
            again.id = "ch_2".into();
            charges.push(again);
        }),
        (Kind::KeyUsedTwice, |_, charges| {
            let (_, mut other) = pair();
            (other.id, other.idempotency_key) = ("ch_2".into(), charges[0].idempotency_key.clone());
            charges.push(other);
        }),
        (Kind::OrphanedKey, |_, charges| {
            charges[0].idempotency_key = Some("nobody's".into())
        }),
        (Kind::Ledger, |payment, _| payment.booked = 2_400),
    ];
    assert_eq!(planted.map(|(kind, _)| kind), Kind::ALL);
    for (kind, tamper) in planted {
        let found = found(tamper);
        assert!(
            kinds(&found.mismatches).contains(&kind),
            "{kind}: {:?}",
            found.mismatches
        );
        assert!(found.under_way.is_empty(), "{kind} is old enough");
    }
}

#[test]
fn several_refunds_of_a_payment_are_one_sum() {
    let partly = found(|payment, charges| {
        (payment.refunded, payment.booked_back, charges[0].refunded) = (700, 700, 700);
    });
    assert!(partly.mismatches.is_empty(), "{:?}", partly.mismatches);
    assert_eq!(partly.net, 1_800);
}

#[test]
fn what_has_just_changed_is_given_time() {
    let young = found(|payment, charges| {
        payment.changed_at = time(NOW);
        charges.clear();
    });
    assert!(young.mismatches.is_empty());
    assert_eq!(kinds(&young.under_way), [Kind::PaymentWithoutCharge]);
    let just_charged = found(|_, charges| {
        let (_, mut stranger) = pair();
        stranger.created = NOW;
        charges.push(stranger);
    });
    assert_eq!(kinds(&just_charged.under_way), [Kind::ChargeWithoutPayment]);
}
