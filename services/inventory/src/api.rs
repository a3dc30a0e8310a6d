//! HTTP in: the catalogue, its stock, and the check that the order service makes while a client waits.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use chassis::{ApiError, ETag, FieldError, Json, Page, PageRequest, Path, Query};
use either::Either::{Left, Right};
use messaging::{Db, Decisions, Touched};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{Article, News, Product, Refusal, Stock};
use crate::store;

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
    /// For changing.
    pub decisions: Decisions<Stock>,
}

/// The routes of the inventory service.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/products", get(list_products))
        .route("/v1/products/{sku}", get(show_product).put(put_product))
        .route("/v1/products/{sku}/stock", post(adjust_stock))
        .route("/v1/stock-checks", post(check_stock))
        .route("/v1/reservations/{order_id}", get(show_reservation))
        .with_state(app)
}

/// A product as outsiders see it.
#[derive(Debug, Serialize)]
struct ProductView {
    sku: String,
    name: String,
    price: i64,
    currency: String,
    on_hand: i64,
    reserved: i64,
    available: i64,
}

impl From<&Article> for ProductView {
    fn from(article: &Article) -> Self {
        let Product {
            sku,
            name,
            price,
            currency,
        } = article.product.clone();
        let Article { on_hand, reserved, .. } = *article;
        Self {
            sku,
            name,
            price,
            currency,
            on_hand,
            reserved,
            available: article.available(),
        }
    }
}

async fn list_products(
    State(app): State<App>,
    Query(page): Query<PageRequest>,
    uri: Uri,
) -> Result<Page<ProductView>, ApiError> {
    let limit = page.limit()?;
    let articles = store::catalogue(app.db.pool(), page.cursor.as_deref(), limit + 1).await?;
    let items = articles.iter().map(ProductView::from).collect();
    Ok(Page::new(items, limit, &uri, |product: &ProductView| {
        product.sku.clone()
    }))
}

/// The entity tag is the version of the description; stock moves too often to be part of it.
async fn show_product(State(app): State<App>, Path(sku): Path<String>) -> Result<impl IntoResponse, ApiError> {
    let found = store::articles(app.db.pool(), &[sku]).await?;
    let article = found.first().ok_or_else(unknown_sku)?;
    Ok(([ETag(article.version).header()], Json(ProductView::from(article))))
}

/// The description of a product, as a client puts it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    price: i64,
    currency: String,
}

/// Lists a product, or changes its description if `If-Match` permits.
async fn put_product(
    State(app): State<App>,
    Path(sku): Path<String>,
    headers: HeaderMap,
    Json(Description { name, price, currency }): Json<Description>,
) -> Result<impl IntoResponse, ApiError> {
    let product = Product {
        sku: sku.clone(),
        name,
        price,
        currency,
    };
    let refused = faults(&product);
    if !refused.is_empty() {
        return Err(ApiError::invalid(refused));
    }
    let permitted = move |version: Option<i64>| match version {
        Some(version) => ETag(version).permits(&headers),
        None => !headers.contains_key(header::IF_MATCH),
    };
    let decide = move |stock: &mut Stock| match stock.describe(product.clone(), &permitted) {
        Err(refusal) => (Err(refusal), None),
        Ok(described) => {
            let article = described.article;
            let event = match described.news {
                News::Nothing => None,
                News::Listed => Some(Left(article.listed())),
                News::Changed => Some(Right(article.price_changed())),
            };
            let answer = (described.news, ProductView::from(&*article), article.version);
            (Ok(answer), event)
        }
    };
    let (news, view, version) = app
        .decisions
        .decide(Touched::key(sku), decide)
        .await?
        .map_err(refused_wish)?;
    let status = if news == News::Listed {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, [ETag(version).header()], Json(view)))
}

/// The fields of a description that are refused, with the reason.
fn faults(product: &Product) -> Vec<FieldError> {
    let Product {
        sku,
        name,
        price,
        currency,
    } = product;
    let sku_ok = (1..=64).contains(&sku.len()) && sku.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let checks = [
        (sku_ok, "sku", "must be 1 to 64 letters, digits, '-', '_' or '.'"),
        (is_text(name), "name", "must be 1 to 200 characters on one line"),
        (
            (1..=100_000_000).contains(price),
            "price",
            "must be between 1 and 100000000 minor units",
        ),
        (
            currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()),
            "currency",
            "must be an ISO 4217 code",
        ),
    ];
    let refused = checks.into_iter().filter(|(legal, ..)| !legal);
    refused
        .map(|(_, field, reason)| FieldError::new(field, reason))
        .collect()
}

