//! The HTTP surface: Stripe's part of it, and what an operator of the sandbox sees besides.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use crate::call::Call;
use crate::charges;
use crate::clerk::{Clerk, Closed};
use crate::facts::{Attempt, Claim};
use crate::payments::Verdict;
use crate::refusal::Refusal;
use crate::token::Token;
use crate::views::{self, Reply};

/// How long a slow payment takes.
const SLOW: Duration = Duration::from_secs(3);

/// Bytes of a request body; a payment takes a few hundred.
const MAX_BODY: usize = 64 * 1024;

/// What the handlers share.
#[derive(Clone, FromRef)]
struct Desk {
    clerk: Clerk,
    refunds: Arc<RwLock<Refunds>>,
    refused: Refused,
}

/// The keys of refunds that were refused: the refusal is repeated under them. Forgotten by a restart.
type Refused = Arc<Mutex<HashSet<Box<str>>>>;

/// What becomes of refunds.
#[derive(Clone, Copy, Default, Debug)]
enum Refunds {
    /// They go through.
    #[default]
    Accepted,
    /// They fail with 503, so that asking again may help.
    Unavailable,
    /// They are refused with 400, as for a card that was closed: asking again does not help.
    Refused,
}

/// Every route. The shop's part asks for the key; the operator's part, which no shop may depend on, does not.
pub(crate) fn routes(clerk: Clerk, key: &str) -> Router {
    let desk = Desk {
        clerk,
        refunds: Arc::default(),
        refused: Refused::default(),
    };
    let credentials: Arc<str> = format!("Bearer {key}").into();
    Router::new()
        .route("/v1/payment_intents", post(create_payment))
        .route("/v1/payment_intents/search", get(search_payments))
        .route("/v1/payment_intents/{id}", get(payment))
        .route("/v1/payment_intents/{id}/cancel", post(cancel_payment))
        .route("/v1/refunds", post(create_refund))
        .route("/v1/refunds/{id}", get(refund))
        .route_layer(middleware::from_fn_with_state(credentials, authorize))
        .route("/v1/charges", get(charges::list))
        .route("/sandbox/refunds/{mode}", post(switch_refunds))
        .route("/livez", get(|| async { "ok" }))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(desk)
}

async fn authorize(State(credentials): State<Arc<str>>, request: Request, next: Next) -> Result<Response, Refusal> {
    match request.headers().get(AUTHORIZATION) {
        Some(shown) if shown.as_bytes() == credentials.as_bytes() => Ok(next.run(request).await),
        Some(_) => Err(Refusal::with_status(
            StatusCode::UNAUTHORIZED,
            "Invalid API Key provided.",
        )),
        None => Err(Refusal::with_status(
            StatusCode::UNAUTHORIZED,
            "You did not provide an API key: send 'Authorization: Bearer sk_test_…'.",
        )),
    }
}

async fn unknown_route(method: Method, uri: Uri) -> Refusal {
    Refusal::with_status(
        StatusCode::NOT_FOUND,
        format!("Unrecognized request URL ({method}: {}).", uri.path()),
    )
}

/// Tries a payment. What was handed to the clerk is carried out even if the caller hangs up.
async fn create_payment(State(clerk): State<Clerk>, call: Call) -> Result<Reply, Refusal> {
    let attempt = call.attempt()?;
    let token = attempt.payment_method;
    let reply = match clerk.ask(|book| book.pay(attempt)).await?? {
        Verdict::Answered(reply) => reply,
        Verdict::Later(attempt) => tokio::spawn(settle_later(clerk, attempt)).await.map_err(|_| Closed)??,
    };
    if token == Token::TimeoutAfterCharge && !reply.replayed {
        std::future::pending::<()>().await;
    }
    Ok(reply)
}

/// Runs as a task of its own, which outlives the caller's connection.
async fn settle_later(clerk: Clerk, attempt: Attempt) -> Result<Reply, Refusal> {
    tokio::time::sleep(SLOW).await;
    clerk.ask(|book| book.settle(attempt)).await?
}

async fn payment(State(clerk): State<Clerk>, Path(id): Path<String>) -> Result<Reply, Refusal> {
    clerk.ask(move |book| book.intent(&id).and_then(views::intent)).await?
}

/// Finds the payments of an order, declined ones included, newest first. Unlike Stripe's, the index is never behind.
async fn search_payments(State(clerk): State<Clerk>, call: Call) -> Result<Reply, Refusal> {
    let order_id = call.get("query").and_then(order_id_sought).map(str::to_owned);
    let order_id = order_id
        .ok_or_else(|| Refusal::invalid("This gateway searches for metadata['order_id']:'…' only.").param("query"))?;
    clerk
        .ask(move |book| views::found(book.newest_first(Some(&order_id), None).map(|(_, intent)| intent)))
        .await?
}

/// The order id of `metadata['order_id']:'…'`, in either kind of quotes.
fn order_id_sought(query: &str) -> Option<&str> {
    let (field, rest) = quoted(query.trim().strip_prefix("metadata[")?)?;
    let (order_id, rest) = quoted(rest.strip_prefix("]:")?)?;
    (field == "order_id" && rest.is_empty()).then_some(order_id)
}

/// The quoted text at the start, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.split_once(quote))
}

async fn cancel_payment(State(clerk): State<Clerk>, Path(id): Path<String>, call: Call) -> Result<Reply, Refusal> {
    clerk.ask(move |book| book.cancel(&id, call.claim)).await?
}

async fn create_refund(State(desk): State<Desk>, call: Call) -> Result<Reply, Refusal> {
    let mode = *desk.refunds.read().unwrap_or_else(PoisonError::into_inner);
    if matches!(mode, Refunds::Unavailable) {
        return Err(Refusal::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "Refunds are unavailable.",
        ));
    }
    let order = call.refund()?;
    if desk.refuses(order.claim.as_ref(), mode) {
        return Err(Refusal::invalid("The card was closed.").code("expired_or_canceled_card"));
    }
    desk.clerk.ask(|book| book.refund_payment(order)).await?
}

impl Desk {
    /// Whether this refund is refused: now, or before under the same key.
    fn refuses(&self, claim: Option<&Claim>, mode: Refunds) -> bool {
        let now = matches!(mode, Refunds::Refused);
        let Some(Claim { key, .. }) = claim else {
            return now;
        };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if now {
            refused.insert(key.clone());
        }
        refused.contains(key)
    }
}

async fn refund(State(clerk): State<Clerk>, Path(id): Path<String>) -> Result<Reply, Refusal> {
    clerk.ask(move |book| book.refund(&id)).await?
}

/// Makes refunds fail with 503 (`refuse`) or 400 (`reject`) until switched back (`accept`) or restarted.
async fn switch_refunds(
    State(refunds): State<Arc<RwLock<Refunds>>>,
    Path(mode): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mode = match mode.as_str() {
        "accept" => Refunds::Accepted,
        "refuse" => Refunds::Unavailable,
        "reject" => Refunds::Refused,
        _ => return Err(Refusal::invalid("Refunds can be switched to accept, refuse or reject.")),
    };
    *refunds.write().unwrap_or_else(PoisonError::into_inner) = mode;
    tracing::info!(?mode, "refunds switched");
    Ok(StatusCode::NO_CONTENT)
}
