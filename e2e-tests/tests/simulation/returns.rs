//! Returns in the simulation: customers who send pieces back, a desk that is picky, and refunds of moods.

use std::time::Duration;

use chrono::DateTime;
use events::{DAMAGED, Draft, Emits, RESELLABLE, ReturnedLine};
use order::domain::{Order, ReturnLine, ReturnState, ReturnWish};
use payment::domain::RefundState;
use uuid::Uuid;
use warehouse::domain::ReturnState as Desk;

use crate::{Pending, SKU, World};

const SOON: Duration = Duration::from_secs(1);

impl World<'_> {
    /// Wants to send pieces back, perhaps more than there are.
    pub(crate) fn send_back(&mut self, id: Uuid) -> Vec<Draft> {
        let return_id = Uuid::from_u128(self.rng.u128(..));
        let wish = ReturnWish {
            lines: vec![ReturnLine {
                sku: SKU.into(),
                quantity: self.rng.i64(1..3),
            }],
            reason: String::new(),
        };
        let order = self.orders.orders.get_mut(&id).unwrap();
        let (_, event) = order.request_return(return_id, &wish, DateTime::UNIX_EPOCH);
        event.into_drafts().unwrap()
    }

    /// Returns that are awaited, and refunds of returns that are due.
    pub(crate) fn open_returns(&self) -> (Vec<Uuid>, Vec<(Uuid, Uuid)>) {
        let awaited = self
            .warehouse
            .returns
            .iter()
            .filter(|(_, one)| one.state == Desk::Awaited);
        let payments = self.payments.payments.iter();
        let all = payments.flat_map(|(id, payment)| payment.refunds.iter().map(|(back, refund)| (*id, *back, refund)));
        let due = all
            .filter(|(.., refund)| refund.state == RefundState::Due)
            .map(|(id, back, _)| (id, back));
        (awaited.map(|(id, _)| *id).collect(), due.collect())
    }

    /// Takes the goods back in any condition, or refuses them.
    pub(crate) fn look_at_goods(&mut self, return_id: Uuid) -> Vec<Draft> {
        let quantity = self.warehouse.returns[&return_id].lines[0].quantity;
        let condition = if self.rng.bool() { RESELLABLE } else { DAMAGED };
        let found = [ReturnedLine {
            sku: SKU.into(),
            quantity,
            condition: condition.into(),
        }];
        match self.rng.u8(0..4) {
            0 => self.warehouse.reject(return_id).into_drafts().unwrap(),
            _ => self.warehouse.receive(return_id, &found).into_drafts().unwrap(),
        }
    }

    /// Gives back what a return is worth: done, done without an answer, put off, or refused until somebody looks.
    pub(crate) fn refund_return(&mut self, id: Uuid, return_id: Uuid) -> Vec<Draft> {
        let refund = self
            .payments
            .payments
            .get_mut(&id)
            .unwrap()
            .refunds
            .get_mut(&return_id)
            .unwrap();
        refund.progress.attempts += 1;
        let (attempt, amount) = (refund.progress.attempts, refund.amount);
        match if attempt > 4 { 0 } else { self.rng.u8(0..5) } {
            4 => {
                self.payments
                    .refuse_return_refund(id, return_id, attempt, "refund_refused");
                self.pending.push(Pending::OperatorLooks(id, return_id));
            }
            3 => self
                .payments
                .put_off_return_refund(id, return_id, attempt, ("gateway_unavailable", SOON)),
            mood => {
                // Under the refund's own key: the gateway gives it back once.
                self.gateway.get_mut(&id).unwrap().returned.insert(return_id, amount);
                if mood != 2 {
                    let settled = self.payments.settle_return_refund(id, return_id, "re".into());
                    return settled.into_drafts().unwrap();
                }
            }
        }
        Vec::new()
    }

    /// What must be true of a delivered order's returns once it is quiet; what they paid back.
    pub(crate) fn check_returns(&self, order: &Order) -> i64 {
        let (mut bought, mut back) = (order.lines[0].quantity, 0);
        for (id, one) in &order.returns {
            let (refund, restock) = (
                self.payments.payments[&order.id].refunds.get(id),
                self.stock.restocks.get(id),
            );
            match one.state() {
                ReturnState::Rejected => assert_eq!((refund, restock), (None, None)),
                ReturnState::Refunded => {
                    assert_eq!(
                        refund.map(|refund| (refund.state, refund.amount)),
                        Some((RefundState::Done, one.worth()))
                    );
                    assert!(restock.is_some());
                    bought -= one.lines[0].quantity;
                    back += one.worth();
                }
                state => panic!("a return is left {state:?}"),
            }
        }
        assert!(bought >= 0, "more came back than was bought");
        back
    }
}
