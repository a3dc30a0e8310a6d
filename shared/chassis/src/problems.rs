//! Every kind of refusal there is, once: what the `type` of a problem document means and what to do about it.
//!
//! The table is served where the `type` points, stands in every OpenAPI document and makes `docs/problems.md`.

use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{ApiError, Path};

/// One kind of refusal.
#[derive(Debug, Clone, Copy)]
pub struct Problem {
    /// The last part of its `type`, which never changes.
    pub slug: &'static str,
    /// The status it comes with.
    pub status: StatusCode,
    /// What it means.
    pub meaning: &'static str,
    /// What whoever asked should do.
    pub remedy: &'static str,
}

const fn problem(slug: &'static str, status: StatusCode, meaning: &'static str, remedy: &'static str) -> Problem {
    Problem {
        slug,
        status,
        meaning,
        remedy,
    }
}

/// All of them, by status.
pub const PROBLEMS: &[Problem] = &[
    problem(
        "malformed-request",
        StatusCode::BAD_REQUEST,
        "The request cannot be read: it is not HTTP, its body is not JSON, or its address contains the character NUL.",
        "Mend the request; the same one is refused again.",
    ),
    problem(
        "invalid-signature",
        StatusCode::BAD_REQUEST,
        "The `Stripe-Signature` of a notice is missing, does not fit the body, or is older than five minutes.",
        "Sign the body as it is sent, with the secret that was agreed upon.",
    ),
    problem(
        "not-found",
        StatusCode::NOT_FOUND,
        "There is nothing at this path, or nothing with this id.",
        "Check the address. What was asked for may also not have got here yet: services hear of an order in turn.",
    ),
    problem(
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "There is something at this path, but it does not take this method.",
        "Use one of the methods in `Allow`.",
    ),
    problem(
        "request-timeout",
        StatusCode::REQUEST_TIMEOUT,
        "The body did not arrive within ten seconds.",
        "Send it again, faster.",
    ),
    problem(
        "out-of-stock",
        StatusCode::CONFLICT,
        "There is not enough of an article in stock; `errors` names the lines.",
        "Order less, or later.",
    ),
    problem(
        "order-not-cancellable",
        StatusCode::CONFLICT,
        "The parcel has left the house, so the order cannot be cancelled any more.",
        "Wait for the parcel and return it.",
    ),
    problem(
        "idempotency-key-in-flight",
        StatusCode::CONFLICT,
        "Another request with this `Idempotency-Key` is under way at this moment.",
        "Send the same request again after `Retry-After` seconds: it gets the answer of the first.",
    ),
    problem(
        "too-few-in-stock",
        StatusCode::CONFLICT,
        "Fewer pieces are neither sold nor held than are to be taken away.",
        "Take fewer away.",
    ),
    problem(
        "shipment-not-in-state",
        StatusCode::CONFLICT,
        "The shipment is not where it would have to be for this; `detail` says where it is.",
        "Look at the shipment, and do what fits its state.",
    ),
    problem(
        "order-not-returnable",
        StatusCode::CONFLICT,
        "Only what has arrived can be sent back, and not more often than a hundred times; `detail` says what is the matter.",
        "Wait until the order is COMPLETED, or cancel it while that is possible.",
    ),
    problem(
        "return-exceeds-order",
        StatusCode::CONFLICT,
        "More would come back than was bought, counting what came back before; `errors` names the lines.",
        "Send back what is left, or wait until an open return was rejected.",
    ),
    problem(
        "return-not-in-state",
        StatusCode::CONFLICT,
        "The return was received or rejected before; `detail` says which.",
        "Nothing can be changed about it.",
    ),
    problem(
        "refund-not-refused",
        StatusCode::CONFLICT,
        "Only a refund that the gateway has refused can be tried again by hand; `detail` says where it stands.",
        "Wait: it is tried by itself, or was paid.",
    ),
    problem(
        "not-replayable",
        StatusCode::CONFLICT,
        "What this service does cannot be done once more for the sake of its tables; `detail` says what it is.",
        "Replay analytics, which only counts.",
    ),
    problem(
        "replay-needs-owner",
        StatusCode::CONFLICT,
        "A replay makes tables and exchanges them, and this service is not connected as their owner.",
        "Give it `OWNER_DATABASE_URL`, or replay single orders, which needs no new tables.",
    ),
    problem(
        "replay-under-way",
        StatusCode::CONFLICT,
        "One replay at a time.",
        "Look at the one under way with GET on the same path.",
    ),
    problem(
        "dead-letter-not-redrivable",
        StatusCode::CONFLICT,
        "This event cannot be tried again: it is done already, or it waits behind another one.",
        "Look at the letter; redrive the one it waits for.",
    ),
    problem(
        "dead-letter-closed",
        StatusCode::CONFLICT,
        "This dead letter was redriven or discarded before.",
        "Nothing needs to be done.",
    ),
    problem(
        "changed-meanwhile",
        StatusCode::PRECONDITION_FAILED,
        "What is to be changed is not the version that `If-Match` names, or exists although `If-None-Match: *` says \
         it must not.",
        "Get it again, look at what has changed, and send the change with the new `ETag`.",
    ),
    problem(
        "payload-too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is larger than 64 KiB.",
        "Send less at a time.",
    ),
    problem(
        "uri-too-long",
        StatusCode::URI_TOO_LONG,
        "The address is longer than 8 KiB.",
        "Ask for less at a time.",
    ),
    problem(
        "unsupported-media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is not said to be JSON.",
        "Send JSON with `Content-Type: application/json`.",
    ),
    problem(
        "invalid-request",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The request can be read, but something in its body, query or headers cannot be accepted; `errors` names each \
         field and the reason.",
        "Mend the fields; the same request is refused again.",
    ),
    problem(
        "idempotency-key-reused",
        StatusCode::UNPROCESSABLE_ENTITY,
        "This `Idempotency-Key` was used for a request with another body.",
        "Use a new key for a new request, and the same body when a request is repeated.",
    ),
    problem(
        "headers-too-large",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "There are more than 100 headers, or more than 32 KiB of them.",
        "Send fewer.",
    ),
    problem(
        "internal-error",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong on our side. It is in the log under the `trace_id`.",
        "Tell us the `trace_id`. Repeat a change only under the same `Idempotency-Key`.",
    ),
    problem(
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "There is more to do than can be done in time, so this request was not begun.",
        "Send the same request again after `Retry-After` seconds.",
    ),
    problem(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Something that is needed is away, or the answer took too long. Whether a change was made is not known.",
        "Send the same request again after `Retry-After` seconds, a change under the same `Idempotency-Key`.",
    ),
];

