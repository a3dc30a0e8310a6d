//! Placing an order: validate, price, save it pending with its event and its answer, and answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chassis::{ApiError, ETag, FieldError, IdempotencyKey, Json};
use messaging::Touched;
use uuid::Uuid;

use super::App;
use super::views::OrderView;
use crate::domain::{Answer, Offer, Order, Orders, Refused, StockCheck, Wish};
use crate::store;

/// Takes an order; the rest of the saga is asynchronous.
///
/// Under an `Idempotency-Key` a request can be repeated for a day and places one order: each repetition gets the
/// answer of the first. Keys are per customer. A refusal is not kept: the same key can be used again after it.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", operation_id = "place_order",
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
        description = "Bare or as a quoted string.", example = "4f2c8ca0-1c5c-4b9e-8f0a-2b1d6c7e9a11",
    )),
    request_body(content = Wish, example = json!({
        "customer": { "id": "0198a8a0-0000-7000-8000-000000000001", "email": "ada@example.com" },
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 2 }],
        "ship_to": { "name": "Ada Lovelace", "street": "12 St James's Square", "city": "London",
                     "postal_code": "SW1Y", "country": "GB" },
        "payment_method": "pm_card_visa",
    })),
    responses((status = 201, description = "The order, pending.", body = OrderView, headers(
        ("Location" = String, description = "Where the order is."),
        ("ETag" = String, description = "The version of the order."),
        ("Idempotent-Replayed" = Option<String>, description = "`true` when this was answered before."),
    ))),
    extensions(("x-problems" = json!([
        "out-of-stock", "idempotency-key-in-flight", "idempotency-key-reused", "invalid-request",
    ]))),
)]
pub(super) async fn place_order(
    State(app): State<Arc<App>>,
    key: Option<IdempotencyKey>,
    Json(wish): Json<Wish>,
) -> Result<Response, ApiError> {
    refuse(wish.faults())?;
    let key = key.map(|key| Key::of(&wish, &key)).transpose()?;
    if let Some(key) = &key
        && let Some(answer) = store::answer(app.db.pool(), &key.scope).await?
    {
        return key.replay(&answer);
    }
    let _claim = match &key {
        Some(key) => Some(app.in_flight.claim(&key.scope).await?),
        None => None,
    };
    let (offers, stock_check) = offers(&app, &wish).await?;
    let priced = wish
        .price(&offers)
        .map_err(|faults| ApiError::invalid(fields(faults)))?;
    let (id, trace, pay_within) = (Uuid::now_v7(), telemetry::current(), app.pay_within);

    let touched = Touched::order(id);
    let touched = key
        .iter()
        .fold(touched, |touched, key| touched.and_key(key.scope.clone()));
    let used = key.clone();
    let place = move |orders: &mut Orders| {
        // Somebody with the same key may have been faster: the same answer, nothing new.
        if let Some(answer) = used.as_ref().and_then(|key| orders.answers.get(&key.scope)) {
            return (Placed::Before(answer.clone()), None);
        }
        let placing = (id, orders.now, pay_within);
        let order = Order::place(&wish, priced.clone(), stock_check, trace.clone(), placing);
        let body = serde_json::to_string(&OrderView::of(&order)).unwrap_or_default();
        if let Some(Key { scope, fingerprint }) = used.clone() {
            let answer = Answer {
                fingerprint,
                order_id: id,
                status: 201,
                body: body.clone(),
                fresh: true,
            };
            orders.answers.insert(scope, answer);
        }
        let event = order.placed();
        orders.orders.insert(id, order);
        (Placed::Now(body), Some(event))
    };
    match (app.decisions.decide(touched, place).await?, key) {
        (Placed::Now(body), _) => Ok(created(id, body)),
        (Placed::Before(answer), Some(key)) => key.replay(&answer),
        (Placed::Before(_), None) => Err(ApiError::internal("an answer without a key")),
    }
}

enum Placed {
    Now(String),
    Before(Answer),
}

/// An idempotency key in the scope of its customer, with what it was used for.
#[derive(Clone)]
struct Key {
    scope: String,
    fingerprint: Uuid,
}

