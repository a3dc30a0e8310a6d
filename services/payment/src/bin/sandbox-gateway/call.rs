//! HTTP in: what a Stripe request carries, taken apart and cleared of card numbers before anything sees it.

use std::collections::BTreeMap;

use axum::extract::{Form, FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, Method};
use uuid::Uuid;

use crate::facts::{Attempt, Claim, Currency, Metadata, digest, now};
use crate::refunds::RefundOrder;
use crate::refusal::Refusal;
use crate::token::Token;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The largest amount taken, in minor units: twelve digits, as with Stripe.
const MAX_AMOUNT: i64 = 999_999_999_999;

/// The parameters and idempotency key of a request, none of which looks like a card number.
pub(crate) struct Call {
    params: Vec<(String, String)>,
    pub(crate) claim: Option<Claim>,
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let key = idempotency_key(request.headers())?;
        let place = format!("{} {}", request.method(), request.uri().path());
        let empty = request.method() != Method::GET && !request.headers().contains_key(CONTENT_TYPE);
        let mut params: Vec<(String, String)> = Vec::new();
        if !empty {
            let form = Form::from_request(request, state).await;
            Form(params) = form.map_err(|cause| Refusal::with_status(cause.status(), cause.body_text()))?;
        }
        refuse_card_numbers(&params)?;
        let claim = key.map(|key| claim(key, &place, &params)).transpose()?;
        Ok(Self { params, claim })
    }
}

impl Call {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        let missing = || {
            Refusal::invalid(format!("Missing required param: {name}."))
                .code("parameter_missing")
                .param(name)
        };
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    }

    /// A payment to be made at once; the sandbox knows no other.
    pub(crate) fn attempt(self) -> Result<Attempt, Refusal> {
        if self.get("confirm") != Some("true") {
            return Err(Refusal::invalid("This gateway takes only payments with confirm=true.").param("confirm"));
        }
        if self.get("capture_method").is_some_and(|method| method == "manual") {
            return Err(Refusal::invalid("This gateway captures every payment at once.").param("capture_method"));
        }
        self.required("amount")?;
        let amount = self.amount()?.unwrap_or_default();
        let currency = Currency::try_from(self.required("currency")?.to_owned())
            .map_err(|cause| Refusal::invalid(format!("Invalid currency: {cause}.")).param("currency"))?;
        let name = self.required("payment_method")?;
        let payment_method =
            Token::named(name).ok_or_else(|| Refusal::missing("PaymentMethod", name).param("payment_method"))?;
        let metadata = self.metadata();
        let claim = self.claim;
        Ok(Attempt {
            id: Uuid::now_v7(),
            claim,
            amount,
            currency,
            payment_method,
            metadata,
            created: now(),
        })
    }

    /// A refund of a payment.
    pub(crate) fn refund(self) -> Result<RefundOrder, Refusal> {
        let payment_intent = self.required("payment_intent")?.to_owned();
        let (amount, metadata) = (self.amount()?, self.metadata());
        Ok(RefundOrder {
            payment_intent,
            amount,
            metadata,
            claim: self.claim,
        })
    }

    fn amount(&self) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get("amount") else {
            return Ok(None);
        };
        let wrong = |why| Refusal::invalid(why).param("amount");
        let amount: i64 = text
            .parse()
            .map_err(|_| wrong("Invalid integer").code("parameter_invalid_integer"))?;
        match amount {
            ..1 => Err(wrong("This value must be greater than or equal to 1.").code("parameter_invalid_integer")),
            1..=MAX_AMOUNT => Ok(Some(amount)),
            _ => Err(wrong("Amount must be no more than 9,999,999,999.99.").code("amount_too_large")),
        }
    }

    fn metadata(&self) -> Metadata {
        let word = |(name, value): &(String, String)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((name.to_owned(), value.clone()))
        };
        Metadata::from(self.params.iter().filter_map(word).collect::<BTreeMap<_, _>>())
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && !looks_like_card(key) => Ok(Some(key.into())),
        _ => Err(Refusal::invalid(
            "The Idempotency-Key must have 1 to 255 printable characters and not be a card number.",
        )),
    }
}

/// Two requests are the same when they ask the same of the same place, in whatever order.
fn claim(key: Box<str>, place: &str, params: &[(String, String)]) -> Result<Claim, Refusal> {
    let mut sorted: Vec<_> = params.iter().collect();
    sorted.sort();
    Ok(Claim {
        key,
        request: digest(&serde_json::to_vec(&(place, sorted))?),
    })
}

/// Card data is refused unseen: its value appears neither in the answer nor in a log.
fn refuse_card_numbers(params: &[(String, String)]) -> Result<(), Refusal> {
    let raw = |(name, value): &(String, String)| {
        name.starts_with("card[")
            || name.contains("[card]")
            || name.ends_with("[number]")
            || (name == "payment_method" && card_digits(value).is_some())
            || looks_like_card(name)
            || looks_like_card(value)
    };
    if params.iter().any(raw) {
        return Err(
            Refusal::invalid("Sending card numbers is not supported: pass the token of a payment method.")
                .param("card"),
        );
    }
    Ok(())
}

/// The text as a whole or one of its words is a valid card number.
/// The check digit and the issuer's first digit tell it from clock readings and counters.
fn looks_like_card(text: &str) -> bool {
    whole_and_words(text)
        .filter_map(card_digits)
        .any(|digits| (b'2'..=b'6').contains(&digits[0]) && luhn(&digits))
}

fn whole_and_words(text: &str) -> impl Iterator<Item = &str> {
    std::iter::once(text).chain(text.split(|c: char| !c.is_ascii_alphanumeric()))
}

/// The 13 to 19 digits that `text` is, spaces and hyphens aside.
fn card_digits(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|c| !c.is_ascii_digit() && !b" -".contains(&c)) {
        return None;
    }
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    (13..=19).contains(&digits.len()).then_some(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let weigh = |(place, digit): (usize, &u8)| match (place % 2, u32::from(digit - b'0')) {
        (0, digit) => digit,
        (_, digit) if digit > 4 => 2 * digit - 9,
        (_, digit) => 2 * digit,
    };
    digits
        .iter()
        .rev()
        .enumerate()
        .map(weigh)
        .sum::<u32>()
        .is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::looks_like_card;

    #[test]
    fn knows_a_card_number_however_it_is_written() {
        for text in [
            "4242424242424242",
            "4242 4242 4242 4242",
            "5555-5555-5555-4444",
            "378282246310005",
            "pay 4242424242424242!",
        ] {
            assert!(looks_like_card(text), "{text}");
        }
    }

    #[test]
    fn takes_ids_and_clock_readings_for_what_they_are() {
        for text in [
            "01981234-5678-7123-8123-426655440000",
            "1767225600000000000",
            "1767225600007",
            "4242424242424241",
            "pm_card_visa",
        ] {
            assert!(!looks_like_card(text), "{text}");
        }
    }
}
