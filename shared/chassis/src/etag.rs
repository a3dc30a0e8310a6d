//! Entity tags: a version, so that clients can ask "changed since?" and say "only if unchanged".

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The strong entity tag of something with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag(pub i64);

impl ETag {
    /// Whether `If-None-Match` names this version, so that 304 is the answer.
    pub fn is_known_to(self, headers: &HeaderMap) -> bool {
        is_known(&self.text(), headers)
    }

    /// The header that goes with the answer.
    pub fn header(self) -> (HeaderName, HeaderValue) {
        tag(&self.text())
    }

    fn text(self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// The strong entity tag of something whose description has a version, and that shows what changes without it.
///
/// It differs whenever the answer does. A client that wants to replace the description need only have seen its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovingETag {
    /// The version of the description.
    pub version: i64,
    /// What else is shown.
    pub shown: [i64; 2],
}

impl MovingETag {
    /// Whether `If-None-Match` names what would be answered, so that 304 is the answer.
    pub fn is_known_to(self, headers: &HeaderMap) -> bool {
        is_known(&self.text(), headers)
    }

    /// The header that goes with the answer.
    pub fn header(self) -> (HeaderName, HeaderValue) {
        tag(&self.text())
    }

    /// Whether the conditions of a client that wants to replace the description hold: `If-Match`, when sent, names its
    /// version, and `If-None-Match: *` is only sent for what does not exist.
    pub fn permits(version: Option<i64>, headers: &HeaderMap) -> bool {
        // A weak tag never matches here (RFC 9110, 13.1.1).
        let names = |tag: &str| match (tag, version) {
            (_, None) => false,
            ("*", Some(_)) => true,
            (tag, Some(version)) => {
                let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let first = inner.and_then(|inner| inner.split('.').next());
                first == Some(version.to_string().as_str())
            }
        };
        let matches = !headers.contains_key(header::IF_MATCH) || tags(headers, header::IF_MATCH).any(names);
        matches && (version.is_none() || !tags(headers, header::IF_NONE_MATCH).any(|tag| tag == "*"))
    }

    fn text(self) -> String {
        let [first, second] = self.shown;
        format!("\"{}.{first}.{second}\"", self.version)
    }
}

fn tag(text: &str) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("\"\""));
    (header::ETAG, value)
}

fn is_known(own: &str, headers: &HeaderMap) -> bool {
    tags(headers, header::IF_NONE_MATCH).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
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
    }

    #[test]
    fn a_description_may_be_replaced_by_whoever_has_seen_its_version() {
        let permits = |name: HeaderName, value: &'static str, version| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            MovingETag::permits(version, &headers)
        };
        assert!(MovingETag::permits(Some(2), &HeaderMap::new()), "no condition");
        assert!(permits(header::IF_MATCH, "\"2.7.0\"", Some(2)), "stock may move");
        assert!(permits(header::IF_MATCH, "\"1\", \"2\"", Some(2)));
        assert!(permits(header::IF_MATCH, "*", Some(2)));
        assert!(!permits(header::IF_MATCH, "*", None));
        assert!(!permits(header::IF_MATCH, "\"1.7.0\"", Some(2)));
        assert!(
            !permits(header::IF_MATCH, "W/\"2.7.0\"", Some(2)),
            "weak tags never match"
        );
        assert!(permits(header::IF_NONE_MATCH, "*", None));
        assert!(!permits(header::IF_NONE_MATCH, "*", Some(2)));
    }
}
