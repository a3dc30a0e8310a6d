//! What follows from the events heard, against a real database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod replica;

use events::derive_id;
use messaging::{Envelope, Journal, Touched, WorkingSet};
use payment::domain::{Outcome, Payments, State};
use payment::store::{self, Take};
use payment::{Patience, domain::Undo};
use replica::{Replica, charged, reservation};
use serde_json::json;
use std::time::Duration;
use telemetry::TraceContext;
use uuid::Uuid;

const TAKE: Take = Take {
    limit: 10,
    shut_out: false,
    lease: Duration::from_secs(30),
    give_up_after: Duration::from_secs(30),
};

/// What an errand does before it calls the gateway.
async fn take(replica: &Replica) -> Vec<store::DueCharge> {
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let taken = store::take_charges(&mut tx, TAKE).await.unwrap();
    tx.commit().await.unwrap();
    taken
}

#[tokio::test]
async fn a_reservation_is_to_be_charged_and_tells_nothing_yet() {
    let replica = Replica::start().await;
    let order = reservation(Uuid::now_v7(), "pm_card_visa");
    replica.reserve(&order).await;
    replica.reserve(&order).await;
    let payment = replica.payment(order.order_id).await;
    assert_eq!(
        (payment.state, payment.amount, payment.version),
        (State::Pending, 2_500, 1)
    );
    assert_eq!(payment.payment_id, derive_id(order.order_id, "payment"));
    assert!(replica.due_in(order.order_id).await.unwrap() <= 0.0);
    assert!(replica.told(order.order_id).await.is_empty());

    let taken = take(&replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].attempt, taken[0].wanted, taken[0].doubt), (1, true, false));
    assert!(take(&replica).await.is_empty(), "it is leased");
    let payment = replica.payment(order.order_id).await;
    assert!(
        payment.progress.attempts == 1 && payment.progress.doubt,
        "noted before any call"
    );
}

#[tokio::test]
async fn a_charge_is_told_booked_and_remembered_in_one() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    take(&replica).await;
    replica.settle(order_id, 1, charged()).await;
    replica.settle(order_id, 1, charged()).await;
    assert_eq!(replica.told(order_id).await, ["PaymentSucceeded"]);
    let told = replica.content(order_id, "PaymentSucceeded").await;
    assert_eq!(
        (&told["amount"], &told["currency"], &told["gateway_ref"]),
        (&json!(2_500), &json!("EUR"), &json!("pi_1"))
    );
    assert_eq!(store::balance(&replica.pool).await.unwrap(), (2_500, 2_500));
    assert_eq!(replica.due_in(order_id).await, None);
    replica.check_the_books().await;
}

#[tokio::test]
async fn a_payment_undone_before_it_was_asked_for_never_is() {
    let replica = Replica::start().await;
    let order_id = Uuid::now_v7();
    replica.cancel(order_id).await;
    replica.reserve(&reservation(order_id, "pm_card_visa")).await;
    replica.cancel(order_id).await;
    assert_eq!(replica.told(order_id).await, ["PaymentVoided"]);
    let voided = replica.content(order_id, "PaymentVoided").await;
    assert_eq!(
        (&voided["amount"], &voided["cause"]),
        (&json!(0), &json!("ORDER_CANCELLED"))
    );
    assert!(take(&replica).await.is_empty());
    replica.check_the_books().await;
}

#[tokio::test]
async fn a_payment_undone_before_the_first_call_is_void_at_once() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    replica.cancel(order_id).await;
    replica.cancel(order_id).await;
    assert_eq!(replica.told(order_id).await, ["PaymentVoided"]);
    assert!(take(&replica).await.is_empty());
    replica.check_the_books().await;
}

