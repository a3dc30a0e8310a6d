//! HTTP in: payments and the ledger for those who look, and the gateway's notices.

mod refunds;
mod webhook;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::{get, post};
use chassis::{ApiError, FieldError, Json, Page, PageRequest, Path, Query};
use chrono::{DateTime, Utc};
use messaging::{Db, Decisions};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Payments;
use crate::store::{self, LedgerRow};

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
    /// For changing.
    pub decisions: Decisions<Payments>,
    /// With which the gateway signs its notices.
    pub webhook_secret: SecretString,
}

/// The routes of the payment service.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/payments/{order_id}", get(show_payment))
        .route("/v1/ledger", get(list_ledger))
        .route("/v1/ledger/balance", get(show_balance))
        .route("/v1/webhooks/gateway", post(webhook::hear))
        .merge(refunds::routes())
        .with_state(app)
}

/// A payment as outsiders see it.
#[derive(Debug, Serialize)]
struct PaymentView {
    order_id: Uuid,
    payment_id: Uuid,
    state: &'static str,
    amount: i64,
    captured: i64,
    refunded: i64,
    /// None when it was undone before it was asked for.
    currency: Option<String>,
    attempts: i32,
    refund_attempts: i32,
    /// Why the last attempt did not settle it; it is tried again.
    trouble: Option<String>,
    /// What goes back, or went back, for returns.
    refunds: Vec<refunds::RefundView>,
    events: serde_json::Value,
}

async fn show_payment(State(app): State<App>, Path(order_id): Path<Uuid>) -> Result<Json<PaymentView>, ApiError> {
    let found = store::payment(app.db.pool(), order_id).await?;
    let (payment, events) = found.ok_or_else(|| ApiError::not_found("nothing was ever asked of us for this order"))?;
    let refunds = store::return_refunds(app.db.pool(), order_id).await?;
    Ok(Json(PaymentView {
        order_id,
        payment_id: payment.payment_id,
        state: payment.state.as_str(),
        amount: payment.amount,
        captured: payment.captured,
        refunded: payment.refunded,
        currency: Some(payment.currency).filter(|currency| !currency.is_empty()),
        attempts: payment.progress.attempts,
        refund_attempts: payment.progress.refund_attempts,
        trouble: payment.progress.trouble,
        refunds: refunds.into_iter().map(refunds::RefundView::from).collect(),
        events,
    }))
}

/// One side of a transaction as outsiders see it.
#[derive(Debug, Serialize)]
struct LedgerView {
    #[serde(skip)]
    id: i64,
    transaction_id: Uuid,
    account: String,
    debit: i64,
    credit: i64,
    order_id: Uuid,
    at: DateTime<Utc>,
}

impl From<LedgerRow> for LedgerView {
    fn from(row: LedgerRow) -> Self {
        let LedgerRow {
            id,
            transaction_id,
            account,
            debit,
            credit,
            order_id,
            at,
        } = row;
        Self {
            id,
            transaction_id,
            account,
            debit,
            credit,
            order_id,
            at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct OfOrder {
    order_id: Option<Uuid>,
}

async fn list_ledger(
    State(app): State<App>,
    Query(page): Query<PageRequest>,
    Query(OfOrder { order_id }): Query<OfOrder>,
    uri: Uri,
) -> Result<Page<LedgerView>, ApiError> {
    let limit = page.limit()?;
    let foreign = |_| ApiError::invalid(vec![FieldError::new("cursor", "is not one of ours")]);
    let after = page.cursor.as_deref().map_or(Ok(0), str::parse).map_err(foreign)?;
    let rows = store::ledger(app.db.pool(), order_id, after, limit + 1).await?;
    let items = rows.into_iter().map(LedgerView::from).collect();
    Ok(Page::new(items, limit, &uri, |row: &LedgerView| row.id.to_string()))
}

/// The whole ledger summed up; the two are equal.
#[derive(Debug, Serialize)]
struct BalanceView {
    debit: i64,
    credit: i64,
}

async fn show_balance(State(app): State<App>) -> Result<Json<BalanceView>, ApiError> {
    let (debit, credit) = store::balance(app.db.pool()).await?;
    Ok(Json(BalanceView { debit, credit }))
}
