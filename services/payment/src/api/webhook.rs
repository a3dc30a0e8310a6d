//! The gateway's notices, signed in Stripe's way. A notice is believed to be the gateway's, not to be true or in
//! time: all it does is to have the payment looked up now.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chassis::{ApiError, Json};
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use messaging::Touched;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use crate::domain::Payments;

/// How old a notice may be, in seconds; an older one may be a recording.
const TOLERANCE: i64 = 300;

/// What the gateway has to say.
#[derive(Deserialize, ToSchema)]
struct Notice {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize, ToSchema)]
struct Data {
    object: Object,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = NoticeObject)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize, ToSchema)]
struct Metadata {
    order_id: Option<Uuid>,
}

/// That it was heard.
#[derive(Serialize, ToSchema)]
pub(super) struct Received {
    received: bool,
}

/// Takes a notice of the gateway's; one that concerns no payment of ours is taken and forgotten.
#[utoipa::path(
    post, path = "/v1/webhooks/gateway", tag = "webhooks", operation_id = "hear_gateway",
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`: when it was signed, and the HMAC.")),
    request_body(content = Notice, description = "An event as Stripe sends it. Signed as it stands, so the type is not looked at."),
    responses((status = 200, description = "It was taken.", body = Received)),
    extensions(("x-problems" = json!(["invalid-signature", "malformed-request"]))),
)]
pub(super) async fn hear(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Json<Received>, ApiError> {
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    let secret = app.webhook_secret.expose_secret().as_bytes();
    if !signature.is_some_and(|signature| is_genuine(signature, &body, secret, Utc::now().timestamp())) {
        let detail = "the Stripe-Signature header is missing, does not fit the body, or is too old";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid-signature", detail));
    }
    let notice: Notice =
        serde_json::from_slice(&body).map_err(|_| ApiError::malformed("the body is not an event of the gateway's"))?;
    let telling = matches!(
        notice.kind.as_str(),
        "payment_intent.succeeded" | "payment_intent.payment_failed"
    );
    if let Some(order_id) = notice.data.object.metadata.order_id.filter(|_| telling) {
        let touched = Touched::order(order_id).and_key(&notice.id);
        let decide = move |payments: &mut Payments| (payments.notice(order_id, &notice.id), ());
        app.decisions.decide(touched, decide).await?;
    }
    Ok(Json(Received { received: true }))
}

/// Whether `t=…,v1=…` holds a signature of this body that is no older, or newer, than the tolerance.
fn is_genuine(header: &str, body: &[u8], secret: &[u8], now: i64) -> bool {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let Some(time) = parts().find_map(|(name, value)| (name == "t").then_some(value)) else {
        return false;
    };
    let fresh = time
        .parse()
        .is_ok_and(|time: i64| now.abs_diff(time) <= TOLERANCE.unsigned_abs());
    fresh && parts().any(|(name, value)| name == "v1" && signs(value, time, body, secret))
}

/// Compares in constant time.
fn signs(signature: &str, time: &str, body: &[u8], secret: &[u8]) -> bool {
    let Some((mut mac, signature)) = Hmac::<Sha256>::new_from_slice(secret).ok().zip(from_hex(signature)) else {
        return false;
    };
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = || {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
    };
    digits.then(bytes)?.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The answer of `printf '1700000000.{}' | openssl dgst -sha256 -hmac whsec_test`.
    const SIGNATURE: &str = "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";

    #[test]
    fn a_genuine_notice_is_recognised_beside_other_signatures() {
        let header = format!("t=1700000000,v0=00,v1=00,v1={SIGNATURE}");
        assert!(is_genuine(&header, b"{}", b"whsec_test", 1_700_000_300));
    }

    #[test]
    fn a_forged_changed_or_recorded_notice_is_not() {
        let header = format!("t=1700000000,v1={SIGNATURE}");
        assert!(
            !is_genuine(&header, b"{ }", b"whsec_test", 1_700_000_000),
            "another body"
        );
        assert!(
            !is_genuine(&header, b"{}", b"whsec_other", 1_700_000_000),
            "another secret"
        );
        assert!(!is_genuine(&header, b"{}", b"whsec_test", 1_700_000_301), "too old");
        let later = header.replace("1700000000", "1700000001");
        assert!(!is_genuine(&later, b"{}", b"whsec_test", 1_700_000_000), "another time");
        for garbage in ["", "t=,v1=", "v1", "t=1700000000", "t=1700000000,v1=é1"] {
            assert!(!is_genuine(garbage, b"{}", b"whsec_test", 1_700_000_000), "{garbage}");
        }
    }
}