#[tokio::test]
async fn an_undo_during_a_call_waits_for_what_the_gateway_did() {
    let replica = Replica::start().await;
    let (paid, unpaid) = (
        replica.reserved("pm_card_visa").await,
        replica.reserved("pm_card_visa").await,
    );
    take(&replica).await;
    for order_id in [paid, unpaid] {
        replica.cancel(order_id).await;
        replica.cancel(order_id).await;
        assert_eq!(replica.payment(order_id).await.undo, Undo::Wanted);
        assert!(replica.told(order_id).await.is_empty());
        assert!(
            replica.due_in(order_id).await.unwrap() > 20.0,
            "the lease of the call stands"
        );
    }
    replica.settle(paid, 1, charged()).await;
    replica
        .settle(
            unpaid,
            1,
            Outcome::Declined {
                code: "generic_decline".into(),
            },
        )
        .await;
    assert!(
        replica.told(paid).await.is_empty(),
        "no success after the order was cancelled"
    );
    assert_eq!(replica.payment(paid).await.state, State::Refunding);
    assert_eq!(replica.told(unpaid).await, ["PaymentVoided"]);
    replica.check_the_books().await;
}

#[tokio::test]
async fn a_refused_payment_answers_an_undo_once() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    take(&replica).await;
    replica
        .settle(
            order_id,
            1,
            Outcome::Declined {
                code: "generic_decline".into(),
            },
        )
        .await;
    replica.cancel(order_id).await;
    replica.cancel(order_id).await;
    assert_eq!(replica.told(order_id).await, ["PaymentDeclined", "PaymentVoided"]);
    assert_eq!(replica.payment(order_id).await.state, State::Declined);
    replica.check_the_books().await;
}

#[tokio::test]
async fn a_failed_shipment_is_paid_back_and_without_a_payment_a_fault() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    assert!(replica.fail_shipment(order_id).await.is_err());
    assert!(replica.fail_shipment(Uuid::now_v7()).await.is_err());
    take(&replica).await;
    replica.settle(order_id, 1, charged()).await;
    replica.fail_shipment(order_id).await.unwrap();
    replica.cancel(order_id).await;
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let refunds = store::take_refunds(&mut tx, 10, TAKE.lease).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(refunds.len(), 1);
    assert_eq!(
        (refunds[0].amount, refunds[0].gateway_ref.as_str(), refunds[0].attempt),
        (2_500, "pi_1", 1)
    );
    let settle = move |payments: &mut Payments| ((), payments.settle_refund(order_id, "re_1".into()));
    for _ in 0..2 {
        replica
            .decisions
            .decide(Touched::order(order_id), settle)
            .await
            .unwrap();
    }
    assert_eq!(replica.told(order_id).await, ["PaymentSucceeded", "PaymentRefunded"]);
    assert_eq!(
        replica.content(order_id, "PaymentRefunded").await["cause"],
        "SHIPPING_FAILED"
    );
    assert_eq!(store::balance(&replica.pool).await.unwrap(), (5_000, 5_000));
    replica.check_the_books().await;
}

#[tokio::test]
async fn what_is_no_token_is_declined_and_not_stored() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("4242 4242 4242 4242").await;
    assert_eq!(replica.told(order_id).await, ["PaymentDeclined"]);
    let stored: bool = sqlx::query_scalar(
        "select exists (select from payments p where p::text like '%4242%')
             or exists (select from payment_events e where e::text like '%4242 4242%')",
    )
    .fetch_one(&replica.pool)
    .await
    .unwrap();
    assert!(!stored);
    assert!(take(&replica).await.is_empty());
}

#[tokio::test]
async fn two_replicas_that_hear_request_and_undo_at_once_agree() {
    let one = Replica::start().await;
    let other = Replica::over(one.pool.clone());
    let orders: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
    let request = async |order_id: &Uuid| one.reserve(&reservation(*order_id, "pm_card_visa")).await;
    let undo = async |order_id: &Uuid| other.cancel(*order_id).await;
    futures_util::future::join(
        futures_util::future::join_all(orders.iter().map(request)),
        futures_util::future::join_all(orders.iter().map(undo)),
    )
    .await;
    for order_id in orders {
        assert_eq!(one.told(order_id).await, ["PaymentVoided"]);
    }
    assert!(take(&one).await.is_empty());
    one.check_the_books().await;
}

