//! What the W3C Trace Context suite asks of an implementation: `POST /test` with `[{url, arguments}]` posts each
//! `arguments` to its `url` as part of the same trace. A service that has it calls whoever it is told to.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, header};
use axum::routing::post;
use reqwest::{Body, Client, Request, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::{ApiError, FieldError, Json, client};

#[derive(Deserialize)]
struct Call {
    url: String,
    arguments: Value,
}

/// The route of the suite.
pub fn routes() -> anyhow::Result<Router> {
    let client = client::client(Duration::from_secs(2))?;
    Ok(Router::new().route("/test", post(call)).with_state(client))
}

async fn call(State(client): State<Client>, Json(calls): Json<Vec<Call>>) -> Result<&'static str, ApiError> {
    for Call { url, arguments } in calls {
        let url =
            Url::parse(&url).map_err(|error| ApiError::invalid(vec![FieldError::new("url", error.to_string())]))?;
        let mut request = Request::new(Method::POST, url);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        *request.body_mut() = Some(Body::from(arguments.to_string()));
        let called = client::send(&client, request, "harness", "/callback").await;
        called.map_err(|error| ApiError::unavailable(error.without_url().to_string()))?;
    }
    Ok("")
}
