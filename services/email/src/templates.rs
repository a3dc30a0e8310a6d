//! What messages say: the templates beside this file, filled in.
//!
//! `{{name}}` is text, escaped in HTML; `{{{name}}}` is markup that was made here. What is filled in
//! is never looked at again, so no customer can write a placeholder.

use std::fmt::Write;

use events::{CancelReason, Line};
use uuid::Uuid;

use crate::domain::{Content, Recipient};

/// A message in words, without its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Says what it is about, without names.
    pub subject: &'static str,
    /// For readers that show no HTML.
    pub text: String,
    /// The same with looks.
    pub html: String,
}

/// The two forms of one template.
struct Form {
    escape: bool,
    layout: &'static str,
    line: &'static str,
    body: &'static str,
}

macro_rules! form {
    ($name:literal, $extension:literal, escape: $escape:literal) => {
        Form {
            escape: $escape,
            layout: include_str!(concat!("templates/layout.", $extension)),
            line: include_str!(concat!("templates/line.", $extension)),
            body: include_str!(concat!("templates/", $name, ".", $extension)),
        }
    };
}

macro_rules! forms {
    ($name:literal) => {
        [form!($name, "txt", escape: false), form!($name, "html", escape: true)]
    };
}

/// Writes the message about this order; the same input gives the same words.
pub fn render(order_id: Uuid, recipient: &Recipient, content: &Content) -> Rendered {
    let currency = &recipient.currency;
    let (subject, forms, told) = match content {
        Content::OrderConfirmed => ("Your order is confirmed", forms!("order_confirmed"), vec![]),
        Content::OrderShipped { carrier, tracking } => {
            let told = vec![("carrier", carrier.clone()), ("tracking", tracking.clone())];
            ("Your parcel is on its way", forms!("order_shipped"), told)
        }
        Content::OrderCancelled { reason, refunded } => {
            let told = vec![
                ("reason", plainly(*reason).to_owned()),
                ("refund", refund(*refunded, currency)),
            ];
            ("Your order was cancelled", forms!("order_cancelled"), told)
        }
        Content::OrderReturnRequested { lines, .. } => {
            let worth = lines
                .iter()
                .map(|line| line.unit_price.saturating_mul(line.quantity.into()))
                .sum();
            let told = vec![("amount", money(worth, currency))];
            ("We expect your return", forms!("order_return_requested"), told)
        }
        Content::OrderRefunded { amount, .. } => {
            let told = vec![("amount", money(*amount, currency))];
            ("Your return is paid back", forms!("order_refunded"), told)
        }
        Content::ReturnRejected { .. } => ("Your return was not accepted", forms!("return_rejected"), vec![]),
    };
    let lines = match content {
        Content::OrderReturnRequested { lines, .. } => lines,
        _ => &recipient.lines,
    };
    let mut values = told;
    values.push(("subject", subject.to_owned()));
    values.push(("order_id", order_id.to_string()));
    values.push(("total", money(recipient.total, currency)));
    let [text, html] = forms.map(|form| form.write(&values, lines, currency));
    Rendered { subject, text, html }
}

impl Form {
    fn write(&self, values: &[(&str, String)], lines: &[Line], currency: &str) -> String {
        let lines: String = lines.iter().map(|line| self.write_line(line, currency)).collect();
        let body = self.fill(self.body, values, &[]);
        self.fill(self.layout, values, &[("body", &body), ("lines", &lines)])
    }

    fn write_line(&self, line: &Line, currency: &str) -> String {
        let price = line.unit_price.saturating_mul(line.quantity.into());
        let values = [
            ("name", line.name.clone()),
            ("quantity", line.quantity.to_string()),
            ("unit_price", money(line.unit_price, currency)),
            ("price", money(price, currency)),
        ];
        self.fill(self.line, &values, &[])
    }

    /// Goes through the template once; a placeholder without a value stays, and a test looks for it.
    fn fill(&self, template: &str, texts: &[(&str, String)], markup: &[(&str, &str)]) -> String {
        let mut written = String::with_capacity(2 * template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            written.push_str(before);
            let (open, close) = if after.starts_with('{') {
                ("{", "}}}")
            } else {
                ("", "}}")
            };
            let Some((name, behind)) = after[open.len()..].split_once(close) else {
                written.push_str("{{");
                rest = after;
                continue;
            };
            let text = texts.iter().find(|(known, _)| open.is_empty() && *known == name);
            let made = markup.iter().find(|(known, _)| !open.is_empty() && *known == name);
            match (text, made) {
                (Some((_, text)), _) if self.escape => escape(text, &mut written),
                (Some((_, text)), _) => written.push_str(text),
                (_, Some((_, made))) => written.push_str(made),
                (None, None) => _ = write!(written, "{{{{{open}{name}{close}"),
            }
            rest = behind;
        }
        written + rest
    }
}

/// Makes text of what could be markup.
fn escape(text: &str, into: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            other => into.push(other),
        }
    }
}

