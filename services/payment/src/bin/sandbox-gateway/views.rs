//! Answers in Stripe's JSON, written from the book.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::book::Intent;
use crate::facts::{Attempt, Currency, Metadata, Refund, Tagged};
use crate::refusal::{ErrorBody, Refusal};
use crate::token::Token;

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer ready to be sent.
pub(crate) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    /// The request was answered before under its idempotency key.
    pub(crate) replayed: bool,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Refusal> {
        Ok(Self {
            status,
            body: serde_json::to_vec(body)?,
            replayed: false,
        })
    }

    pub(crate) fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.status, json, self.body).into_response();
        if self.replayed {
            response
                .headers_mut()
                .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Stripe's payment intent.
#[derive(Serialize)]
pub(crate) struct IntentView<'a> {
    id: Tagged,
    object: &'static str,
    amount: i64,
    amount_received: i64,
    currency: Currency,
    status: &'static str,
    latest_charge: Option<Tagged>,
    payment_method: Token,
    metadata: &'a Metadata,
    last_payment_error: Option<ErrorBody>,
    created: u64,
    canceled_at: Option<u64>,
    livemode: bool,
}

impl<'a> From<&'a Attempt> for IntentView<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let declined = attempt.payment_method.decline_code();
        let charged = declined.is_none();
        Self {
            id: Tagged("pi", attempt.id),
            object: "payment_intent",
            amount: attempt.amount,
            amount_received: if charged { attempt.amount } else { 0 },
            currency: attempt.currency,
            status: if charged {
                "succeeded"
            } else {
                "requires_payment_method"
            },
            latest_charge: charged.then_some(Tagged("ch", attempt.id)),
            payment_method: attempt.payment_method,
            metadata: &attempt.metadata,
            last_payment_error: declined.map(card_error),
            created: attempt.created,
            canceled_at: None,
            livemode: false,
        }
    }
}

impl<'a> From<&'a Intent> for IntentView<'a> {
    fn from(intent: &'a Intent) -> Self {
        let view = Self::from(&intent.attempt);
        let status = if intent.canceled_at.is_some() {
            "canceled"
        } else {
            view.status
        };
        Self {
            status,
            canceled_at: intent.canceled_at,
            ..view
        }
    }
}

fn card_error(decline_code: &'static str) -> ErrorBody {
    let message = match decline_code {
        "insufficient_funds" => "Your card has insufficient funds.",
        _ => "Your card was declined.",
    };
    ErrorBody {
        kind: "card_error",
        code: Some("card_declined"),
        decline_code: Some(decline_code),
        message: message.to_owned(),
        param: None,
    }
}

/// The answer to the request that made this attempt, whatever has happened to the payment since.
pub(crate) fn attempted(attempt: &Attempt) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Declined<'a> {
        error: DeclinedError<'a>,
    }
    #[derive(Serialize)]
    struct DeclinedError<'a> {
        #[serde(flatten)]
        error: ErrorBody,
        payment_intent: IntentView<'a>,
    }
    let payment_intent = IntentView::from(attempt);
    match attempt.payment_method.decline_code().map(card_error) {
        None => Reply::json(StatusCode::OK, &payment_intent),
        Some(error) => Reply::json(
            StatusCode::PAYMENT_REQUIRED,
            &Declined {
                error: DeclinedError { error, payment_intent },
            },
        ),
    }
}

/// The payment as it is now.
pub(crate) fn intent(intent: &Intent) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &IntentView::from(intent))
}

/// A refund; it never changes.
pub(crate) fn refund(refund: &Refund, currency: Currency) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct RefundView<'a> {
        id: Tagged,
        object: &'static str,
        amount: i64,
        charge: Tagged,
        payment_intent: Tagged,
        currency: Currency,
        metadata: &'a Metadata,
        created: u64,
        status: &'static str,
    }
    let view = RefundView {
        id: Tagged("re", refund.id),
        object: "refund",
        amount: refund.amount,
        charge: Tagged("ch", refund.payment_intent),
        payment_intent: Tagged("pi", refund.payment_intent),
        currency,
        metadata: &refund.metadata,
        created: refund.created,
        status: "succeeded",
    };
    Reply::json(StatusCode::OK, &view)
}

/// The payments that a search found.
pub(crate) fn found<'a>(intents: impl Iterator<Item = &'a Intent>) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Found<'a> {
        object: &'static str,
        url: &'static str,
        has_more: bool,
        next_page: Option<&'static str>,
        data: Vec<IntentView<'a>>,
    }
    let data = intents.map(IntentView::from).collect();
    let url = "/v1/payment_intents/search";
    Reply::json(
        StatusCode::OK,
        &Found {
            object: "search_result",
            url,
            has_more: false,
            next_page: None,
            data,
        },
    )
}

/// A line of the gateway's own book: money that was really taken.
#[derive(Serialize)]
pub(crate) struct ChargeView<'a> {
    id: Tagged,
    object: &'static str,
    payment_intent: Tagged,
    idempotency_key: Option<&'a str>,
    order_id: Option<&'a str>,
    amount: i64,
    /// In minor units, where Stripe has a flag.
    refunded: i64,
    currency: Currency,
    status: &'static str,
    created: u64,
}

impl<'a> From<&'a Intent> for ChargeView<'a> {
    fn from(Intent { attempt, refunded, .. }: &'a Intent) -> Self {
        Self {
            id: Tagged("ch", attempt.id),
            object: "charge",
            payment_intent: Tagged("pi", attempt.id),
            idempotency_key: attempt.claim.as_ref().map(|claim| &*claim.key),
            order_id: attempt.metadata.order_id.as_deref(),
            amount: attempt.amount,
            refunded: *refunded,
            currency: attempt.currency,
            status: "succeeded",
            created: attempt.created,
        }
    }
}
