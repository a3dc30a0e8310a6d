//! Accepting an order: what a client may ask for, and what it is promised.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Address, Customer, Line, Quantity};
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use super::{Facts, History, Order};

/// What a client asks for. Prices, totals and states are never taken from a client.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Who orders.
    pub customer: WishedCustomer,
    /// What is ordered.
    #[schema(min_items = 1, max_items = 100)]
    pub lines: Vec<WishedLine>,
    /// Where it goes.
    #[serde(with = "WishedAddress")]
    #[schema(value_type = WishedAddress)]
    pub ship_to: Address,
    /// Token of the payment method, `pm_…`; never a card number.
    #[schema(example = "pm_card_visa", pattern = "^pm_[A-Za-z0-9_]{1,61}$")]
    pub payment_method: String,
    /// The currency the client expects to pay in, if it cares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "EUR")]
    pub currency: Option<String>,
}

/// Who orders.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WishedCustomer {
    /// The customer's id.
    pub id: Uuid,
    /// Where mail goes.
    #[schema(example = "ada@example.com", format = "email", max_length = 254)]
    pub email: String,
}

/// An address as a client may write it: events may carry fields that we do not know, wishes may not.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(remote = "Address", deny_unknown_fields)]
struct WishedAddress {
    /// Who receives it.
    #[schema(schema_with = one_line)]
    name: String,
    /// Street and number.
    #[schema(schema_with = one_line)]
    street: String,
    /// Town.
    #[schema(schema_with = one_line)]
    city: String,
    /// Postal code.
    #[schema(schema_with = one_line)]
    postal_code: String,
    /// ISO 3166-1 alpha-2 country code.
    #[schema(example = "GB", pattern = "^[A-Z]{2}$")]
    country: String,
}

/// Something printable on one line.
fn one_line() -> Object {
    let printable = r"[^\s\u0000-\u001f\u007f-\u009f]";
    let any = r"[^\u0000-\u001f\u007f-\u009f]";
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(200))
        .pattern(Some(format!("^{printable}({any}*{printable})?$")))
        .build()
}

/// One line of a wish.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WishedLine {
    /// The article.
    #[schema(example = "TEA-ASSAM", min_length = 1, max_length = 64)]
    pub sku: String,
    /// How many pieces.
    #[schema(example = 2, minimum = 1, maximum = 1_000)]
    pub quantity: i64,
}

/// Whether inventory was asked before the order was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StockCheck {
    /// It was, and had enough of everything.
    Passed,
    /// It did not answer in time; the saga decides.
    Skipped,
}

impl StockCheck {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
        }
    }
}

/// What an article costs, and how much of it there was when somebody last looked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Offer {
    /// The article.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// Price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: String,
    /// Pieces that could be ordered.
    pub available: i64,
    /// Version of this knowledge; the greatest is the newest.
    #[serde(default)]
    pub revision: i64,
}

/// A field that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it is, `lines[0].quantity`.
    pub field: String,
    /// What is wrong with it; never repeats the value.
    pub reason: String,
}

impl Wish {
    /// Everything that can be refused without knowing the catalogue.
    pub fn faults(&self) -> Vec<Refused> {
        let mut faults = Faults(Vec::new());
        faults.unless(
            is_email(&self.customer.email),
            "customer.email",
            "must be an e-mail address",
        );
        faults.unless((1..=100).contains(&self.lines.len()), "lines", "must be 1 to 100 lines");
        for (index, line) in self.lines.iter().take(100).enumerate() {
            let quantity_ok = (1..=1_000).contains(&line.quantity);
            faults.unless(
                quantity_ok,
                &format!("lines[{index}].quantity"),
                "must be between 1 and 1000",
            );
            let sku_ok = (1..=64).contains(&line.sku.len());
            faults.unless(sku_ok, &format!("lines[{index}].sku"), "must be 1 to 64 characters");
        }
        let Address {
            name,
            street,
            city,
            postal_code,
            country,
        } = &self.ship_to;
        for (field, text) in [
            ("name", name),
            ("street", street),
            ("city", city),
            ("postal_code", postal_code),
        ] {
            faults.unless(
                is_text(text),
                &format!("ship_to.{field}"),
                "must be 1 to 200 characters on one line",
            );
        }
        let country_ok = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        faults.unless(
            country_ok,
            "ship_to.country",
            "must be an ISO 3166-1 alpha-2 code such as DE",
        );
        let token = "must be a payment method token such as pm_card_visa; card numbers are never accepted";
        faults.unless(is_token(&self.payment_method), "payment_method", token);
        faults.0
    }

