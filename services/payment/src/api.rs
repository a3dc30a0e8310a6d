//! HTTP in: payments and the ledger for those who look, and the gateway's notices.

mod refunds;
mod webhook;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use chassis::{ApiError, FieldError, Json, Page, PageRequest, Path, Query, openapi};
use chrono::{DateTime, Utc};
use messaging::{Db, Decisions};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
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

/// What the service is for, as its document says.
const ABOUT: &str = "Takes money and gives it back, once; keeps the books.";

/// The routes of the payment service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("payment", ABOUT, documented(), app)
}

/// The document of the payment service.
pub fn document() -> Value {
    openapi::document("payment", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show_payment))
        .routes(routes!(list_ledger))
        .routes(routes!(show_balance))
        .routes(routes!(webhook::hear))
        .merge(refunds::routes())
}

/// A payment as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentView {
    order_id: Uuid,
    payment_id: Uuid,
    state: &'static str,
    /// What the order costs, in minor units.
    amount: i64,
    /// What was taken.
    captured: i64,
    /// What was given back.
    refunded: i64,
    /// None when it was undone before it was asked for.
    currency: Option<String>,
    attempts: i32,
    refund_attempts: i32,
    /// Why the last attempt did not settle it; it is tried again.
    trouble: Option<String>,
    /// What goes back, or went back, for returns.
    refunds: Vec<refunds::RefundView>,
    /// What happened to it, oldest first: the name of each event and what it says.
    #[schema(value_type = Vec<Object>)]
    events: Value,
}

/// The payment of an order, with everything that happened to it.
#[utoipa::path(
    get, path = "/v1/payments/{order_id}", tag = "payments",
    params(("order_id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "The payment.", body = PaymentView)),
)]
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
#[derive(Debug, Serialize, ToSchema)]
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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OfOrder {
    /// Of this order only.
    order_id: Option<Uuid>,
}

/// The ledger, oldest first; each transaction has two sides or more.
#[utoipa::path(
    get, path = "/v1/ledger", tag = "ledger", params(PageRequest, OfOrder),
    responses((status = 200, description = "A page of the ledger.", body = Page<LedgerView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
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
#[derive(Debug, Serialize, ToSchema)]
struct BalanceView {
    debit: i64,
    credit: i64,
}

/// The whole ledger summed up.
#[utoipa::path(
    get, path = "/v1/ledger/balance", tag = "ledger",
    responses((status = 200, description = "Both sides; they are equal.", body = BalanceView)),
)]
async fn show_balance(State(app): State<App>) -> Result<Json<BalanceView>, ApiError> {
    let (debit, credit) = store::balance(app.db.pool()).await?;
    Ok(Json(BalanceView { debit, credit }))
}