#[tokio::test]
async fn history_and_ledger_cannot_be_rewritten() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    take(&replica).await;
    replica.settle(order_id, 1, charged()).await;
    for statement in [
        "update ledger set debit = 1 where debit > 0",
        "delete from ledger",
        "truncate ledger",
        "update payment_events set data = '{}'",
        "delete from payment_events",
        "insert into ledger (transaction_id, account, debit, credit, order_id)
         select transaction_id, account, debit, credit, order_id from ledger",
    ] {
        assert!(
            sqlx::query(statement).execute(&replica.pool).await.is_err(),
            "{statement}"
        );
    }
    replica.check_the_books().await;
}

#[tokio::test]
async fn the_errand_goes_on_in_the_trace_of_the_event_that_asked_for_it() {
    let replica = Replica::start().await;
    let order = reservation(Uuid::now_v7(), "pm_card_visa");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let heard = Envelope {
        event_id: Uuid::now_v7(),
        event_type: "shop.inventory.InventoryReserved.v1".into(),
        subject: order.order_id.to_string(),
        sequence: 1,
        correlation_id: order.order_id.to_string(),
        causation_id: None,
        occurred_at: chrono::Utc::now(),
        trace: TraceContext::parse(parent, Some("vendor=1")).unwrap(),
    };
    let journal = Journal {
        heard: vec![heard],
        told: Vec::new(),
    };
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let mut payments = Payments::load(&mut tx, &Touched::order(order.order_id)).await.unwrap();
    payments.request(&order).unwrap();
    payments.save(&mut tx, &journal).await.unwrap();
    tx.commit().await.unwrap();

    let taken = take(&replica).await;
    assert_eq!(taken[0].trace, journal.heard[0].trace);
    replica.settle(order.order_id, 1, charged()).await;
    replica.cancel(order.order_id).await;
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let refunds = store::take_refunds(&mut tx, 10, TAKE.lease).await.unwrap();
    assert_eq!(
        refunds[0].trace, journal.heard[0].trace,
        "what was heard without a trace does not erase it"
    );
}

#[tokio::test]
async fn a_lapsed_lease_leaves_the_doubt_of_the_call_that_was_never_settled() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    take(&replica).await;
    sqlx::query("update payments set due_at = now()")
        .execute(&replica.pool)
        .await
        .unwrap();
    replica.cancel(order_id).await;
    let taken = take(&replica).await;
    assert_eq!((taken[0].attempt, taken[0].wanted, taken[0].doubt), (2, false, true));
    let patience = Patience {
        call: Duration::from_secs(5),
        settles_within: Duration::from_secs(10),
        give_up_after: Duration::from_secs(30),
    };
    let look_again = patience.settles_within;
    replica.settle(order_id, 2, Outcome::NotCharged { look_again }).await;
    assert!(replica.told(order_id).await.is_empty());
    let due = replica.due_in(order_id).await.unwrap();
    assert!((8.0..=10.0).contains(&due), "looked up again in {due} s");
    sqlx::query("update payments set due_at = now()")
        .execute(&replica.pool)
        .await
        .unwrap();
    assert_eq!(take(&replica).await.len(), 1);
    replica.settle(order_id, 3, Outcome::NotCharged { look_again }).await;
    assert_eq!(replica.told(order_id).await, ["PaymentVoided"]);
    replica.check_the_books().await;
}

#[tokio::test]
async fn while_nobody_can_be_called_only_what_is_given_up_is_taken() {
    let replica = Replica::start().await;
    let (waiting, late) = (replica.reserved("pm_card_visa").await, Uuid::now_v7());
    let expires_at = chrono::Utc::now() - chrono::TimeDelta::seconds(1);
    replica
        .reserve(&events::InventoryReserved {
            expires_at,
            ..reservation(late, "pm_card_visa")
        })
        .await;
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let taken = store::take_charges(&mut tx, Take { shut_out: true, ..TAKE })
        .await
        .unwrap();
    assert_eq!(taken.iter().map(|job| job.charge.order_id).collect::<Vec<_>>(), [late]);
    assert!(taken[0].overdue && !taken[0].wanted && taken[0].shut_out);
    drop(tx);
    assert_eq!(replica.payment(waiting).await.progress.attempts, 0);
}
