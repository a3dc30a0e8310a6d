//! HTTP in: the catalogue, its stock, and the check that the order service makes while a client waits.

mod views;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chassis::{ApiError, FieldError, Json, MovingETag, Page, PageRequest, Path, Query, openapi};
use either::Either::{Left, Right};
use messaging::{Db, Decisions, Touched};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::domain::{Article, News, Product, Refusal, Stock};
use crate::store;
use views::{Adjustment, CheckedLine, Description, ProductView, ReservationView, StockCheck, StockCheckView};

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
    /// For changing.
    pub decisions: Decisions<Stock>,
}

/// What the service is for, as its document says.
const ABOUT: &str = "Owns the products, their prices, and what is on the shelves.";

/// The routes of the inventory service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("inventory", ABOUT, documented(), app)
}

/// The document of the inventory service.
pub fn document() -> Value {
    openapi::document("inventory", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_products))
        .routes(routes!(show_product, put_product))
        .routes(routes!(adjust_stock))
        .routes(routes!(check_stock))
        .routes(routes!(show_reservation))
}

/// The catalogue, by sku.
#[utoipa::path(
    get, path = "/v1/products", tag = "products", params(PageRequest),
    responses((status = 200, description = "A page of products.", body = Page<ProductView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
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

/// A product and its stock as they are now.
///
/// The entity tag changes with both. To replace the description it is enough to have seen its last version.
#[utoipa::path(
    get, path = "/v1/products/{sku}", tag = "products",
    params(
        ("sku" = String, Path, description = "The article.", example = "TEA-ASSAM"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what is known already."),
    ),
    responses(
        (status = 200, description = "The product.", body = ProductView,
            headers(("ETag" = String, description = "The version of the description, and the stock."))),
        (status = 304, description = "It has not changed.",
            headers(("ETag" = String, description = "The version of the description, and the stock."))),
    ),
)]
async fn show_product(
    State(app): State<App>,
    Path(sku): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = store::articles(app.db.pool(), &[sku]).await?;
    let article = found.first().ok_or_else(unknown_sku)?;
    let tag = tag(article);
    if tag.is_known_to(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [tag.header()]).into_response());
    }
    Ok(([tag.header()], Json(ProductView::from(article))).into_response())
}

fn tag(article: &Article) -> MovingETag {
    MovingETag {
        version: article.version,
        shown: [article.on_hand, article.reserved],
    }
}

/// Lists a product, or changes its description if `If-Match` permits; without `If-Match` the last one wins.
#[utoipa::path(
    put, path = "/v1/products/{sku}", tag = "products",
    params(
        ("sku" = String, Path, description = "The article.", example = "TEA-ASSAM",
            pattern = "^[A-Za-z0-9._-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "Only if this `ETag` is of the description's last version."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is no such product."),
    ),
    request_body = Description,
    responses(
        (status = 200, description = "The product; changed, unless it was the same.", body = ProductView,
            headers(("ETag" = String, description = "The version of the description, and the stock."))),
        (status = 201, description = "The product, listed.", body = ProductView,
            headers(("ETag" = String, description = "The version of the description, and the stock."))),
    ),
    extensions(("x-problems" = json!(["changed-meanwhile"]))),
)]
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
    let permitted = move |version: Option<i64>| MovingETag::permits(version, &headers);
    let decide = move |stock: &mut Stock| match stock.describe(product.clone(), &permitted) {
        Err(refusal) => (Err(refusal), None),
        Ok(described) => {
            let article = described.article;
            let event = match described.news {
                News::Nothing => None,
                News::Listed => Some(Left(article.listed())),
                News::Changed => Some(Right(article.price_changed())),
            };
            let answer = (described.news, ProductView::from(&*article), tag(article));
            (Ok(answer), event)
        }
    };
    let (news, view, tag) = app
        .decisions
        .decide(Touched::key(sku), decide)
        .await?
        .map_err(refused_wish)?;
    let status = if news == News::Listed {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, [tag.header()], Json(view)))
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

/// Books pieces that came or went by hand.
#[utoipa::path(
    post, path = "/v1/products/{sku}/stock", tag = "products",
    params(("sku" = String, Path, description = "The article.", example = "TEA-ASSAM")),
    request_body = Adjustment,
    responses((status = 200, description = "The product with its new stock.", body = ProductView)),
    extensions(("x-problems" = json!(["too-few-in-stock"]))),
)]
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

/// Prices and availability of the articles that exist; nothing is held.
#[utoipa::path(
    post, path = "/v1/stock-checks", tag = "stock", request_body = StockCheck,
    responses((status = 200, description = "The articles that exist; others are left out.", body = StockCheckView)),
)]
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

/// What is held for an order.
#[utoipa::path(
    get, path = "/v1/reservations/{order_id}", tag = "stock",
    params(("order_id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "The reservation.", body = ReservationView)),
)]
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
