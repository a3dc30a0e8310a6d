//! What has happened to a payment is only ever added to, by whoever comes first, and says where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod replica;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use messaging::Touched;
use payment::domain::{Payment, Payments};
use payment::{MIGRATIONS, reactions, store};
use replica::{Replica, charged, reservation};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

#[tokio::test]
async fn the_service_itself_may_not_change_what_has_happened() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    replica.settle(order_id, 1, charged()).await;
    let superuser: bool = sqlx::query_scalar("select rolsuper from pg_roles where rolname = current_user")
        .fetch_one(&replica.pool)
        .await
        .unwrap();
    assert!(!superuser, "the service is not above the law");
    for forbidden in [
        "update payment_events set data = '{}'",
        "delete from payment_events",
        "truncate payment_events",
        "update ledger set debit = debit + 1 where debit > 0",
        "delete from ledger",
        "truncate ledger",
    ] {
        let refused = sqlx::query(forbidden).execute(&replica.pool).await.unwrap_err();
        let refused = refused.into_database_error().expect("the database's own refusal");
        assert_eq!(refused.code().as_deref(), Some("42501"), "{forbidden}: {refused}");
    }
    replica.cancel(order_id).await;
    assert_eq!(
        store::facts(&replica.pool, order_id).await.unwrap().len(),
        3,
        "it may still be added to"
    );
}

#[tokio::test]
async fn not_even_a_superuser_changes_what_has_happened_by_accident() {
    let url = testbed::database_url(&MIGRATIONS).await;
    let replica = Replica::over(sqlx::PgPool::connect(&url).await.unwrap());
    replica.reserved("pm_card_visa").await;
    let name = url.split(['/', '?']).find(|part| part.starts_with("test_")).unwrap();
    let superuser = testbed::postgres().await.socket_url(name);
    let mut superuser = PgConnection::connect(&superuser).await.unwrap();
    let refused = sqlx::query("delete from payment_events").execute(&mut superuser).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("payment_events is append-only"), "{refused}");
}

/// Both have loaded the payment at the same version before either writes: nothing is there to be locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_writers_of_a_version_one_decides_again_on_what_the_other_wrote() {
    let one = Replica::start().await;
    let other = Replica::over(one.pool.clone());
    let order = reservation(Uuid::now_v7(), "pm_card_visa");
    let (both_have_loaded, decided) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let request = |replica: &Replica| {
        let (order, both_have_loaded, decided) = (order.clone(), both_have_loaded.clone(), decided.clone());
        let (order_id, mut first) = (order.order_id, true);
        let request = move |payments: &mut Payments| {
            decided.fetch_add(1, Ordering::SeqCst);
            if std::mem::take(&mut first) {
                tokio::task::block_in_place(|| both_have_loaded.wait());
            }
            ((), reactions::request(payments, &order))
        };
        let decisions = replica.decisions.clone();
        async move { decisions.decide(Touched::order(order_id), request).await }
    };
    let (first, second) = tokio::join!(request(&one), request(&other));
    first.unwrap();
    second.unwrap();
    assert_eq!(decided.load(Ordering::SeqCst), 3, "one of them decided twice");
    let versions: Vec<i64> =
        sqlx::query_scalar("select version from payment_events where order_id = $1 order by version")
            .bind(order.order_id)
            .fetch_all(&one.pool)
            .await
            .unwrap();
    assert_eq!(versions, [1], "and the request is there once");
}

#[tokio::test]
async fn a_version_is_written_once_whoever_writes() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    let again = "insert into payment_events (order_id, version, type, data) values ($1, 1, 'Voided', '{}')";
    let refused = sqlx::query(again).bind(order_id).execute(&replica.pool).await;
    let refused = refused.unwrap_err().into_database_error().unwrap();
    assert!(refused.is_unique_violation(), "{refused}");
}

#[tokio::test]
async fn where_a_payment_stands_is_the_fold_of_its_facts() {
    let replica = Replica::start().await;
    let order_id = replica.reserved("pm_card_visa").await;
    replica.settle(order_id, 1, charged()).await;
    replica.fail_shipment(order_id).await.unwrap();
    let stored = replica.payment(order_id).await;
    let facts = store::facts(&replica.pool, order_id).await.unwrap();
    let folded = Payment::fold(order_id, &facts);
    assert_eq!(
        (folded.state, folded.captured, folded.version),
        (stored.state, stored.captured, stored.version)
    );

    let mut session = replica.pool.acquire().await.unwrap();
    let histories = store::histories(&mut session, Uuid::nil(), 10).await.unwrap();
    assert_eq!(histories.len(), 1);
    assert_eq!(histories[0].facts.as_ref().unwrap().len(), facts.len());
    assert_eq!((histories[0].booked.taken, histories[0].booked.sold), (2_500, 2_500));
}
