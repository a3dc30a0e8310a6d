//! Entity tags: a version, so that clients can ask "changed since?" and say "only if unchanged".

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The strong entity tag of something with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag(pub i64);

impl ETag {
    /// Whether `If-None-Match` names this version, so that 304 is the answer.
    pub fn is_known_to(self, headers: &HeaderMap) -> bool {
        self.is_in(headers, header::IF_NONE_MATCH)
    }

    /// Whether `If-Match`, when sent, names this version.
    pub fn permits(self, headers: &HeaderMap) -> bool {
        !headers.contains_key(header::IF_MATCH) || self.is_in(headers, header::IF_MATCH)
    }

    /// The header that goes with the answer.
    pub fn header(self) -> (HeaderName, HeaderValue) {
        let value = HeaderValue::from_str(&self.text()).unwrap_or(HeaderValue::from_static("\"\""));
        (header::ETAG, value)
    }

    fn text(self) -> String {
        format!("\"{}\"", self.0)
    }

    fn is_in(self, headers: &HeaderMap, name: HeaderName) -> bool {
        let own = self.text();
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_recognised_in_a_list_weak_or_strong() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"1\", W/\"7\""));
        assert!(ETag(7).is_known_to(&headers));
        assert!(!ETag(2).is_known_to(&headers));
        assert!(ETag(2).permits(&headers), "no If-Match means no condition");
    }
}
