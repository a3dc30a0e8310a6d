//! HTTP in: which messages were sent, and to whom.

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use chassis::{ApiError, FieldError, Page, PageRequest, Query};
use chrono::{DateTime, Utc};
use messaging::Db;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{self, MessageRow};

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
}

/// The routes of the email service.
pub fn routes(app: App) -> Router {
    Router::new().route("/v1/messages", get(list_messages)).with_state(app)
}

/// A message as outsiders see it.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Deserialize)]
struct Filter {
    order_id: Option<Uuid>,
}

/// Newest orders first.
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
