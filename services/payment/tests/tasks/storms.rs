//! What the gateway is asked while everything fails at once, and when it is back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream::{self, StreamExt};
use payment::Patience;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::replica::Replica;
use crate::{PATIENCE, errands};

/// A gateway that only counts: when it was asked, and whether for the first time or after a look-up.
#[derive(Clone, Default)]
struct Counter {
    charges: Arc<Mutex<Vec<Instant>>>,
    look_ups: Arc<Mutex<Vec<Instant>>>,
    failing: bool,
}

impl Counter {
    async fn listen(self, port: u16) -> DropGuard {
        let routes = Router::new()
            .route("/v1/payment_intents", post(charge))
            .route("/v1/payment_intents/search", get(look_up))
            .with_state(self);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped => {}
                _ = axum::serve(listener, routes) => {}
            }
        });
        shutdown.drop_guard()
    }

    fn charges_since(&self, instant: Instant) -> Vec<Instant> {
        let charges = self.charges.lock().unwrap();
        charges.iter().copied().filter(|at| *at >= instant).collect()
    }
}

async fn charge(State(counter): State<Counter>) -> Response {
    counter.charges.lock().unwrap().push(Instant::now());
    if counter.failing {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    axum::Json(json!({ "id": "pi_1", "status": "succeeded" })).into_response()
}

async fn look_up(State(counter): State<Counter>) -> Response {
    counter.look_ups.lock().unwrap().push(Instant::now());
    axum::Json(json!({ "data": [] })).into_response()
}

fn run(replica: &Replica, port: u16, patience: Patience) -> DropGuard {
    let shutdown = CancellationToken::new();
    let (charge, _) = errands(replica, &format!("http://127.0.0.1:{port}"), patience);
    tokio::spawn(messaging::run_errand(replica.db.clone(), charge, shutdown.clone()));
    shutdown.drop_guard()
}

/// Lets fifty payments a second be asked for, as long as it is polled.
async fn load(replica: &Replica) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ticks = stream::unfold(ticks, |mut ticks| async move {
        ticks.tick().await;
        Some(((), ticks))
    });
    ticks
        .for_each_concurrent(None, |()| async { _ = replica.reserved("pm_card_visa").await })
        .await;
}

/// Row 27: When a gateway comes back, what has piled up meanwhile reaches it at less than one and a half times the
/// usual rate. (The outage is 4 s here, not 30: the longer, the more piles up, at the same rate.)
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_comes_back_is_not_knocked_over_by_what_has_piled_up() {
    let (replica, port) = (Replica::start().await, testbed::free_port().unwrap());
    let (counter, started) = (Counter::default(), Instant::now());
    let up = counter.clone().listen(port).await;
    let _running = run(&replica, port, PATIENCE);
    // Time is meant throughout: rates are what is looked at.
    let _ = tokio::time::timeout(Duration::from_secs(8), load(&replica)).await;
    let usual = counter.charges_since(started + Duration::from_secs(3)).len() as f64 / 5.0;
    drop(up);
    let _ = tokio::time::timeout(Duration::from_secs(4), load(&replica)).await;
    let back = Instant::now();
    let _up = counter.clone().listen(port).await;
    let _ = tokio::time::timeout(Duration::from_secs(5), load(&replica)).await;
    let charges = counter.charges_since(back);
    assert!(charges.len() > 20, "it is in use again");
    for (index, first) in charges.iter().enumerate() {
        let within = charges[index..]
            .iter()
            .take_while(|at| **at < *first + Duration::from_secs(1))
            .count();
        assert!(
            (within as f64) < usual.max(20.0) * 1.5,
            "{within} calls in a second, {usual} are usual"
        );
    }
}

/// Row 27: While every charge fails, those that are asked again are a tenth of the calls and a trickle.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_fails_at_everything_is_not_asked_much_more_often_for_it() {
    let (replica, port) = (Replica::start().await, testbed::free_port().unwrap());
    let counter = Counter {
        failing: true,
        ..Counter::default()
    };
    let _up = counter.clone().listen(port).await;
    let running = run(&replica, port, PATIENCE);
    let started = Instant::now();
    let _ = tokio::time::timeout(Duration::from_secs(5), load(&replica)).await;
    drop(running);
    let asked_for: i64 = sqlx::query_scalar("select count(*) from payments where attempts > 0")
        .fetch_one(&replica.pool)
        .await
        .unwrap();
    let again = counter.charges.lock().unwrap().len() as f64 - asked_for as f64;
    // A tenth of what was asked for, ten a second, twenty that were saved up, and one for rounding.
    let allowed = asked_for as f64 * 0.1 + started.elapsed().as_secs_f64() * 10.0 + 21.0;
    assert!(
        again > 10.0 && again <= allowed,
        "{again} retries of {asked_for} charges, {allowed} are allowed"
    );
}
