#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use events::{InventoryReserved, ReturnedLine};
use proptest::prelude::*;

use super::*;
use crate::domain::Outcome;

/// 25.00, taken.
fn paid(order_id: Uuid) -> Payments {
    let mut payments = Payments::default();
    let order = InventoryReserved {
        order_id,
        reservation_id: Uuid::now_v7(),
        lines: Vec::new(),
        amount: 2_500,
        currency: "EUR".into(),
        payment_method: "pm_card_visa".into(),
        customer: events::Customer {
            id: Uuid::now_v7(),
            email: "a@example.org".into(),
        },
        expires_at: chrono::DateTime::UNIX_EPOCH,
    };
    payments.request(&order).unwrap();
    let gateway_ref = "pi".to_owned();
    payments.settle(order_id, 0, Outcome::Charged { gateway_ref }).unwrap();
    payments
}

fn back(order_id: Uuid, return_id: Uuid, refundable: i64) -> ReturnReceived {
    ReturnReceived {
        order_id,
        return_id,
        lines: Vec::<ReturnedLine>::new(),
        refundable,
    }
}

fn nobody() -> Asked {
    Asked {
        event_id: None,
        trace: TraceContext::NONE,
    }
}

#[test]
fn never_more_than_was_taken_is_promised_to_returns() {
    let order = Uuid::now_v7();
    let mut payments = paid(order);
    let promise =
        |payments: &mut Payments, amount| payments.refund_return(&back(order, Uuid::now_v7(), amount), nobody());
    assert_eq!(promise(&mut payments, 1_000), Ok(None));
    assert!(promise(&mut payments, 1_501).is_err());
    assert!(promise(&mut payments, -1).is_err());
    assert_eq!(promise(&mut payments, 1_500), Ok(None));
    let free = promise(&mut payments, 0).unwrap().unwrap();
    assert_eq!((free.amount, free.cause), (0, RefundCause::GoodsReturned));
    assert!(promise(&mut payments, 1).is_err());
}

#[test]
fn a_return_and_a_cancellation_never_both_pay_back() {
    let order = Uuid::now_v7();
    let mut returned = paid(order);
    returned
        .refund_return(&back(order, Uuid::now_v7(), 1_000), nobody())
        .unwrap();
    assert_eq!(returned.undo(order), None);
    assert!(returned.pay_back(order).is_err());
    assert_eq!(returned.payments[&order].state, State::Succeeded);

    let mut undone = paid(order);
    undone.undo(order);
    assert!(
        undone
            .refund_return(&back(order, Uuid::now_v7(), 1_000), nobody())
            .is_err()
    );
    undone.settle_refund(order, "re".into()).unwrap();
    assert!(undone.refund_return(&back(order, Uuid::now_v7(), 0), nobody()).is_err());
    assert!(
        Payments::default()
            .refund_return(&back(order, Uuid::now_v7(), 1), nobody())
            .is_err()
    );
}

#[test]
fn a_refused_refund_waits_for_an_operator() {
    let (order, one) = (Uuid::now_v7(), Uuid::now_v7());
    let mut payments = paid(order);
    payments.refund_return(&back(order, one, 1_000), nobody()).unwrap();
    assert_eq!(
        payments.retry_return_refund(order, one),
        Retry::NotRefused(RefundState::Due)
    );
    payments.refuse_return_refund(order, one, 0, "refund_refused");
    let refund = &payments.payments[&order].refunds[&one];
    assert_eq!((refund.state, refund.progress.due), (RefundState::Refused, Due::Never));
    assert_eq!(payments.retry_return_refund(order, Uuid::now_v7()), Retry::Unknown);
    assert_eq!(payments.retry_return_refund(order, one), Retry::UnderWay);
    let refund = &payments.payments[&order].refunds[&one];
    assert_eq!(
        (refund.state, refund.progress.due),
        (RefundState::Due, Due::In(Duration::ZERO))
    );
    assert!(payments.settle_return_refund(order, one, "re".into()).is_some());
    assert_eq!(
        payments.retry_return_refund(order, one),
        Retry::NotRefused(RefundState::Done)
    );
}

/// What may happen to one of three returns.
#[derive(Debug, Clone, Copy)]
enum Step {
    Heard,
    PutOff,
    Refused,
    Retried,
    Settled,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let kinds = vec![Step::Heard, Step::PutOff, Step::Refused, Step::Retried, Step::Settled];
    prop::collection::vec((0..3_usize, prop::sample::select(kinds)), 0..40)
}

proptest! {
    /// In any order and however often: each is paid back once, and payment, ledger and facts agree.
    #[test]
    fn every_return_is_refunded_once_whatever_happens_when(steps in steps()) {
        let (order, amounts) = (Uuid::now_v7(), [1_000, 1_400, 100]);
        let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        let (mut payments, mut told) = (paid(order), BTreeMap::<Uuid, i64>::new());
        let rest = (0..3).flat_map(|which| [(which, Step::Heard), (which, Step::Retried), (which, Step::Settled)]);
        for (which, step) in steps.into_iter().chain(rest) {
            let id = ids[which];
            let event = match step {
                Step::Heard => payments.refund_return(&back(order, id, amounts[which]), nobody()).unwrap(),
                Step::PutOff => { payments.put_off_return_refund(order, id, 0, ("down", Duration::ZERO)); None }
                Step::Refused => { payments.refuse_return_refund(order, id, 0, "no"); None }
                Step::Retried => { payments.retry_return_refund(order, id); None }
                Step::Settled => payments.settle_return_refund(order, id, "re".into()),
            };
            if let Some(event) = event {
                prop_assert_eq!(told.insert(id, event.amount), None, "told twice");
            }
            let payment = &payments.payments[&order];
            prop_assert!(payment.refunded <= payment.captured);
            prop_assert_eq!(payment.refunded, told.values().sum::<i64>());
        }
        let payment = payments.payments[&order].clone();
        prop_assert_eq!((payment.state, payment.refunded), (State::Refunded, 2_500));
        let booked: i64 = payments.transfers.iter().map(|transfer| match transfer.credited {
            Account::Sales => transfer.amount,
            Account::GatewayReceivable => -transfer.amount,
        }).sum();
        prop_assert_eq!(booked, 0);
        let folded = Payment::fold(order, &payment.news);
        let states = |of: &Payment| of.refunds.values().map(|one| (one.refund_id, one.amount, one.state, one.retries)).collect::<Vec<_>>();
        prop_assert_eq!(states(&folded), states(&payment));
        prop_assert_eq!((folded.state, folded.refunded, folded.version), (payment.state, payment.refunded, payment.version));
    }
}
