//! Goods that come back: what can be sold again is on the shelf again, once a return.

use std::collections::BTreeMap;

use events::{Fault, Line, RESELLABLE, ReturnReceived};
use uuid::Uuid;

use super::{Movement, Reservation, ReservationState, Stock};

/// What a return brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restock {
    /// The order that was sent back, or a part of it.
    pub order_id: Uuid,
    /// What can be sold again.
    pub lines: Vec<Line>,
    /// Whether this batch put it on the shelf.
    pub new: bool,
}

impl Stock {
    /// Puts on the shelf what can be sold again; none if that was done before.
    ///
    /// Whether the sale itself has been heard yet makes no difference: it takes from the shelf what was held.
    pub fn restock(&mut self, returned: &ReturnReceived) -> Result<Option<Vec<Line>>, Fault> {
        let (order_id, return_id) = (returned.order_id, returned.return_id);
        if self.restocks.contains_key(&return_id) {
            return Ok(None);
        }
        let sent = |held: &&Reservation| matches!(held.state, ReservationState::Held | ReservationState::Committed);
        // Only a parcel comes back, and only held goods are in a parcel: anything else is a fault.
        let reservation = self.reservations.get(&order_id).filter(sent);
        let reservation = reservation.ok_or_else(|| Fault::new("goods came back that were never sent"))?;
        let lines = resellable(reservation, returned)?;
        for Line { sku, quantity, .. } in &lines {
            let quantity = i64::from(*quantity);
            self.change(sku, |article| article.on_hand += quantity);
            self.movements.push(Movement {
                sku: sku.clone(),
                delta: quantity,
                reason: "RETURN".into(),
                order_id: Some(order_id),
                return_id: Some(return_id),
            });
        }
        let restock = Restock {
            order_id,
            lines: lines.clone(),
            new: true,
        };
        self.restocks.insert(return_id, restock);
        Ok(Some(lines))
    }
}

/// The pieces that can be sold again, summed up by article, as they were sold.
fn resellable(sold: &Reservation, returned: &ReturnReceived) -> Result<Vec<Line>, Fault> {
    let mut back: BTreeMap<&str, Line> = BTreeMap::new();
    for line in returned.lines.iter().filter(|line| line.condition == RESELLABLE) {
        let known = sold.lines.iter().find(|known| known.sku == line.sku);
        let known = known.ok_or_else(|| Fault::new("an article came back that was not in the parcel"))?;
        let sum = back.entry(&line.sku).or_insert_with(|| Line {
            quantity: 0,
            ..known.clone()
        });
        sum.quantity = sum.quantity.saturating_add(line.quantity);
    }
    Ok(back.into_values().collect())
}

#[cfg(test)]
mod tests;
