//! The rules of a return: goods that were announced are received or rejected once, never both.

use std::collections::BTreeMap;

use events::{DAMAGED, Line, OrderReturnRequested, RESELLABLE, ReturnReceived, ReturnRejected, ReturnedLine};
use telemetry::TraceContext;
use uuid::Uuid;

use super::Warehouse;

/// What is known of a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// The order that it is a part of.
    pub order_id: Uuid,
    /// Where it stands.
    pub state: ReturnState,
    /// What was announced, at the prices that were paid.
    pub lines: Vec<Line>,
    /// In the customer's words.
    pub reason: String,
    /// What was found in the parcel; empty while it is awaited.
    pub found: Vec<ReturnedLine>,
    /// What is to be paid back, in minor units.
    pub refundable: i64,
    /// The event that announced it.
    pub cause: Option<Uuid>,
    /// The span of that event.
    pub trace: TraceContext,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// Where a return stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnState {
    /// Announced; the goods are on their way.
    Awaited,
    /// Looked at and taken back.
    Received,
    /// Refused: nothing is paid back.
    Rejected,
}

/// Why what was found is not what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// A word that is no condition.
    Condition,
    /// Other articles, or more or fewer pieces.
    Pieces,
}

impl Warehouse {
    /// Awaits what was announced, once.
    pub fn announce(&mut self, announced: &OrderReturnRequested, cause: Option<Uuid>, trace: &TraceContext) {
        self.returns.entry(announced.return_id).or_insert_with(|| Return {
            order_id: announced.order_id,
            state: ReturnState::Awaited,
            lines: announced.lines.clone(),
            reason: announced.reason.clone(),
            found: Vec::new(),
            refundable: 0,
            cause,
            trace: trace.clone(),
            version: 0,
            changed: true,
        });
    }

    /// Takes back what was found; none when the return is no longer awaited.
    pub fn receive(&mut self, return_id: Uuid, found: &[ReturnedLine]) -> Option<ReturnReceived> {
        let parcel = self.awaited(return_id)?;
        parcel.state = ReturnState::Received;
        parcel.found = found.to_vec();
        parcel.refundable = parcel.worth();
        Some(ReturnReceived {
            order_id: parcel.order_id,
            return_id,
            lines: found.to_vec(),
            refundable: parcel.refundable,
        })
    }

    /// Takes everything back as good as new; none when the return is no longer awaited.
    pub fn receive_unopened(&mut self, return_id: Uuid) -> Option<ReturnReceived> {
        let found = self.returns.get(&return_id)?.all(RESELLABLE);
        self.receive(return_id, &found)
    }

    /// Refuses the goods; none when the return is no longer awaited.
    pub fn reject(&mut self, return_id: Uuid) -> Option<ReturnRejected> {
        let parcel = self.awaited(return_id)?;
        parcel.state = ReturnState::Rejected;
        parcel.found = parcel.all(DAMAGED);
        Some(ReturnRejected {
            order_id: parcel.order_id,
            return_id,
            lines: parcel.found.clone(),
            refundable: 0,
        })
    }

    fn awaited(&mut self, return_id: Uuid) -> Option<&mut Return> {
        let parcel = self.returns.get_mut(&return_id);
        let parcel = parcel.filter(|parcel| parcel.state == ReturnState::Awaited)?;
        parcel.changed = true;
        Some(parcel)
    }
}

impl Return {
    /// Checks what somebody found: every announced piece in a known condition, and nothing else.
    pub fn check(&self, found: &[ReturnedLine]) -> Result<(), Mismatch> {
        let known = |line: &ReturnedLine| [RESELLABLE, DAMAGED].contains(&line.condition.as_str());
        if !found.iter().all(known) {
            return Err(Mismatch::Condition);
        }
        let announced = pieces(self.lines.iter().map(|line| (line.sku.as_str(), line.quantity)));
        let counted = pieces(found.iter().map(|line| (line.sku.as_str(), line.quantity)));
        let positive = found.iter().all(|line| line.quantity > 0);
        if positive && announced == counted {
            Ok(())
        } else {
            Err(Mismatch::Pieces)
        }
    }

    /// Every announced piece in one condition.
    fn all(&self, condition: &str) -> Vec<ReturnedLine> {
        let lines = self.lines.iter().map(|line| ReturnedLine {
            sku: line.sku.clone(),
            quantity: line.quantity,
            condition: condition.to_owned(),
        });
        lines.collect()
    }