fn plainly(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::OutOfStock => "an article that you ordered is no longer in stock.",
        CancelReason::PaymentDeclined => "your payment was declined.",
        CancelReason::PaymentTimedOut => "we got no answer about your payment in time.",
        CancelReason::ShippingFailed => "our carrier cannot deliver to your address.",
        CancelReason::RequestedByCustomer => "you asked us to.",
        CancelReason::DeadlineExceeded => "it was not paid in time.",
    }
}

fn refund(refunded: i64, currency: &str) -> String {
    match refunded {
        0 => "You have nothing to pay.".to_owned(),
        amount => format!("We have paid back {}.", money(amount, currency)),
    }
}

/// An amount in minor units as people write it: `12.34 EUR`, `1,200 JPY`.
fn money(amount: i64, currency: &str) -> String {
    let digits = minor_digits(currency);
    let unit = 10_u64.pow(digits);
    let (whole, minor) = (amount.unsigned_abs() / unit, amount.unsigned_abs() % unit);
    let sign = if amount < 0 { "-" } else { "" };
    let whole = grouped(whole);
    match digits {
        0 => format!("{sign}{whole} {currency}"),
        digits => format!("{sign}{whole}.{minor:0width$} {currency}", width = digits as usize),
    }
}

/// How many decimals a currency has. Source: ISO 4217, list one.
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn grouped(whole: u64) -> String {
    let digits = whole.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::Customer;

    use super::*;

    fn recipient(name: &str) -> Recipient {
        let line = |name: &str, quantity, unit_price| Line {
            sku: "sku".into(),
            name: name.into(),
            quantity,
            unit_price,
        };
        Recipient {
            customer: Customer {
                id: Uuid::now_v7(),
                email: "ada@example.org".into(),
            },
            lines: vec![line(name, 2, 1_250), line("Cup", 1, 990)],
            total: 3_490,
            currency: "EUR".into(),
        }
    }

    fn every_content() -> Vec<Content> {
        let shipped = Content::OrderShipped {
            carrier: "Swift & Sons".into(),
            tracking: "SW-1<2".into(),
        };
        let reasons = [
            CancelReason::OutOfStock,
            CancelReason::PaymentDeclined,
            CancelReason::PaymentTimedOut,
            CancelReason::ShippingFailed,
            CancelReason::RequestedByCustomer,
            CancelReason::DeadlineExceeded,
        ];
        let cancelled = reasons.map(|reason| Content::OrderCancelled {
            reason,
            refunded: 3_490,
        });
        let return_id = Uuid::now_v7();
        let lines = recipient("Green tea").lines;
        let returns = [
            Content::OrderReturnRequested { return_id, lines },
            Content::OrderRefunded { return_id, amount: 990 },
            Content::ReturnRejected { return_id },
        ];
        [
            vec![Content::OrderConfirmed, shipped],
            cancelled.to_vec(),
            returns.to_vec(),
        ]
        .concat()
    }

    #[test]
    fn every_message_is_complete_in_both_forms() {
        let order_id = Uuid::now_v7();
        for content in every_content() {
            let rendered = render(order_id, &recipient("Green tea"), &content);
            for form in [&rendered.text, &rendered.html] {
                assert!(!form.contains("{{") && !form.contains("}}"), "left open: {form}");
                for word in [
                    rendered.subject,
                    "Green tea",
                    "25.00 EUR",
                    "9.90 EUR",
                    "34.90 EUR",
                    &order_id.to_string(),
                ] {
                    assert!(form.contains(word), "{word} is missing: {form}");
                }
            }
        }
    }

    #[test]
    fn whatever_a_product_is_called_it_is_text() {
        let name = "<script>alert(\"1\")</script> & 'co' {{total}} {{{body}}}";
        let rendered = render(Uuid::now_v7(), &recipient(name), &Content::OrderConfirmed);
        assert!(!rendered.html.contains("<script>"));
        let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;co&#39; {{total}} {{{body}}}";
        assert!(rendered.html.contains(escaped), "{}", rendered.html);
        assert!(rendered.text.contains(name));
    }

    #[test]
    fn a_cancellation_says_why_and_what_was_paid_back() {
        let told = |refunded| {
            let content = Content::OrderCancelled {
                reason: CancelReason::PaymentDeclined,
                refunded,
            };
            render(Uuid::now_v7(), &recipient("Tea"), &content).text
        };
        assert!(told(0).contains("your payment was declined") && told(0).contains("You have nothing to pay."));
        assert!(told(1_000).contains("We have paid back 10.00 EUR."));
    }

    #[test]
    fn money_has_the_decimals_of_its_currency() {
        assert_eq!(money(123_456_789, "EUR"), "1,234,567.89 EUR");
        assert_eq!(money(5, "USD"), "0.05 USD");
        assert_eq!(money(1_200, "JPY"), "1,200 JPY");
        assert_eq!(money(-1_005, "KWD"), "-1.005 KWD");
    }
}
