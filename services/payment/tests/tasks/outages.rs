//! Time-outs, outages and crashes: nothing is charged twice, nothing is lost.

use std::time::{Duration, Instant};

use messaging::Errand;
use payment::Patience;
use payment::domain::State;
use uuid::Uuid;

use crate::replica::reservation;
use crate::{PATIENCE, Shop};

#[tokio::test]
async fn a_card_that_is_down_times_out_and_holds_nobody_else_up() {
    let shop = Shop::open().await;
    let patience = Patience {
        give_up_after: Duration::from_secs(2),
        ..PATIENCE
    };
    let _running = shop.run(patience);
    let mut down = Vec::new();
    for _ in 0..20 {
        down.push(shop.replica.reserved("pm_card_down").await);
    }
    shop.until_attempt(down[19], 2).await;
    let order_id = shop.replica.reserved("pm_card_visa").await;
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.payment(order_id).await.progress.attempts, 1);
    for order_id in down {
        shop.until(order_id, State::TimedOut).await;
        assert_eq!(shop.replica.told(order_id).await, ["PaymentTimedOut"]);
        let told = shop.replica.content(order_id, "PaymentTimedOut").await;
        assert_eq!(told["code"], "gateway_unavailable");
        assert!(told["attempts"].as_i64().unwrap() >= 2);
        assert_eq!(
            shop.replica.due_in(order_id).await,
            None,
            "the look-up answered: nothing was taken"
        );
        shop.check(order_id).await;
    }
}

#[tokio::test]
async fn a_charge_found_after_the_time_out_is_paid_back() {
    let mut shop = Shop::open().await;
    let patience = Patience {
        call: Duration::from_millis(300),
        give_up_after: Duration::from_secs(1),
        settles_within: Duration::from_secs(1),
    };
    let order_id = shop.replica.reserved("pm_card_timeoutAfterCharge").await;
    let (charge, _) = shop.errands(patience);
    charge.perform(shop.take(&charge).await).await.unwrap();
    shop.sandbox.kill();
    let _running = shop.run(patience);
    shop.until(order_id, State::TimedOut).await;
    assert!(shop.replica.payment(order_id).await.unresolved);
    assert!(shop.replica.due_in(order_id).await.is_some());
    shop.replica.cancel(order_id).await;
    assert_eq!(
        shop.replica.told(order_id).await,
        ["PaymentTimedOut"],
        "whether it is void is not known"
    );

    shop.sandbox.restart();
    sqlx::query("update payments set due_at = now()")
        .execute(&shop.replica.pool)
        .await
        .unwrap();
    shop.until(order_id, State::Refunded).await;
    assert_eq!(
        shop.replica.told(order_id).await,
        ["PaymentTimedOut", "PaymentRefunded"]
    );
    assert_eq!(
        shop.replica.content(order_id, "PaymentRefunded").await["cause"],
        "CHARGED_TOO_LATE"
    );
    shop.check(order_id).await;
}

#[tokio::test]
async fn a_gateway_that_is_away_opens_the_breaker_and_is_back_in_use_when_it_returns() {
    let mut shop = Shop::open().await;
    shop.sandbox.kill();
    let running = shop.run(PATIENCE);
    let orders = futures_util::future::join_all((0..30).map(|_| shop.replica.reserved("pm_card_visa"))).await;
    let attempts = async || {
        let sum = sqlx::query_scalar("select sum(attempts) from payments");
        sum.fetch_one(&shop.replica.pool).await.unwrap_or(0_i64)
    };
    tokio::time::timeout(Duration::from_secs(10), async { while attempts().await < 30 {} })
        .await
        .unwrap();
    let before = attempts().await;
    // Time is meant: how many calls go out while nobody answers.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let probes = attempts().await - before;
    assert!(probes <= 10, "{probes} calls in 1.5 s");
    drop(running);

    shop.sandbox.restart();
    let _running = shop.run(PATIENCE);
    for order_id in orders {
        shop.until(order_id, State::Succeeded).await;
        shop.check(order_id).await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_during_a_call_leaves_one_charge_and_one_success() {
    let shop = Shop::open().await;
    let order_id = shop.replica.reserved("pm_card_slow").await;
    let (charge, _) = shop.errands(PATIENCE);
    let job = shop.take(&charge).await;
    let killed = tokio::time::timeout(Duration::from_millis(200), charge.perform(job)).await;
    assert!(killed.is_err());
    let _running = shop.run(PATIENCE);
    sqlx::query("update payments set due_at = now()")
        .execute(&shop.replica.pool)
        .await
        .unwrap();
    shop.until(order_id, State::Succeeded).await;
    assert_eq!(shop.replica.told(order_id).await, ["PaymentSucceeded"]);
    shop.check(order_id).await;
}

#[tokio::test]
async fn what_expired_before_the_first_attempt_is_never_charged() {
    let shop = Shop::open().await;
    let order_id = Uuid::now_v7();
    let expires_at = chrono::Utc::now() - chrono::TimeDelta::seconds(1);
    shop.replica
        .reserve(&events::InventoryReserved {
            expires_at,
            ..reservation(order_id, "pm_card_visa")
        })
        .await;
    let _running = shop.run(PATIENCE);
    shop.until(order_id, State::TimedOut).await;
    assert_eq!(
        shop.replica.content(order_id, "PaymentTimedOut").await["code"],
        "expired"
    );
    shop.check(order_id).await;
}

#[tokio::test]
async fn cards_that_hang_do_not_open_the_breaker_but_a_gateway_that_is_away_does() {
    let mut shop = Shop::open().await;
    let (charge, _) = shop.errands(Patience {
        call: Duration::from_millis(300),
        ..PATIENCE
    });
    for _ in 0..8 {
        shop.replica.reserved("pm_card_timeoutAfterCharge").await;
    }
    let attempt_all = async || {
        let due_now = sqlx::query("update payments set due_at = now() where due_at is not null");
        due_now.execute(&shop.replica.pool).await.unwrap();
        let mut tx = messaging::Db::new(shop.replica.pool.clone()).begin().await.unwrap();
        let jobs = charge.take(&mut tx, 10).await.unwrap();
        tx.commit().await.unwrap();
        futures_util::future::join_all(jobs.into_iter().map(|job| charge.perform(job)))
            .await
            .len()
    };
    assert_eq!(attempt_all().await, 8);
    assert_eq!(charge.gateway.breaker().pause(Instant::now()), Duration::ZERO);
    shop.sandbox.kill();
    assert_eq!(attempt_all().await, 8);
    assert!(charge.gateway.breaker().pause(Instant::now()) > Duration::ZERO);
    assert_eq!(attempt_all().await, 0, "nobody is called, and nothing is given up yet");
}
