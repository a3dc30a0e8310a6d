//! The routers of the services, as they are served, without databases behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use chassis::InFlight;
use messaging::{Db, Decisions, WorkingSet};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use tower::ServiceExt;

use crate::documents::Operation;

/// A database that does not answer, and says so at once.
fn db() -> Db {
    let closed = format!("postgres://nobody@127.0.0.1:{}/nothing", testbed::free_port().unwrap());
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(200));
    Db::new(pool.connect_lazy(&closed).unwrap())
}

fn decisions<W: WorkingSet>() -> Decisions<W> {
    Decisions::start(db())
}

pub(crate) fn routers() -> [(&'static str, Router); 6] {
    let minute = Duration::from_secs(60);
    let nowhere = "http://127.0.0.1:1".parse().unwrap();
    let order = order::api::App {
        db: db(),
        decisions: decisions(),
        inventory: order::clients::Inventory::at(&nowhere, minute).unwrap(),
        pay_within: minute,
        patience: order::domain::Patience {
            services: minute,
            parcel: minute,
        },
        in_flight: InFlight::start(&db()),
        followed: order::api::Followed::default(),
    };
    let payment = payment::api::App {
        db: db(),
        decisions: decisions(),
        webhook_secret: "whsec_of_these_tests".into(),
    };
    let inventory = inventory::api::App {
        db: db(),
        decisions: decisions(),
    };
    let warehouse = warehouse::api::App {
        db: db(),
        decisions: decisions(),
        carrier: warehouse::clients::Carrier,
    };
    let routers = [
        ("analytics", analytics::api::routes(analytics::api::App { db: db() })),
        ("email", email::api::routes(email::api::App { db: db() })),
        ("inventory", inventory::api::routes(inventory)),
        ("order", order::api::routes(order)),
        ("payment", payment::api::routes(payment)),
        ("warehouse", warehouse::api::routes(warehouse)),
    ];
    routers.map(|(name, routes)| (name, chassis::surface(routes)))
}

/// Every path that the router knows: axum tells them to nobody but a debugger.
pub(crate) fn paths(router: &Router) -> Vec<String> {
    let shown = format!("{router:?}");
    let entries = shown.split("RouteId(").skip(1);
    let paths = entries.filter_map(|entry| {
        let path = entry.split_once("): \"")?.1.split('"').next()?;
        let number = entry.split(')').next()?;
        number.parse::<u32>().is_ok().then(|| path.to_owned())
    });
    let mut paths: Vec<String> = paths.filter(|path| path.starts_with('/')).collect();
    // The fallback stands at two paths of its own.
    paths.retain(|path| !path.contains("__private__axum") && path != "/");
    assert!(!paths.is_empty(), "axum shows its routes differently now: {shown}");
    paths
}

/// Requests that an operation answers in different ways.
pub(crate) fn requests(operation: &Operation, uri: &str) -> Vec<Request<Body>> {
    let request = |uri: &str| Request::builder().method(&operation.method).uri(uri);
    let json = |uri: &str, body: &str| {
        let request = request(uri).header("content-type", "application/json");
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let example = &operation.value["requestBody"]["content"]["application/json"]["example"];
    vec![
        request(uri).body(Body::empty()).unwrap(),
        request(&format!("{uri}?limit=0&by=product"))
            .body(Body::empty())
            .unwrap(),
        request(&format!("{uri}?x=%00")).body(Body::empty()).unwrap(),
        request(&format!("{uri}?x={}", "x".repeat(9 << 10)))
            .body(Body::empty())
            .unwrap(),
        request(uri).body(Body::from("not json")).unwrap(),
        json(uri, "{"),
        json(uri, "[]"),
        json(uri, &"x".repeat(65 << 10)),
        json(uri, &example.to_string()),
    ]
}

/// Status, headers, and the body if it is JSON.
pub(crate) async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, BTreeMap<String, String>, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    (parts.status, headers.collect(), body)
}
