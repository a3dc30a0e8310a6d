//! Idempotency keys, across replicas and crashes.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use chassis::InFlight;
use messaging::Db;
use order::tasks::forget_old_keys;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::patience::until;
use crate::{Answer, Shop, wish};

const SCOPE: &str = "0198a8a0-0000-7000-8000-000000000001:k";

fn assert_under_way(answer: &Answer) {
    assert_eq!(
        (answer.status, &answer.body["type"]),
        (StatusCode::CONFLICT, &json!("/problems/idempotency-key-in-flight"))
    );
    assert!(answer.headers["retry-after"].parse::<u32>().unwrap() >= 1);
}

/// An inventory that answers one stock check for every permit.
async fn inventory(let_go: Arc<Semaphore>, asked: Arc<Semaphore>) -> String {
    let check = move || async move {
        asked.add_permits(1);
        let_go.acquire().await.unwrap().forget();
        let tea = json!({ "sku": "tea", "name": "Tea", "price": 250, "currency": "EUR", "available": 9 });
        Json(json!({ "items": [tea] }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/v1/stock-checks", post(check));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

/// Row 29: while the first request of a key is under way in one replica, another replica refuses the second, for now.
#[tokio::test]
async fn a_key_under_way_in_one_replica_is_refused_for_now_in_the_other() {
    let (let_go, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let address = inventory(let_go.clone(), asked.clone()).await;
    let patient = Duration::from_secs(600);
    let one = Shop::on(testbed::database(&order::MIGRATIONS).await, &address, patient).await;
    let other = Shop::on(one.pool.clone(), &address, patient).await;
    let first = async { one.post("/v1/orders", &wish(), Some("k")).await };
    let meanwhile = async {
        asked.acquire().await.unwrap().forget();
        for replica in [&one, &other] {
            assert_under_way(&replica.post("/v1/orders", &wish(), Some("k")).await);
        }
        let_go.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    assert_eq!(first.status, StatusCode::CREATED);
    let again = other.post("/v1/orders", &wish(), Some("k")).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(one.count("orders").await, 1);
}

/// Row 29: a replica that is gone keeps no key: its session ends with it.
#[tokio::test]
async fn a_key_is_free_again_once_the_replica_that_had_it_is_gone() {
    let shop = Shop::open().await;
    let doomed = InFlight::start(&Db::new(shop.pool.clone()));
    let _claim = doomed.claim(SCOPE).await.unwrap();
    assert_under_way(&shop.post("/v1/orders", &wish(), Some("k")).await);
    let kill = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database = \
                (select oid from pg_database where datname = current_database())";
    sqlx::query(kill).execute(&shop.pool).await.unwrap();
    until(|| async { shop.post("/v1/orders", &wish(), Some("k")).await.status == StatusCode::CREATED }).await;
    assert_eq!(shop.count("orders").await, 1);
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_its_key_free() {
    let shop = Shop::open().await;
    let mut unknown = wish();
    let unicorn = json!({ "sku": "unicorn", "quantity": 1 });
    unknown["lines"].as_array_mut().unwrap().push(unicorn);
    for _ in 0..20 {
        let refused = shop.post("/v1/orders", &unknown, Some("k")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    }
    assert_eq!(
        shop.post("/v1/orders", &wish(), Some("k")).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_dropped_claim_is_free_for_everybody_and_a_held_one_for_nobody() {
    let pool = testbed::database(&order::MIGRATIONS).await;
    let [one, other] = [0, 1].map(|_| InFlight::start(&Db::new(pool.clone())));
    let claim = one.claim("a").await.unwrap();
    for replica in [&one, &other] {
        assert_eq!(replica.claim("a").await.unwrap_err().status(), StatusCode::CONFLICT);
    }
    drop(claim);
    until(|| async { other.claim("a").await.is_ok() }).await;
    until(|| async { one.claim("a").await.is_ok() }).await;
}

#[tokio::test]
async fn keys_are_forgotten_after_a_day_in_batches_and_not_before() {
    let shop = Shop::open().await;
    let first = shop.post("/v1/orders", &wish(), Some("k")).await;
    let age = |age: &'static str| {
        let sql = "update idempotency_keys set created_at = now() - $1::interval where scope = $2";
        sqlx::query(sql).bind(age).bind(SCOPE).execute(&shop.pool)
    };
    let old = "insert into idempotency_keys (scope, fingerprint, order_id, status, body, created_at)
               select 'old:' || n, gen_random_uuid(), gen_random_uuid(), 201, '', now() - interval '25 hours'
               from generate_series(1, 2500) as n";
    sqlx::query(old).execute(&shop.pool).await.unwrap();
    age("23 hours").await.unwrap();
    let db = Db::new(shop.pool.clone());
    assert_eq!(forget_old_keys(&db).await.unwrap(), 2_500);
    let again = shop.post("/v1/orders", &wish(), Some("k")).await;
    assert_eq!(again.body, first.body);
    age("25 hours").await.unwrap();
    assert_eq!(forget_old_keys(&db).await.unwrap(), 1);
}