    /// What was paid for it, damaged or not: whoever sends goods back in time gets the money.
    fn worth(&self) -> i64 {
        let prices = self.lines.iter().map(|line| line.unit_price * i64::from(line.quantity));
        prices.sum()
    }
}

/// How many pieces of each article.
fn pieces<'a>(lines: impl Iterator<Item = (&'a str, i32)>) -> BTreeMap<&'a str, i64> {
    let mut pieces = BTreeMap::new();
    for (sku, quantity) in lines {
        *pieces.entry(sku).or_default() += i64::from(quantity);
    }
    pieces
}

impl ReturnState {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Awaited => "AWAITED",
            Self::Received => "RECEIVED",
            Self::Rejected => "REJECTED",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn announced() -> OrderReturnRequested {
        let line = |sku: &str, quantity, unit_price| Line {
            sku: sku.into(),
            name: sku.to_uppercase(),
            quantity,
            unit_price,
        };
        OrderReturnRequested {
            order_id: Uuid::now_v7(),
            return_id: Uuid::now_v7(),
            lines: vec![line("tea", 3, 500), line("mug", 1, 900)],
            reason: "too hot".into(),
        }
    }

    fn found(lines: &[(&str, i32, &str)]) -> Vec<ReturnedLine> {
        let lines = lines.iter().map(|(sku, quantity, condition)| ReturnedLine {
            sku: (*sku).into(),
            quantity: *quantity,
            condition: (*condition).into(),
        });
        lines.collect()
    }

    #[test]
    fn damaged_goods_are_paid_back_like_any_others() {
        let (mut warehouse, announced) = (Warehouse::default(), announced());
        warehouse.announce(&announced, None, &TraceContext::NONE);
        let opened = found(&[("tea", 2, RESELLABLE), ("tea", 1, DAMAGED), ("mug", 1, DAMAGED)]);
        assert_eq!(warehouse.returns[&announced.return_id].check(&opened), Ok(()));
        let received = warehouse.receive(announced.return_id, &opened).unwrap();
        assert_eq!((received.refundable, received.lines), (2_400, opened));
        assert_eq!(
            warehouse.reject(announced.return_id),
            None,
            "what was taken back stays here"
        );
    }

    #[test]
    fn only_what_was_announced_is_taken_back() {
        let (mut warehouse, announced) = (Warehouse::default(), announced());
        warehouse.announce(&announced, None, &TraceContext::NONE);
        let parcel = &warehouse.returns[&announced.return_id];
        for (lines, mismatch) in [
            (found(&[("tea", 3, "chewed"), ("mug", 1, DAMAGED)]), Mismatch::Condition),
            (found(&[("tea", 3, RESELLABLE)]), Mismatch::Pieces),
            (
                found(&[("tea", 4, RESELLABLE), ("mug", 1, RESELLABLE)]),
                Mismatch::Pieces,
            ),
            (
                found(&[("tea", 4, RESELLABLE), ("tea", -1, DAMAGED), ("mug", 1, DAMAGED)]),
                Mismatch::Pieces,
            ),
            (
                found(&[("tea", 3, RESELLABLE), ("pot", 1, RESELLABLE)]),
                Mismatch::Pieces,
            ),
        ] {
            assert_eq!(parcel.check(&lines), Err(mismatch), "{lines:?}");
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Announced,
        Taken,
        Refused,
    }

    proptest! {
        /// However often it is announced, taken and refused, and in whatever order: one answer, and only to what is awaited.
        #[test]
        fn a_return_is_received_or_rejected_once(happenings in prop::collection::vec(
            prop::sample::select(vec![Happening::Announced, Happening::Taken, Happening::Refused]), 0..12,
        )) {
            let (mut warehouse, announced) = (Warehouse::default(), announced());
            let (mut received, mut rejected, mut known, mut answerable) = (0, 0, false, false);
            for happening in happenings {
                match happening {
                    Happening::Announced => { warehouse.announce(&announced, None, &TraceContext::NONE); known = true; }
                    Happening::Taken => {
                        answerable |= known;
                        received += usize::from(warehouse.receive_unopened(announced.return_id).is_some());
                    }
                    Happening::Refused => {
                        answerable |= known;
                        rejected += usize::from(warehouse.reject(announced.return_id).is_some());
                    }
                }
            }
            prop_assert_eq!(received + rejected, usize::from(answerable));
        }
    }
}
