//! What the documents say and what the routers do are the same: the committed pages are those that the code writes,
//! every route is documented and every documented operation routed, and every answer has its trace id.
//!
//! `UPDATE_DOCS=1 cargo test -p e2e-tests --test openapi` writes `docs/openapi/*.json` and `docs/problems.md` anew.

#![allow(clippy::unwrap_used)]

mod documents;
mod routers;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use chassis::problems::{PROBLEMS, Problem};
use documents::{Operation, committed, documents, operations, references};
use routers::{answer, paths, routers};
use serde_json::Value;

/// Every method that a route might take.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

#[test]
fn the_committed_documents_are_those_of_the_handlers() {
    for (name, document) in documents() {
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        committed(&format!("docs/openapi/{name}.json"), &text);
    }
}

#[test]
fn the_page_of_problems_is_that_of_the_table() {
    committed("docs/problems.md", &chassis::problems::markdown());
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_operation_is_routed() {
    for (name, router) in routers() {
        let (_, document) = documents().into_iter().find(|(known, _)| *known == name).unwrap();
        let operations = operations(&document);
        let documented: BTreeSet<&str> = operations.iter().map(|operation| operation.path.as_str()).collect();
        let routed = paths(&router);
        let routed: BTreeSet<&str> = routed.iter().map(String::as_str).collect();
        assert_eq!(routed, documented, "{name}");
        for path in documented {
            for method in METHODS {
                let known = operations.iter().any(|op| op.path == path && op.method == method);
                let request = Request::builder().method(&method).uri(filled(path));
                let (status, _, problem) = answer(&router, request.body(Body::empty()).unwrap()).await;
                let nowhere = problem["detail"] == "there is nothing at this path";
                let is_routed = status != StatusCode::METHOD_NOT_ALLOWED && !nowhere;
                assert_eq!(
                    is_routed, known,
                    "{name}: {method} {path} was answered {status}: {problem}"
                );
            }
        }
    }
}

/// The services' databases are away, so most of these are refusals of one kind or another.
#[tokio::test]
async fn every_answer_has_a_trace_id_and_is_documented() {
    for (name, router) in routers() {
        let (_, document) = documents().into_iter().find(|(known, _)| *known == name).unwrap();
        for operation in operations(&document) {
            for request in routers::requests(&operation, &filled(&operation.path)) {
                let (status, headers, body) = answer(&router, request).await;
                let of = format!("{name}: {} {} was answered {status}", operation.method, operation.path);
                assert_eq!(headers["trace-id"].len(), 32, "{of}");
                let response = &operation.value["responses"][status.as_str()];
                assert!(response.is_object(), "{of}, which is not documented: {body}");
                if status.is_client_error() || status.is_server_error() {
                    let kinds = &response["content"]["application/problem+json"]["schema"]["allOf"][1];
                    let kinds = kinds["properties"]["type"]["enum"].as_array().unwrap();
                    assert!(kinds.contains(&body["type"]), "{of}: {body}");
                }
            }
        }
        for (method, uri) in [(Method::GET, "/nothing"), (Method::PATCH, "/openapi.json")] {
            let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
            assert_eq!(answer(&router, request).await.1["trace-id"].len(), 32, "{name}: {uri}");
        }
    }
}

#[tokio::test]
async fn every_type_of_problem_leads_to_its_page() {
    for (name, router) in routers() {
        for Problem { slug, .. } in PROBLEMS {
            let uri = format!("/problems/{slug}");
            let request = Request::get(&uri).body(Body::empty()).unwrap();
            let (status, headers, _) = answer(&router, request).await;
            assert_eq!(
                (status, headers["content-type"].as_str()),
                (StatusCode::OK, "text/html; charset=utf-8"),
                "{name}: {uri}"
            );
        }
    }
}

#[test]
fn every_operation_says_what_it_does_what_it_takes_and_what_it_answers() {
    for (name, document) in documents() {
        assert_eq!(document["openapi"], "3.1.0", "{name}");
        let mut ids = BTreeSet::new();
        for Operation { method, path, value } in operations(&document) {
            let of = format!("{name}: {method} {path}");
            assert!(
                ids.insert(value["operationId"].as_str().unwrap().to_owned()),
                "{of}: its id is not its own"
            );
            assert!(
                value["summary"].as_str().is_some_and(|text| text.ends_with('.')),
                "{of}: no summary"
            );
            let answers = value["responses"].as_object().unwrap();
            assert!(
                answers.keys().any(|status| status.starts_with('2')),
                "{of}: never succeeds"
            );
            for (status, response) in answers {
                assert!(response["headers"]["trace-id"].is_object(), "{of}: {status}");
                let is_empty = ["204", "304"].contains(&status.as_str());
                assert_eq!(
                    response.get("content").is_none(),
                    is_empty,
                    "{of}: {status} has no body"
                );
                if ["503"].contains(&status.as_str()) {
                    assert!(response["headers"]["Retry-After"].is_object(), "{of}: {status}");
                }
            }
        }
        assert!(!document.to_string().contains(":null"), "{name}: something is null");
        for reference in references(&document) {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{name}: {reference} leads nowhere");
        }
    }
}

/// `ApiError` takes any text; only kinds in the table are documented and have a page.
#[test]
fn every_kind_of_refusal_in_the_sources_is_in_the_table() {
    let unknown: Vec<String> = documents::slugs_in_sources()
        .into_iter()
        .filter(|(_, slug)| Problem::of(slug).is_none())
        .map(|(place, slug)| format!("{place}: {slug}"))
        .collect();
    assert!(
        unknown.is_empty(),
        "not in shared/chassis/src/problems.rs:\n  {}",
        unknown.join("\n  ")
    );
}

/// A path with something in the places of its parameters.
fn filled(path: &str) -> String {
    let id = "0198a8a0-0000-7000-8000-000000000001";
    let parts = path.split('/').map(|part| match part {
        "{sku}" => "TEA-ASSAM",
        "{slug}" => "not-found",
        part if part.starts_with('{') => id,
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn the_document_names_the_headers_of_the_interface() {
    let all: Value = documents().into_iter().map(|(_, document)| document).collect();
    let text = all.to_string();
    for header in [
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "Last-Event-ID",
        "Stripe-Signature",
        "Retry-After",
        "Location",
        "ETag",
        "Link",
        "trace-id",
        "Idempotent-Replayed",
    ] {
        assert!(text.contains(&format!("\"{header}\"")), "{header} is not documented");
    }
}
