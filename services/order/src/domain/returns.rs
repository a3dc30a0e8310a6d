//! Returns: what may be sent back, and what an order is while it is and afterwards.
//!
//! A delivered order is `RETURNING` while any of its returns is open. Otherwise it is `REFUNDED` once returns have paid
//! back everything that was paid, and `COMPLETED` as long as they have not. A return is open from the request until it
//! is rejected, or both its refund and its restocking have been heard of. All of this follows from the set of facts,
//! whatever order they came in.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::{Fault, Line, OrderRefunded, OrderReturnRequested, Quantity};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FollowUp, Order, Refused, State};

/// How many returns an order can have, rejected ones included; more is somebody's mistake.
const MOST_RETURNS: usize = 100;

/// What a customer wants to send back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnWish {
    /// The articles.
    pub lines: Vec<ReturnLine>,
    /// Why, in their words.
    #[serde(default)]
    pub reason: String,
}

/// One article of a wish to return.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnLine {
    /// The article.
    pub sku: String,
    /// How many pieces.
    pub quantity: i64,
}

/// What is known of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// What comes back, at the prices that were paid.
    pub lines: Vec<Line>,
    /// In the customer's words.
    pub reason: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When the goods were taken back, and what they are worth, in minor units.
    pub received: Option<(DateTime<Utc>, i64)>,
    /// When the goods were refused.
    pub rejected: Option<DateTime<Utc>>,
    /// When what can be sold again was on the shelf.
    pub restocked: Option<DateTime<Utc>>,
    /// When the money went back, and how much, in minor units.
    pub refunded: Option<(DateTime<Utc>, i64)>,
    /// We said that it is paid back.
    pub told: bool,
}

/// Where a return stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReturnState {
    /// The goods are on their way.
    Requested,
    /// The goods are back, or the money is.
    Received,
    /// The goods were refused: nothing is paid back.
    Rejected,
    /// The goods and the money are back.
    Refunded,
}

/// How a wish to return is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returning {
    /// The goods are awaited.
    Accepted,
    /// The same was asked for under the same key before.
    AskedBefore,
    /// Something else was asked for under the same key before.
    KeyReused,
    /// It has not arrived, or is undone or all sent back.
    NotInState(State),
    /// It was sent back too often.
    TooOften,
    /// More would come back than was bought.
    TooMuch(Vec<Refused>),
    /// What is asked for makes no sense for this order.
    Invalid(Vec<Refused>),
}

impl ReturnWish {
    /// Everything that can be refused without knowing the order.
    pub fn faults(&self) -> Vec<Refused> {
        let refused = |field: String, reason: &str| Refused {
            field,
            reason: reason.to_owned(),
        };
        let mut faults = Vec::new();
        if !(1..=100).contains(&self.lines.len()) {
            faults.push(refused("lines".into(), "must be 1 to 100 lines"));
        }
        for (index, line) in self.lines.iter().take(100).enumerate() {
            if !(1..=1_000).contains(&line.quantity) {
                faults.push(refused(
                    format!("lines[{index}].quantity"),
                    "must be between 1 and 1000",
                ));
            }
        }
        if self.reason.chars().count() > 500 {
            faults.push(refused("reason".into(), "must be at most 500 characters"));
        }
        faults
    }
}

impl Return {
    /// Where it stands, given what is known.
    pub fn state(&self) -> ReturnState {
        match self {
            Self { rejected: Some(_), .. } => ReturnState::Rejected,
            Self {
                refunded: Some(_),
                restocked: Some(_),
                ..
            } => ReturnState::Refunded,
            Self {
                refunded: None,
                restocked: None,
                received: None,
                ..
            } => ReturnState::Requested,
            _ => ReturnState::Received,
        }
    }

    /// Whether something is still to happen.
    pub fn is_open(&self) -> bool {
        matches!(self.state(), ReturnState::Requested | ReturnState::Received)
    }

    /// The same return when nothing had been heard of it yet.
    pub fn as_requested(&self) -> Self {
        Self {
            received: None,
            rejected: None,
            restocked: None,
            refunded: None,
            ..self.clone()
        }
    }

    /// What its goods were paid for, in minor units.
    pub fn worth(&self) -> i64 {
        self.lines
            .iter()
            .map(|line| line.unit_price * i64::from(line.quantity))
            .sum()
    }
}

