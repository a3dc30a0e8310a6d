//! Traces out: Jaeger's query API, and the pages.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::query::{Query, now};
use crate::record::{parse_trace_id, trace_hex};
use crate::store::Store;
use crate::{jaeger, ui};

type Pairs = Parameters<Vec<(String, String)>>;

/// Everything that is served; `folder` holds Jaeger's UI.
pub(crate) fn routes(store: Arc<Store>, folder: Option<&FilePath>) -> anyhow::Result<Router> {
    let api = Router::new()
        .route("/services", get(services))
        .route("/services/{service}/operations", get(operation_names))
        .route("/operations", get(operations))
        .route("/traces", get(traces))
        .route("/traces/{id}", get(trace))
        .route("/dependencies", get(dependencies))
        .fallback(async || failure(StatusCode::NOT_FOUND, "not found"))
        .with_state(store);
    Ok(ui::pages(folder)?.nest("/api", api))
}

async fn services(State(store): State<Arc<Store>>) -> Response {
    data(store.services().into_iter().collect())
}

async fn operation_names(State(store): State<Arc<Store>>, Path(service): Path<String>) -> Response {
    let mut names: Vec<_> = store.operations(&service).into_iter().map(|(name, _)| name).collect();
    names.dedup();
    data(names)
}

async fn operations(State(store): State<Arc<Store>>, Parameters(parameters): Pairs) -> Response {
    let of = |wanted: &str| {
        parameters
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty())
    };
    let Some((_, service)) = of("service") else {
        return failure(StatusCode::BAD_REQUEST, "parameter 'service' is required");
    };
    let kind = of("spanKind").map(|(_, kind)| kind.as_str());
    let mut operations = store.operations(service);
    operations.retain(|(_, own)| kind.is_none_or(|kind| kind == own.as_str()));
    data(
        operations
            .into_iter()
            .map(|(name, kind)| json!({ "name": name, "spanKind": kind.as_str() }))
            .collect(),
    )
}

/// By id, or by what a span of the trace is like; without a service every one is searched.
async fn traces(State(store): State<Arc<Store>>, Parameters(parameters): Pairs) -> Response {
    let query = match Query::parse(&parameters) {
        Ok(query) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    };
    if query.trace_ids.is_empty() {
        return data(store.find(&query).iter().map(jaeger::trace).collect());
    }
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for id in query.trace_ids {
        match store.trace(id) {
            Some(trace) => found.push(jaeger::trace(&trace)),
            None => errors.push(json!({ "code": 404, "msg": "trace not found", "traceID": trace_hex(id) })),
        }
    }
    answer(StatusCode::OK, found.len(), json!(found), errors)
}

async fn trace(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Response {
    let Some(id) = parse_trace_id(&id) else {
        return failure(StatusCode::BAD_REQUEST, "a trace id has up to 32 hexadecimal digits");
    };
    match store.trace(id) {
        Some(trace) => data(vec![jaeger::trace(&trace)]),
        None => failure(StatusCode::NOT_FOUND, "trace not found"),
    }
}

/// Calls between services; `endTs` and `lookback` are milliseconds, now and everything when absent.
async fn dependencies(State(store): State<Arc<Store>>, Parameters(parameters): Pairs) -> Response {
    let nanoseconds = |wanted: &str| {
        let value = parameters
            .iter()
            .find(|(name, _)| name == wanted)?
            .1
            .parse::<u64>()
            .ok()?;
        Some(value.saturating_mul(1_000_000))
    };
    let end = nanoseconds("endTs").unwrap_or_else(now);
    let start = end.saturating_sub(nanoseconds("lookback").unwrap_or(end));
    let calls = store.calls(start..=end).into_iter();
    data(
        calls
            .map(|((parent, child), count)| json!({ "parent": parent, "child": child, "callCount": count }))
            .collect(),
    )
}

fn data<T: Into<Value>>(items: Vec<T>) -> Response {
    answer(StatusCode::OK, items.len(), items.into(), Vec::new())
}

fn failure(status: StatusCode, message: &str) -> Response {
    answer(
        status,
        0,
        Value::Null,
        vec![json!({ "code": status.as_u16(), "msg": message })],
    )
}

/// The envelope around every answer of Jaeger.
fn answer(status: StatusCode, total: usize, data: Value, errors: Vec<Value>) -> Response {
    let errors = if errors.is_empty() { Value::Null } else { errors.into() };
    let body = json!({ "data": data, "total": total, "limit": 0, "offset": 0, "errors": errors });
    (status, Json(body)).into_response()
}
