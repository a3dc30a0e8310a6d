//! The OpenAPI document of a service: written by its handlers, completed with what every route has in common.
//!
//! A handler names what is its own: parameters, answers, and in the extension `x-problems` the kinds of refusal that
//! come from its rules. What the surface around it may answer follows from the shape of the operation.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::routing::get;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::{InfoBuilder, OpenApi};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problems::{self, Problem};
use crate::{FieldError, Json};

/// Where in an operation a handler names its own kinds of refusal.
const PROBLEMS: &str = "x-problems";

/// Why a request was not answered as asked (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemView {
    /// The kind, and the address of a page that explains it.
    #[schema(example = "/problems/invalid-request")]
    r#type: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What is the matter this time, for people.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// The trace of this request.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    trace_id: String,
    /// Every field that was refused.
    errors: Vec<FieldError>,
}

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ProblemView)))]
struct Common;

/// Serves documented routes together with their document, at `/openapi.json`.
pub fn serve<S: Clone + Send + Sync + 'static>(
    name: &'static str,
    about: &str,
    api: OpenApiRouter<S>,
    state: S,
) -> Router {
    let (routes, written) = api.split_for_parts();
    let document = document(name, about, written);
    routes
        .with_state(state)
        .route("/openapi.json", get(move || async move { Json(document) }))
}

/// The document that goes with these routes.
pub fn document(name: &str, about: &str, written: OpenApi) -> Value {
    let mut whole = Common::openapi();
    whole.merge(written);
    whole.merge(problems::documented().into_openapi());
    whole.merge(OpenApiRouter::<()>::new().routes(routes!(show_document)).into_openapi());
    whole.info = InfoBuilder::new()
        .title(format!("Tidings: {name}"))
        .version("1")
        .description(Some(about))
        .build();
    let mut document = serde_json::to_value(whole).unwrap_or_default();
    let mut shared = Map::new();
    for methods in objects(&mut document["paths"]) {
        for operation in objects(methods) {
            complete(operation, &mut shared);
        }
    }
    document["components"]["responses"] = Value::Object(shared);
    document
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "about",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object)),
)]
#[allow(dead_code)] // The route answers with the finished document; this is its entry.
async fn show_document() {}

fn objects(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// Adds the answers that do not come from the handler, and the header that every answer has.
fn complete(operation: &mut Value, shared: &mut Map<String, Value>) {
    let mut by_status = BTreeMap::<u16, BTreeSet<&'static str>>::new();
    for slug in refusals(operation) {
        let problem = Problem::of(&slug).unwrap_or_else(|| panic!("{slug} is not in the table of problems"));
        by_status
            .entry(problem.status.as_u16())
            .or_default()
            .insert(problem.slug);
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        never_null(&mut parameter["schema"]);
    }
    for response in objects(&mut operation["responses"]) {
        objects(&mut response["headers"]).for_each(|header| never_null(&mut header["schema"]));
        response["headers"]["trace-id"] = trace_id();
    }
    for (status, slugs) in by_status {
        let name: Vec<&str> = slugs.iter().copied().collect();
        let name = format!("{status}.{}", name.join("."));
        operation["responses"][status.to_string()] = json!({ "$ref": format!("#/components/responses/{name}") });
        shared.entry(name).or_insert_with(|| refusal(status, &slugs));
    }
}

/// What may be left out is not null when it is there: neither a query nor a header can say that.
fn never_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    let options = schema["oneOf"].as_array().cloned().unwrap_or_default();
    if let [only] = options
        .iter()
        .filter(|option| option["type"] != "null")
        .collect::<Vec<_>>()[..]
        && options.len() == 2
    {
        *schema = only.clone();
    }
}

fn trace_id() -> Value {
    header(
        "The trace of this request.",
        json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
    )
}

/// The kinds of refusal of an operation: its own, and those that follow from its shape.
fn refusals(operation: &mut Value) -> BTreeSet<String> {
    let own = operation.as_object_mut().and_then(|fields| fields.remove(PROBLEMS));
    let own = own.iter().flat_map(|slugs| slugs.as_array().into_iter().flatten());
    let mut slugs: BTreeSet<String> = own.filter_map(Value::as_str).map(str::to_owned).collect();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let has = |place: &str| parameters.iter().any(|parameter| parameter["in"] == place);
    let mut add = |more: &[&str]| slugs.extend(more.iter().map(|slug| (*slug).to_owned()));
    add(&[
        "malformed-request",
        "request-timeout",
        "payload-too-large",
        "uri-too-long",
    ]);
    add(&["headers-too-large", "internal-error", "overloaded", "unavailable"]);
    if has("path") {
        add(&["not-found"]);
    }
    if has("query") {
        add(&["invalid-request"]);
    }
    if operation.get("requestBody").is_some() {
        add(&["unsupported-media-type", "invalid-request"]);
    }
    slugs
}

fn refusal(status: u16, slugs: &BTreeSet<&'static str>) -> Value {
    let kinds: Vec<String> = slugs.iter().map(|slug| format!("/problems/{slug}")).collect();
    let meanings = slugs.iter().filter_map(|slug| Problem::of(slug));
    let description: Vec<&str> = meanings.clone().map(|problem| problem.meaning).collect();
    let examples: Map<String, Value> = meanings
        .clone()
        .map(|problem| (problem.slug.to_owned(), json!({ "value": example(problem) })))
        .collect();
    let schema = json!({ "allOf": [
        { "$ref": "#/components/schemas/Problem" },
        { "type": "object", "properties": { "type": { "enum": kinds }, "status": { "const": status } } },
    ]});
    let mut answer = json!({
        "description": description.join(" Or: "),
        "headers": { "trace-id": trace_id() },
        "content": { "application/problem+json": { "schema": schema, "examples": examples } },
    });
    if meanings.clone().any(Problem::is_for_now) {
        let seconds = json!({ "type": "integer", "minimum": 1 });
        answer["headers"]["Retry-After"] = header("In how many seconds to try again.", seconds);
    }
    answer
}

fn example(problem: &Problem) -> Value {
    json!({
        "type": format!("/problems/{}", problem.slug),
        "title": problem.title(),
        "status": problem.status.as_u16(),
        "detail": problem.meaning,
        "instance": "/v1/…",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "errors": [],
    })
}

fn header(description: &str, schema: Value) -> Value {
    json!({ "description": description, "schema": schema })
}