fn is_text(text: &str) -> bool {
    (1..=200).contains(&text.trim().chars().count()) && !text.chars().any(char::is_control)
}

/// Pieces that came or went by hand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjustment {
    delta: i64,
    reason: String,
}

async fn adjust_stock(
    State(app): State<App>,
    Path(sku): Path<String>,
    Json(Adjustment { delta, reason }): Json<Adjustment>,
) -> Result<Json<ProductView>, ApiError> {
    if !(1..=1_000_000_000).contains(&delta.unsigned_abs()) {
        return Err(ApiError::invalid(vec![FieldError::new(
            "delta",
            "must be between ±1 and ±1000000000",
        )]));
    }
    if !is_text(&reason) {
        return Err(ApiError::invalid(vec![FieldError::new(
            "reason",
            "must be 1 to 200 characters on one line",
        )]));
    }
    let touched = Touched::key(sku.clone());
    let decide = move |stock: &mut Stock| (stock.adjust(&sku, delta, &reason).map(ProductView::from), ());
    Ok(Json(
        app.decisions.decide(touched, decide).await?.map_err(refused_wish)?,
    ))
}

fn unknown_sku() -> ApiError {
    ApiError::not_found("there is no product with this sku")
}

fn refused_wish(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::UnknownSku => unknown_sku(),
        Refusal::TooFew { available } => ApiError::conflict(
            "too-few-in-stock",
            format!("only {available} pieces are neither sold nor held"),
        ),
        Refusal::ChangedMeanwhile => ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            "changed-meanwhile",
            "the product is not the one that If-Match names",
        ),
    }
}

/// What somebody would like to order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StockCheck {
    lines: Vec<WantedLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedLine {
    sku: String,
    quantity: i64,
}

/// Prices and availability of the skus that exist; nothing is held.
#[derive(Debug, Serialize)]
struct StockCheckView {
    items: Vec<CheckedLine>,
}

#[derive(Debug, Serialize)]
struct CheckedLine {
    sku: String,
    name: String,
    price: i64,
    currency: String,
    available: i64,
    sufficient: bool,
}

async fn check_stock(
    State(app): State<App>,
    Json(StockCheck { lines }): Json<StockCheck>,
) -> Result<Json<StockCheckView>, ApiError> {
    if lines.is_empty() || lines.len() > 100 {
        return Err(ApiError::invalid(vec![FieldError::new(
            "lines",
            "must be 1 to 100 lines",
        )]));
    }
    let many = lines.iter().position(|line| !(1..=1_000_000).contains(&line.quantity));
    if let Some(index) = many {
        let field = format!("lines[{index}].quantity");
        return Err(ApiError::invalid(vec![FieldError::new(
            field,
            "must be between 1 and 1000000",
        )]));
    }
    let skus: Vec<String> = lines.iter().map(|line| line.sku.clone()).collect();
    let articles = store::articles(app.db.pool(), &skus).await?;
    let wanted = |sku: &str| {
        lines
            .iter()
            .filter(|line| line.sku == sku)
            .map(|line| line.quantity)
            .sum::<i64>()
    };
    let checked = |article: Article| {
        let available = article.available();
        let Product {
            sku,
            name,
            price,
            currency,
        } = article.product;
        CheckedLine {
            sufficient: wanted(&sku) <= available,
            sku,
            name,
            price,
            currency,
            available,
        }
    };
    Ok(Json(StockCheckView {
        items: articles.into_iter().map(checked).collect(),
    }))
}

/// A reservation as outsiders see it.
#[derive(Debug, Serialize)]
struct ReservationView {
    order_id: Uuid,
    reservation_id: Uuid,
    state: &'static str,
    lines: Vec<events::Line>,
}

async fn show_reservation(
    State(app): State<App>,
    Path(order_id): Path<Uuid>,
) -> Result<Json<ReservationView>, ApiError> {
    let found = store::reservation(app.db.pool(), order_id).await?;
    let reservation = found.ok_or_else(|| ApiError::not_found("nothing was ever asked of us for this order"))?;
    let (reservation_id, state, lines) = (
        reservation.reservation_id,
        reservation.state.as_str(),
        reservation.lines,
    );
    Ok(Json(ReservationView {
        order_id,
        reservation_id,
        state,
        lines,
    }))
}
