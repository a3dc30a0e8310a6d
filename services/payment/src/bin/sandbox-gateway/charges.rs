//! The gateway's own book for auditors: every charge, streamed so that its length costs neither memory nor payments' time.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::book::Book;
use crate::call::Call;
use crate::clerk::Clerk;
use crate::refusal::Refusal;
use crate::views::ChargeView;

/// Charges written down between two other jobs of the clerk.
const CHUNK: usize = 1000;

/// What is still to be listed.
struct Listing {
    order_id: Option<String>,
    before: Option<u32>,
    /// Charges still wanted.
    left: usize,
    first: bool,
}

/// Lists the charges, newest first: all of them unless `limit`, `starting_after` or `order_id` say otherwise.
pub(crate) async fn list(State(clerk): State<Clerk>, call: Call) -> Result<Response, Refusal> {
    let left = match call.get("limit").map(str::parse) {
        None => usize::MAX,
        Some(Ok(limit @ 1..)) => limit,
        Some(_) => return Err(Refusal::invalid("Invalid positive integer").param("limit")),
    };
    let order_id = call.get("order_id").map(str::to_owned);
    let before = match call.get("starting_after").map(str::to_owned) {
        None => None,
        Some(id) => Some(
            clerk
                .ask(move |book| {
                    book.charge_position(&id)
                        .ok_or_else(|| Refusal::missing("charge", &id).param("starting_after"))
                })
                .await??,
        ),
    };
    let listing = Listing {
        order_id,
        before,
        left,
        first: true,
    };
    let body = stream::unfold(Some(listing), move |listing| next_chunk(clerk.clone(), listing));
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

async fn next_chunk(clerk: Clerk, listing: Option<Listing>) -> Option<(io::Result<Vec<u8>>, Option<Listing>)> {
    let listing = listing?;
    let written = clerk.ask(move |book| listing.write(book)).await;
    Some(match written {
        Ok(Ok((chunk, rest))) => (Ok(chunk), rest),
        Ok(Err(_)) | Err(_) => (Err(io::Error::other("the book cannot be read")), None),
    })
}

impl Listing {
    /// Writes the next charges, and the frame around them where it begins and ends.
    fn write(mut self, book: &Book) -> serde_json::Result<(Vec<u8>, Option<Self>)> {
        let mut chunk = Vec::new();
        if self.first {
            chunk.extend_from_slice(br#"{"object":"list","url":"/v1/charges","data":["#);
        }
        let mut charges = book
            .newest_first(self.order_id.as_deref(), self.before)
            .filter(|(_, intent)| intent.charged() > 0)
            .peekable();
        for (position, intent) in charges.by_ref().take(self.left.min(CHUNK)) {
            if !std::mem::take(&mut self.first) {
                chunk.push(b',');
            }
            serde_json::to_writer(&mut chunk, &ChargeView::from(intent))?;
            self.before = Some(position);
            self.left -= 1;
        }
        let has_more = charges.peek().is_some();
        drop(charges);
        if has_more && self.left > 0 {
            return Ok((chunk, Some(self)));
        }
        chunk.extend_from_slice(if has_more {
            br#"],"has_more":true}"#
        } else {
            br#"],"has_more":false}"#
        });
        Ok((chunk, None))
    }
}
