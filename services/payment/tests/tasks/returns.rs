//! Refunds of returns: several at once, failing, refused, and taken up by an operator.

use events::{ReturnReceived, derive_id};
use messaging::{Envelope, Errand, Touched};
use payment::domain::{Payments, RefundState, Retry, State};
use payment::store;
use payment::tasks::RefundReturn;
use telemetry::TraceContext;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{PATIENCE, Shop};

impl Shop {
    fn refund_return(&self) -> RefundReturn {
        let (_, refund) = self.errands(PATIENCE);
        RefundReturn {
            decisions: refund.decisions,
            gateway: refund.gateway,
            patience: PATIENCE,
        }
    }

    fn run_returns(&self) -> DropGuard {
        let shutdown = CancellationToken::new();
        let errand = messaging::run_errand(self.replica.db.clone(), self.refund_return(), shutdown.clone());
        tokio::spawn(errand);
        shutdown.drop_guard()
    }

    /// An order of 25.00 that was charged to this card.
    async fn charged(&self, card: &str) -> Uuid {
        let running = self.run(PATIENCE);
        let order_id = self.replica.reserved(card).await;
        self.until(order_id, State::Succeeded).await;
        drop(running);
        order_id
    }

    /// Goods of so much worth came back; heard twice.
    async fn came_back(&self, order_id: Uuid, refundable: i64) -> Uuid {
        let return_id = Uuid::now_v7();
        for _ in 0..2 {
            let returned = ReturnReceived {
                order_id,
                return_id,
                lines: Vec::new(),
                refundable,
            };
            let envelope = Envelope {
                event_id: Uuid::now_v7(),
                event_type: "shop.warehouse.ReturnReceived.v1".into(),
                subject: order_id.to_string(),
                sequence: 1,
                correlation_id: order_id.to_string(),
                causation_id: None,
                occurred_at: chrono::DateTime::UNIX_EPOCH,
                trace: TraceContext::NONE,
            };
            let refund =
                move |payments: &mut Payments| ((), payment::reactions::refund_return(payments, &returned, &envelope));
            self.replica
                .decisions
                .decide(Touched::order(order_id), refund)
                .await
                .unwrap();
        }
        return_id
    }

    async fn until_refund(&self, order_id: Uuid, return_id: Uuid, state: RefundState) -> store::ReturnRefundRow {
        let arrived = async {
            loop {
                let refunds = store::return_refunds(&self.replica.pool, order_id).await.unwrap();
                let refund = refunds.into_iter().find(|refund| refund.return_id == return_id);
                match refund.filter(|refund| refund.state == state.as_str()) {
                    Some(refund) => return refund,
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), arrived)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn each_return_is_paid_back_once_under_its_own_key() {
    let shop = Shop::open().await;
    let order_id = shop.charged("pm_card_visa").await;
    let _running = shop.run_returns();
    let one = shop.came_back(order_id, 1_000).await;
    let other = shop.came_back(order_id, 1_500).await;
    for return_id in [one, other] {
        let refund = shop.until_refund(order_id, return_id, RefundState::Done).await;
        assert_eq!(refund.refund_id, derive_id(return_id, "refund"));
    }
    let free = shop.came_back(order_id, 0).await;
    shop.until_refund(order_id, free, RefundState::Done).await;
    shop.until(order_id, State::Refunded).await;
    let told = shop.replica.told(order_id).await;
    assert_eq!(
        told,
        [
            "PaymentSucceeded",
            "PaymentRefunded",
            "PaymentRefunded",
            "PaymentRefunded"
        ]
    );
    shop.check(order_id).await;
}

/// A worker that got the answer and died leaves the refund to the next, who asks under the same key.
#[tokio::test]
async fn a_refund_whose_worker_died_after_the_call_is_not_given_twice() {
    let shop = Shop::open().await;
    let order_id = shop.charged("pm_card_visa").await;
    let return_id = shop.came_back(order_id, 1_000).await;
    let errand = shop.refund_return();
    for _ in 0..2 {
        let due = sqlx::query("update return_refunds set due_at = now()");
        due.execute(&shop.replica.pool).await.unwrap();
        let mut session = shop.replica.pool.acquire().await.unwrap();
        let job = errand.take(&mut session, 10).await.unwrap().pop().unwrap();
        let key = derive_id(return_id, "refund");
        errand.gateway.refund(key, &job.gateway_ref, job.amount).await.unwrap();
    }
    let _running = shop.run_returns();
    let due = sqlx::query("update return_refunds set due_at = now()");
    due.execute(&shop.replica.pool).await.unwrap();
    let refund = shop.until_refund(order_id, return_id, RefundState::Done).await;
    assert_eq!(refund.attempts, 3);
    assert_eq!(shop.replica.payment(order_id).await.refunded, 1_000);
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_refund_that_fails_for_a_while_goes_through_at_last() {
    let shop = Shop::open().await;
    let order_id = shop.charged("pm_card_flakyRefund").await;
    let _running = shop.run_returns();
    let return_id = shop.came_back(order_id, 1_000).await;
    let refund = shop.until_refund(order_id, return_id, RefundState::Done).await;
    assert_eq!((refund.attempts, refund.trouble), (3, None));
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_refund_that_is_refused_for_good_is_left_alone_until_an_operator_asks() {
    let shop = Shop::open().await;
    let order_id = shop.charged("pm_card_visa").await;
    shop.sandbox.refunds("reject").await;
    let _running = shop.run_returns();
    let return_id = shop.came_back(order_id, 1_000).await;
    let refused = shop.until_refund(order_id, return_id, RefundState::Refused).await;
    assert_eq!(
        (refused.attempts, refused.trouble.as_deref()),
        (1, Some("refund_refused"))
    );
    assert_eq!(store::open_return_refunds(&shop.replica.pool).await.unwrap(), (0, 1));
    shop.sandbox.refunds("accept").await;
    let retry = move |payments: &mut Payments| (payments.retry_return_refund(order_id, return_id), ());
    let retried = shop.replica.decisions.decide(Touched::order(order_id), retry).await;
    assert_eq!(retried.unwrap(), Retry::UnderWay);
    shop.until_refund(order_id, return_id, RefundState::Done).await;
    assert_eq!(
        shop.replica.told(order_id).await,
        ["PaymentSucceeded", "PaymentRefunded"]
    );
    shop.check(order_id).await;
}
