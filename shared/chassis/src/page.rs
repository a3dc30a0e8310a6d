//! Keyset pages: a cursor names the last item seen, so pages stay right while items are added.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{ApiError, FieldError, Json};

/// What a client asks of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageRequest {
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// A limit as it stands in a query string that asks for more than a page.
    pub fn of(limit: Option<&str>) -> Result<Self, ApiError> {
        let limit = limit.map(str::parse).transpose().map_err(|_| refused())?;
        Ok(Self { limit, cursor: None })
    }

    /// 20 by default, 100 at most.
    pub fn limit(&self) -> Result<i64, ApiError> {
        match self.limit.unwrap_or(20) {
            limit @ 1..=100 => Ok(limit),
            _ => Err(ApiError::invalid(vec![FieldError::new(
                "limit",
                "must be between 1 and 100",
            )])),
        }
    }
}

fn refused() -> ApiError {
    ApiError::invalid(vec![FieldError::new("limit", "must be between 1 and 100")])
}

/// One page, and where the next one starts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    items: Vec<T>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
    #[serde(skip)]
    next: Option<String>,
}

impl<T> Page<T> {
    /// Takes up to `limit` of the items; `items` must hold one more when there is a next page.
    pub fn new(mut items: Vec<T>, limit: i64, uri: &Uri, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() as i64 > limit;
        items.truncate(limit as usize);
        let next_cursor = items.last().filter(|_| more).map(cursor);
        let next = next_cursor.as_deref().map(|cursor| link(uri, cursor));
        Self {
            items,
            next_cursor,
            next,
        }
    }
}

/// The same request with another cursor.
fn link(uri: &Uri, cursor: &str) -> String {
    let kept = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.next.as_deref().and_then(|next| HeaderValue::from_str(next).ok());
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next() {
        let uri: Uri = "/v1/orders?limit=2&cursor=a&status=PENDING".parse().unwrap_or_default();
        let full = Page::new(vec!["b", "c", "d"], 2, &uri, |item| (*item).to_owned());
        assert_eq!((full.items.len(), full.next_cursor.as_deref()), (2, Some("c")));
        assert_eq!(
            full.next.as_deref(),
            Some("</v1/orders?limit=2&status=PENDING&cursor=c>; rel=\"next\"")
        );
        let last = Page::new(vec!["d"], 2, &uri, |item| (*item).to_owned());
        assert_eq!((last.next_cursor, last.next), (None, None));
    }
}
