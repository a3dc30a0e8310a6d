//! HTTP in: which messages were sent, and to whom.

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use chassis::{ApiError, FieldError, Page, PageRequest, Query, openapi};
use chrono::{DateTime, Utc};
use messaging::Db;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::store::{self, MessageRow};

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
}

/// What the service is for, as its document says.
const ABOUT: &str = "Tells customers how their orders are, once each.";

/// The routes of the email service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("email", ABOUT, documented(), app)
}

/// The document of the email service.
pub fn document() -> Value {
    openapi::document("email", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_messages))
}

/// A message as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
struct MessageView {
    order_id: Uuid,
    template: String,
    /// The return that it is about, if any.
    return_id: Option<String>,
    /// None until the recipient is known.
    to: Option<String>,
    message_id: String,
    state: String,
    /// None until the mail server took it.
    sent_at: Option<DateTime<Utc>>,
}

impl From<MessageRow> for MessageView {
    fn from(row: MessageRow) -> Self {
        let MessageRow {
            order_id,
            topic,
            email,
            message_id,
            state,
            sent_at,
        } = row;
        let (template, return_id) = match topic.split_once(':') {
            Some((template, return_id)) => (template.to_owned(), Some(return_id.to_owned())),
            None => (topic, None),
        };
        Self {
            order_id,
            template,
            return_id,
            to: email,
            message_id,
            state,
            sent_at,
        }
    }
}

/// Which messages are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// About this order only.
    order_id: Option<Uuid>,
}

/// Messages, those of the newest orders first.
#[utoipa::path(
    get, path = "/v1/messages", tag = "messages", params(Filter, PageRequest),
    responses((status = 200, description = "A page of messages.", body = Page<MessageView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
async fn list_messages(
    State(app): State<App>,
    Query(filter): Query<Filter>,
    Query(page): Query<PageRequest>,
    uri: Uri,
) -> Result<Page<MessageView>, ApiError> {
    let limit = page.limit()?;
    let after = page.cursor.as_deref().map(place).transpose()?;
    let rows = store::messages(app.db.pool(), filter.order_id, after, limit + 1).await?;
    let items = rows.into_iter().map(MessageView::from).collect();
    Ok(Page::new(items, limit, &uri, |message: &MessageView| {
        let about = message
            .return_id
            .as_ref()
            .map_or_else(String::new, |return_id| format!(":{return_id}"));
        format!("{}.{}{about}", message.order_id, message.template)
    }))
}

/// The message that a cursor names.
fn place(cursor: &str) -> Result<(Uuid, &str), ApiError> {
    let parts = cursor.split_once('.');
    let place = parts.and_then(|(order_id, template)| Some((order_id.parse().ok()?, template)));
    place.ok_or_else(|| {
        ApiError::invalid(vec![FieldError::new(
            "cursor",
            "must be the next_cursor of another page",
        )])
    })
}