impl Key {
    /// Two bodies that mean the same have one fingerprint, however they are formatted and whichever version of this
    /// service took them: it is a hash of their JSON with sorted names.
    fn of(wish: &Wish, key: &IdempotencyKey) -> Result<Self, ApiError> {
        let mut meaning =
            serde_json::to_value(wish).map_err(|error| ApiError::internal(format!("no fingerprint: {error}")))?;
        meaning.sort_all_objects();
        Ok(Self {
            scope: format!("{}:{}", wish.customer.id, key.0),
            fingerprint: Uuid::new_v5(&Uuid::NAMESPACE_OID, meaning.to_string().as_bytes()),
        })
    }

    fn replay(&self, answer: &Answer) -> Result<Response, ApiError> {
        if answer.fingerprint != self.fingerprint {
            let reason = "was used before with another body";
            let errors = vec![FieldError::new("Idempotency-Key", reason)];
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(ApiError::new(status, "idempotency-key-reused", reason).with_errors(errors));
        }
        let mut response = created(answer.order_id, answer.body.clone());
        response
            .headers_mut()
            .insert("idempotent-replayed", HeaderValue::from_static("true"));
        Ok(response)
    }
}

fn created(id: Uuid, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::LOCATION, format!("/v1/orders/{id}")),
    ];
    (StatusCode::CREATED, [ETag(1).header()], headers, body).into_response()
}

/// Prices from inventory, or from the local copy of its catalogue when it does not answer in time.
async fn offers(app: &App, wish: &Wish) -> Result<(BTreeMap<String, Offer>, StockCheck), ApiError> {
    if let Some(offers) = app.inventory.offers(&wish.lines).await {
        let short = shortages(wish, &offers);
        if !short.is_empty() {
            let detail = "there is not enough of everything in stock";
            return Err(ApiError::conflict("out-of-stock", detail).with_errors(short));
        }
        return Ok((offers, StockCheck::Passed));
    }
    let skus: Vec<String> = wish.lines.iter().map(|line| line.sku.clone()).collect();
    let offers = store::catalogue(app.db.pool(), &skus).await?;
    if offers.is_empty() {
        return Err(ApiError::unavailable("prices cannot be looked up now, try again"));
    }
    Ok((offers, StockCheck::Skipped))
}

/// The lines that ask for more than there is; the same article may stand in several.
fn shortages(wish: &Wish, offers: &BTreeMap<String, Offer>) -> Vec<FieldError> {
    let wanted = |sku: &str| {
        wish.lines
            .iter()
            .filter(|line| line.sku == sku)
            .map(|line| line.quantity)
            .sum::<i64>()
    };
    let lines = wish.lines.iter().enumerate();
    let short = lines.filter_map(|(index, line)| {
        let offer = offers
            .get(&line.sku)
            .filter(|offer| offer.available < wanted(&line.sku))?;
        Some(FieldError::new(
            format!("lines[{index}].quantity"),
            format!("only {} available", offer.available.max(0)),
        ))
    });
    short.collect()
}

fn refuse(faults: Vec<Refused>) -> Result<(), ApiError> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(fields(faults)))
    }
}

fn fields(faults: Vec<Refused>) -> Vec<FieldError> {
    faults
        .into_iter()
        .map(|Refused { field, reason }| FieldError { field, reason })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A client that repeats a request during a deployment must get its answer, so this value may never change.
    #[test]
    fn a_fingerprint_is_the_same_in_every_version_and_however_the_body_is_formatted() {
        let bodies = [
            r#"{"customer":{"id":"0198a8a0-0000-7000-8000-000000000001","email":"ada@example.com"},
                "lines":[{"sku":"tea","quantity":2}],"payment_method":"pm_card_visa",
                "ship_to":{"name":"Ada","street":"1 Main St","city":"London","postal_code":"N1","country":"GB"}}"#,
            r#"{"ship_to":{"country":"GB","city":"London","postal_code":"N1","name":"Ada","street":"1 Main St"},
                "payment_method":"pm_card_visa","currency":null,"lines":[{"quantity":2,"sku":"tea"}],
                "customer":{"email":"ada@example.com","id":"0198a8a0-0000-7000-8000-000000000001"}}"#,
        ];
        for body in bodies {
            let key = Key::of(&serde_json::from_str(body).unwrap(), &IdempotencyKey("k".into())).unwrap();
            assert_eq!(key.fingerprint.to_string(), "f76272eb-97e2-5b81-ad81-8f970fb4cfea");
            assert_eq!(key.scope, "0198a8a0-0000-7000-8000-000000000001:k");
        }
    }
}