impl Order {
    /// Asks for goods to be taken back, once under each id; the id of a return under a key follows from the key.
    pub fn request_return(
        &mut self,
        return_id: Uuid,
        wish: &ReturnWish,
        now: DateTime<Utc>,
    ) -> (Returning, Option<OrderReturnRequested>) {
        let lines = match self.bought(wish) {
            Ok(lines) => lines,
            Err(faults) => return (Returning::Invalid(faults), None),
        };
        if let Some(known) = self.returns.get(&return_id) {
            let same = known.lines == lines && known.reason == wish.reason;
            return (
                if same {
                    Returning::AskedBefore
                } else {
                    Returning::KeyReused
                },
                None,
            );
        }
        let state = self.state();
        if !matches!(state, State::Completed | State::Returning) {
            return (Returning::NotInState(state), None);
        }
        if self.returns.len() >= MOST_RETURNS {
            return (Returning::TooOften, None);
        }
        let excess = self.excess(wish, &lines);
        if !excess.is_empty() {
            return (Returning::TooMuch(excess), None);
        }
        let asked = Return {
            lines: lines.clone(),
            reason: wish.reason.clone(),
            requested_at: now,
            received: None,
            rejected: None,
            restocked: None,
            refunded: None,
            told: false,
        };
        self.returns.insert(return_id, asked);
        self.version += 1;
        self.note_state();
        let requested = OrderReturnRequested {
            order_id: self.id,
            return_id,
            lines,
            reason: wish.reason.clone(),
        };
        (Returning::Accepted, Some(requested))
    }

    /// Folds a fact about a return in, and says what follows; one that is known already changes and says nothing.
    pub fn learn_of_return(&mut self, return_id: Uuid, fact: impl FnOnce(&mut Return)) -> Result<FollowUp, Fault> {
        let known = self.returns.get_mut(&return_id);
        let known = known.ok_or_else(|| Fault::new("there is no such return of this order"))?;
        let before = known.clone();
        fact(known);
        if *known == before {
            return Ok(Self::nothing());
        }
        let refunded = known
            .refunded
            .filter(|_| known.state() == ReturnState::Refunded && !known.told);
        known.told |= refunded.is_some();
        self.version += 1;
        self.note_state();
        let order_id = self.id;
        let told = refunded.map(|(_, amount)| OrderRefunded {
            order_id,
            return_id,
            amount,
        });
        Ok((None, (None, (None, told))))
    }

    /// Where a delivered order stands.
    pub(super) fn delivered_state(&self) -> State {
        let refunded: i64 = self
            .returns
            .values()
            .filter_map(|one| one.refunded)
            .map(|(_, amount)| amount)
            .sum();
        if self.returns.values().any(Return::is_open) {
            State::Returning
        } else if self.returns.values().any(|one| one.told) && refunded >= self.total {
            State::Refunded
        } else {
            State::Completed
        }
    }

    /// Whether goods are back for which something is still owed.
    pub(super) fn owes_a_refund(&self) -> bool {
        self.returns.values().any(|one| one.state() == ReturnState::Received)
    }

    /// The wish as lines of this order, summed up by article.
    fn bought(&self, wish: &ReturnWish) -> Result<Vec<Line>, Vec<Refused>> {
        let (mut lines, mut faults): (BTreeMap<&str, Line>, Vec<Refused>) = (BTreeMap::new(), Vec::new());
        for (index, ReturnLine { sku, quantity }) in wish.lines.iter().enumerate() {
            let Some(known) = self.lines.iter().find(|line| line.sku == *sku) else {
                faults.push(Refused {
                    field: format!("lines[{index}].sku"),
                    reason: "is not an article of this order".to_owned(),
                });
                continue;
            };
            let line = lines.entry(sku).or_insert_with(|| Line {
                quantity: 0,
                ..known.clone()
            });
            let quantity = Quantity::try_from(*quantity).unwrap_or(Quantity::MAX);
            line.quantity = line.quantity.saturating_add(quantity);
        }
        if faults.is_empty() {
            Ok(lines.into_values().collect())
        } else {
            Err(faults)
        }
    }

    /// Lines of which more would come back than was bought, with what came back before or is on its way.
    fn excess(&self, wish: &ReturnWish, lines: &[Line]) -> Vec<Refused> {
        let pieces = |of: &mut dyn Iterator<Item = &Line>, sku: &str| -> i64 {
            of.filter(|line| line.sku == sku)
                .map(|line| i64::from(line.quantity))
                .sum()
        };
        let left = |sku: &str| {
            let kept = self.returns.values().filter(|one| one.state() != ReturnState::Rejected);
            pieces(&mut self.lines.iter(), sku) - pieces(&mut kept.flat_map(|one| &one.lines), sku)
        };
        let over = lines.iter().filter(|line| i64::from(line.quantity) > left(&line.sku));
        let named = |line: &Line| {
            let index = wish
                .lines
                .iter()
                .position(|wished| wished.sku == line.sku)
                .unwrap_or_default();
            Refused {
                field: format!("lines[{index}].quantity"),
                reason: format!("only {} can still come back", left(&line.sku)),
            }
        };
        over.map(named).collect()
    }
}

#[cfg(test)]
mod tests;