impl Problem {
    /// The kind with this slug.
    pub fn of(slug: &str) -> Option<&'static Self> {
        PROBLEMS.iter().find(|problem| problem.slug == slug)
    }

    /// `out-of-stock` reads "Out of stock".
    pub fn title(&self) -> String {
        title(self.slug)
    }

    /// Whether it says when to try again.
    pub fn is_for_now(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE || self.slug == "idempotency-key-in-flight"
    }
}

pub(crate) fn title(slug: &str) -> String {
    let words = slug.replace('-', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `docs/problems.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Problems\n\nEvery refusal is a problem document (RFC 9457, `application/problem+json`): `type`, `title`, \
         `status`, `detail`, `instance`, `trace_id` and `errors`, a list of `field` and `reason`. The `type` is an \
         address of the service that refused, such as `/problems/out-of-stock`, and shows the entry below to whoever \
         opens it. Programs go by `type`; `detail` is for people and may change.\n\n\
         This page is written from `shared/chassis/src/problems.rs`.\n",
    );
    for problem in PROBLEMS {
        let (slug, title, status) = (problem.slug, problem.title(), problem.status.as_u16());
        let (meaning, remedy) = (problem.meaning, problem.remedy);
        page.push_str(&format!(
            "\n## {title}\n\n`/problems/{slug}`, status {status}\n\n{meaning}\n\n*What to do:* {remedy}\n"
        ));
    }
    page
}

/// The pages that the `type` of a problem points to, documented.
pub(crate) fn documented() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(show_problem))
}

pub(crate) fn routes() -> Router {
    documented().into()
}

/// What a kind of refusal means: the page that the `type` of a problem document points to.
#[utoipa::path(
    get, path = "/problems/{slug}", tag = "about",
    params(("slug" = String, Path, description = "The last part of a problem's `type`.", example = "out-of-stock")),
    responses((status = 200, description = "The kind of refusal, for people.", body = String, content_type = "text/html")),
)]
async fn show_problem(Path(slug): Path<String>) -> Result<Html<String>, ApiError> {
    let problem = Problem::of(&slug).ok_or_else(|| ApiError::not_found("there is no such kind of problem"))?;
    let (title, status) = (problem.title(), problem.status);
    let (meaning, remedy) = (code(problem.meaning), code(problem.remedy));
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <body style=\"font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em\">\
         <h1>{title}</h1><p><code>/problems/{slug}</code>, status {status}</p><p>{meaning}</p>\
         <p><em>What to do:</em> {remedy}</p>\n"
    )))
}

/// The table's own text as HTML: what stands between backticks is code.
fn code(text: &str) -> String {
    let parts = text.replace('&', "&amp;").replace('<', "&lt;");
    let parts = parts.split('`').enumerate();
    let marked = parts.map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    });
    marked.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_one_slug_and_stands_in_order_of_its_status() {
        let slugs: BTreeSet<_> = PROBLEMS.iter().map(|problem| problem.slug).collect();
        assert_eq!(slugs.len(), PROBLEMS.len());
        assert!(PROBLEMS.is_sorted_by_key(|problem| problem.status));
    }

    #[test]
    fn code_is_marked_and_nothing_else_is_html() {
        assert_eq!(code("a `b` < c"), "a <code>b</code> &lt; c");
    }
}