    /// Makes an order of it at the offered prices; the faults are about the catalogue.
    pub fn price(&self, offers: &BTreeMap<String, Offer>) -> Result<Priced, Vec<Refused>> {
        let mut faults = Faults(Vec::new());
        let mut lines = Vec::with_capacity(self.lines.len());
        for (index, WishedLine { sku, quantity }) in self.lines.iter().enumerate() {
            let Some(offer) = offers.get(sku) else {
                faults.unless(
                    false,
                    &format!("lines[{index}].sku"),
                    "there is no product with this sku",
                );
                continue;
            };
            let quantity = Quantity::try_from(*quantity).unwrap_or(Quantity::MAX);
            lines.push(Line {
                sku: sku.clone(),
                name: offer.name.clone(),
                quantity,
                unit_price: offer.price,
            });
        }
        let currencies = self
            .lines
            .iter()
            .filter_map(|line| offers.get(&line.sku))
            .map(|offer| &offer.currency);
        let currency = currencies.clone().next().cloned().unwrap_or_default();
        faults.unless(
            currencies.clone().all(|c| *c == currency),
            "lines",
            "must all be sold in one currency",
        );
        let expected = self
            .currency
            .as_ref()
            .is_none_or(|wished| *wished == currency || currency.is_empty());
        faults.unless(
            expected,
            "currency",
            "is not the currency that these products are sold in",
        );
        let total = lines.iter().try_fold(0_i64, |sum, line| {
            line.unit_price
                .checked_mul(i64::from(line.quantity))
                .and_then(|amount| sum.checked_add(amount))
        });
        faults.unless(total.is_some(), "lines", "cost more than can be paid at once");
        if faults.0.is_empty() {
            Ok(Priced {
                lines,
                total: total.unwrap_or(0),
                currency,
            })
        } else {
            Err(faults.0)
        }
    }
}

/// What the lines cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// The lines at their prices.
    pub lines: Vec<Line>,
    /// Their sum in minor units.
    pub total: i64,
    /// The currency of it all.
    pub currency: String,
}

impl Order {
    /// A new order, pending, placed now.
    pub fn place(
        wish: &Wish,
        priced: Priced,
        stock_check: StockCheck,
        trace: TraceContext,
        (id, now, pay_within): (Uuid, DateTime<Utc>, Duration),
    ) -> Self {
        Self {
            id,
            customer: Customer {
                id: wish.customer.id,
                email: wish.customer.email.clone(),
            },
            lines: priced.lines,
            total: priced.total,
            currency: priced.currency,
            ship_to: wish.ship_to.clone(),
            payment_method: wish.payment_method.clone(),
            stock_check,
            pay_by: now + pay_within,
            facts: Facts::default(),
            returns: BTreeMap::new(),
            version: 1,
            saved_version: 0,
            history: History::default(),
            trace,
            created_at: now,
            updated_at: now,
        }
    }
}

struct Faults(Vec<Refused>);

impl Faults {
    fn unless(&mut self, legal: bool, field: &str, reason: &str) {
        if !legal {
            self.0.push(Refused {
                field: field.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
}

fn is_text(text: &str) -> bool {
    (1..=200).contains(&text.trim().chars().count()) && !text.chars().any(char::is_control)
}

/// One `@` between printable parts, and a dot in the domain; whether it exists, only mail can tell.
fn is_email(text: &str) -> bool {
    let printable = text.len() <= 254
        && text
            .bytes()
            .all(|byte| (0x21..0x7f).contains(&byte) && !b"<>,;\"\\".contains(&byte));
    let parts = text.split_once('@');
    printable
        && parts.is_some_and(|(local, domain)| {
            let labels: Vec<&str> = domain.split('.').collect();
            !local.is_empty()
                && !domain.contains('@')
                && labels.len() > 1
                && labels.iter().all(|label| !label.is_empty())
        })
}

/// `pm_` and letters; a run of 12 digits or more could be a card number and is refused.
fn is_token(text: &str) -> bool {
    let legal = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    legal && digits < 12 && text.strip_prefix("pm_").is_some_and(|rest| !rest.is_empty())
}
