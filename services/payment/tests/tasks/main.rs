//! Charges and refunds against the real sandbox gateway and a real database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod charges;
mod outages;
#[path = "../replica/mod.rs"]
mod replica;
mod returns;
mod sandbox;
mod storms;
mod undos;

use std::time::Duration;

use events::derive_id;
use messaging::Errand;
use payment::Patience;
use payment::clients::Gateway;
use payment::domain::State;
use payment::tasks::{Charge, Refund};
use replica::Replica;
use sandbox::{KEY, Sandbox};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

const PATIENCE: Patience = Patience {
    call: Duration::from_secs(5),
    settles_within: Duration::from_secs(2),
    give_up_after: Duration::from_secs(20),
};

/// The sandbox and a replica, not yet running its errands.
struct Shop {
    sandbox: Sandbox,
    replica: Replica,
}

impl Shop {
    async fn open() -> Self {
        Self {
            sandbox: Sandbox::start(),
            replica: Replica::start().await,
        }
    }

    fn errands(&self, patience: Patience) -> (Charge, Refund) {
        errands(&self.replica, &self.sandbox.url(), patience)
    }

    /// Runs both errands until the guard is dropped.
    fn run(&self, patience: Patience) -> DropGuard {
        let shutdown = CancellationToken::new();
        let (charge, refund) = self.errands(patience);
        tokio::spawn(messaging::run_errand(self.replica.db.clone(), charge, shutdown.clone()));
        tokio::spawn(messaging::run_errand(self.replica.db.clone(), refund, shutdown.clone()));
        shutdown.drop_guard()
    }

    /// Waits until the payment is where it should be.
    async fn until(&self, order_id: Uuid, state: State) {
        let arrived = async {
            while self.replica.payment(order_id).await.state != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), arrived).await;
        let payment = self.replica.payment(order_id).await;
        assert!(waited.is_ok(), "{payment:?} should be {state:?}");
    }

    /// Waits until the gateway was asked so many times.
    async fn until_attempt(&self, order_id: Uuid, attempts: i32) {
        let asked = async {
            while self.replica.payment(order_id).await.progress.attempts < attempts {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asked)
            .await
            .expect("the gateway is asked in time");
    }

    /// Takes one charge as an errand does.
    async fn take(&self, charge: &Charge) -> <Charge as Errand>::Job {
        sqlx::query("update payments set due_at = now() where due_at is not null")
            .execute(&self.replica.pool)
            .await
            .unwrap();
        let mut tx = messaging::Db::new(self.replica.pool.clone()).begin().await.unwrap();
        let mut taken = charge.take(&mut tx, 10).await.unwrap();
        tx.commit().await.unwrap();
        taken.pop().expect("a charge is due")
    }

    /// Our books agree with each other and with the gateway's.
    async fn check(&self, order_id: Uuid) {
        self.replica.check_the_books_of(order_id).await;
        let payment = self.replica.payment(order_id).await;
        let charges = self.sandbox.charges(order_id).await;
        assert!(charges.len() <= 1, "charged more than once: {charges:?}");
        let booked = |field: &str| charges.first().map_or(0, |charge| charge[field].as_i64().unwrap());
        assert_eq!(
            (payment.captured, payment.refunded),
            (booked("amount"), booked("refunded"))
        );
        if let Some(charge) = charges.first() {
            assert_eq!(charge["idempotency_key"], json!(derive_id(order_id, "payment")));
            assert_eq!(charge["order_id"], json!(order_id));
        }
    }
}

/// What a replica does unasked, with the gateway at this address.
fn errands(replica: &Replica, gateway: &str, patience: Patience) -> (Charge, Refund) {
    let gateway = Gateway::at(&gateway.parse().unwrap(), KEY.into(), patience.call).unwrap();
    let decisions = replica.decisions.clone();
    let charge = Charge {
        decisions: decisions.clone(),
        gateway: gateway.clone(),
        patience,
    };
    let refund = Refund {
        decisions,
        gateway,
        patience,
    };
    (charge, refund)
}
