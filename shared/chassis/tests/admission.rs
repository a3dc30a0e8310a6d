//! Who is turned away while there is more to do than can be done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, Response};
use axum::routing::get;
use chassis::admission::Admission;
use chassis::{ApiError, surface};
use messaging::Db;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| messaging::migrations(Migrator::DEFAULT));

async fn asked(routes: &Router, method: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri("/things").body(Body::empty());
    routes.clone().oneshot(request.unwrap()).await.unwrap()
}

/// Fails unless the client is told to come back in 1 to 5 seconds.
async fn assert_turned_away(answer: Response<Body>, slug: &str) {
    assert_eq!(answer.status().as_u16(), 503);
    let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    let problem: Value = serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 16).await.unwrap()).unwrap();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
}

/// An event that has waited for a minute.
async fn fill(pool: &PgPool) {
    sqlx::query(
        "insert into outbox (lane, event_id, event_type, nats_subject, subject, sequence, correlation_id, payload, occurred_at)
         values (0, gen_random_uuid(), 'shop.order.OrderPlaced.v1', 'shop.order.OrderPlaced', 'o', 1, 'o', '{}', now() - interval '1 minute')",
    )
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn changes_are_refused_while_the_outbox_is_too_old_and_taken_again_when_it_is_not() {
    let pool = testbed::database(&MIGRATIONS).await;
    let admission = Admission::until(Duration::from_secs(30));
    let shutdown = CancellationToken::new();
    let measuring = tokio::spawn(admission.clone().measure(Db::new(pool.clone()), shutdown.clone()));
    let things = Router::new().route("/things", get(|| async { "shown" }).post(|| async { "changed" }));
    let routes = surface(admission.guard(things));
    assert_eq!(asked(&routes, "POST").await.status().as_u16(), 200);

    fill(&pool).await;
    while asked(&routes, "POST").await.status().as_u16() == 200 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_turned_away(asked(&routes, "POST").await, "overloaded").await;
    assert_eq!(
        asked(&routes, "GET").await.status().as_u16(),
        200,
        "looking costs no event"
    );

    sqlx::query("delete from outbox").execute(&pool).await.unwrap();
    while asked(&routes, "POST").await.status().as_u16() != 200 {
        sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    measuring.await.unwrap();
}

#[tokio::test]
async fn a_request_too_many_is_refused_at_once() {
    let (begun, let_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (started, released) = (Arc::clone(&begun), Arc::clone(&let_go));
    let things = Router::new().route(
        "/things",
        get(move || async move {
            started.add_permits(1);
            released.acquire().await.unwrap().forget();
            "shown"
        }),
    );
    let routes = surface(Admission::until(Duration::from_secs(900)).at_once(1).guard(things));
    let other = routes.clone();
    let first = tokio::spawn(async move { asked(&other, "GET").await.status().as_u16() });
    begun.acquire().await.unwrap().forget();
    assert_turned_away(asked(&routes, "GET").await, "overloaded").await;
    let_go.add_permits(2);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(asked(&routes, "GET").await.status().as_u16(), 200);
}

/// Row 15: of a crowd a part is worked on and the others wait their turn, so that nobody starves anybody of connections.
#[tokio::test]
async fn a_crowd_is_served_in_turns() {
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_work, peak) = (Arc::clone(&working), Arc::clone(&most));
    let things = Router::new().route(
        "/things",
        get(move || async move {
            peak.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for the whole crowd to have come.
            sleep(Duration::from_millis(50)).await;
            at_work.fetch_sub(1, Ordering::SeqCst);
        }),
    );
    let routes = surface(Admission::until(Duration::from_secs(900)).guard(things));
    let crowd = (0..400).map(|_| asked(&routes, "GET"));
    let answers = futures_util::future::join_all(crowd).await;
    assert!(answers.iter().all(|answer| answer.status().as_u16() == 200));
    assert_eq!(most.load(Ordering::SeqCst), 128);
}

/// Rows 13, 15: a request that finds every connection of the pool taken is answered 503 with Retry-After, and does not hang.
#[tokio::test]
async fn an_exhausted_pool_is_a_503_and_not_a_hang() {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_millis(200))
        .connect(&testbed::database_url(&MIGRATIONS).await)
        .await
        .unwrap();
    let look = |State(pool): State<PgPool>| async move {
        let one: i32 = sqlx::query_scalar("select 1").fetch_one(&pool).await?;
        Ok::<_, ApiError>(one.to_string())
    };
    let routes = surface(Router::new().route("/things", get(look)).with_state(pool.clone()));
    let taken = pool.acquire().await.unwrap();
    assert_turned_away(asked(&routes, "GET").await, "unavailable").await;
    drop(taken);
    assert_eq!(asked(&routes, "GET").await.status().as_u16(), 200);
}
