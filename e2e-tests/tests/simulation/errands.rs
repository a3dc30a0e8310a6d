//! What services do unasked, as `payment/src/tasks.rs` and `warehouse/src/tasks.rs` do it, and a gateway of moods.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use email::domain::{Outcome as Mailed, State as Mail, Topic};
use events::{Draft, Emits};
use payment::domain::{Due, Outcome, State as Paid, Undo};
use uuid::Uuid;
use warehouse::domain::{Handover, State as Parcel};

use crate::{Pending, World};

const SOON: Duration = Duration::from_secs(1);

/// Work that waits in a service's table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Errand {
    Charge,
    Refund,
    Dispatch,
    Deliver,
    Mail(Topic),
    LookAtGoods(Uuid),
    RefundReturn(Uuid),
}

/// What the gateway's own book says about an order.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) charged: bool,
    pub(crate) refunded: bool,
    /// What it gave back for returns, by return.
    pub(crate) returned: BTreeMap<Uuid, i64>,
    declined: bool,
    on_its_way: bool,
}

impl World<'_> {
    /// What is due, by order.
    pub(crate) fn errands(&self) -> Vec<(Uuid, Errand)> {
        let mut due = Vec::new();
        for (id, payment) in &self.payments.payments {
            if payment.progress.due != Due::Never {
                let refund = payment.state == Paid::Refunding;
                due.push((*id, if refund { Errand::Refund } else { Errand::Charge }));
            }
        }
        for (id, shipment) in &self.warehouse.shipments {
            let asked = |pending: &Pending| matches!(pending, Pending::CarrierAnswered(of, _) if of == id);
            match shipment.state {
                Parcel::Scheduled if !self.pending.iter().any(asked) => due.push((*id, Errand::Dispatch)),
                Parcel::Dispatched => due.push((*id, Errand::Deliver)),
                _ => {}
            }
        }
        for (id, mail) in &self.mailroom.orders {
            let pending = mail.notifications.iter().filter(|(_, one)| one.state == Mail::Pending);
            due.extend(pending.map(|(topic, _)| (*id, Errand::Mail(*topic))));
        }
        let (awaited, refunds) = self.open_returns();
        due.extend(
            awaited
                .into_iter()
                .map(|back| (self.warehouse.returns[&back].order_id, Errand::LookAtGoods(back))),
        );
        due.extend(refunds.into_iter().map(|(id, back)| (id, Errand::RefundReturn(back))));
        due
    }

    pub(crate) fn run_errand(&mut self, id: Uuid, errand: Errand) {
        self.history.push(format!("{errand:?} of {id}"));
        let drafts = match errand {
            Errand::Charge => return self.charge(id),
            Errand::Refund => self.refund(id),
            Errand::Dispatch => {
                let refused = self.warehouse.shipments[&id].parcel.as_ref().unwrap();
                let refused = refused.ship_to.as_ref().is_some_and(|address| address.country == "XX");
                let answer = match refused {
                    true => Handover::Refused {
                        code: "undeliverable_address".into(),
                    },
                    false => Handover::Accepted { tracking: "SP1".into() },
                };
                return self.pending.push(Pending::CarrierAnswered(id, answer));
            }
            Errand::Deliver => self.warehouse.deliver(id, DateTime::UNIX_EPOCH).into_drafts().unwrap(),
            Errand::LookAtGoods(back) => self.look_at_goods(back),
            Errand::RefundReturn(back) => self.refund_return(id, back),
            Errand::Mail(topic) => self
                .mailroom
                .settle(id, topic, Mailed::Delivered)
                .into_drafts()
                .unwrap(),
        };
        self.tell(drafts);
    }

    /// Takes the payment, counts, and asks the gateway; one worker in six dies before it can settle the answer.
    fn charge(&mut self, id: Uuid) {
        if self.rng.u8(0..6) == 0 {
            self.overdue.insert(id);
        }
        let payment = self.payments.payments.get_mut(&id).unwrap();
        let (pending, overdue) = (payment.state == Paid::Pending, self.overdue.contains(&id));
        let (wanted, last) = (pending && !overdue && payment.undo == Undo::None, pending && overdue);
        let doubt = payment.progress.doubt;
        payment.progress.attempts += 1;
        payment.progress.doubt |= wanted;
        let attempt = payment.progress.attempts;
        let outcome = self.ask(id, attempt, wanted, |unanswered| Outcome::Unknown {
            trouble: "gateway_timeout",
            doubt: doubt || unanswered,
            wait: SOON,
            last,
        });
        if attempt > 6 || self.rng.u8(0..6) != 0 {
            self.pending.push(Pending::ChargeAnswered(id, attempt, outcome));
        }
    }

    /// What was asked for before is looked up before it is asked for again.
    fn ask(&mut self, id: Uuid, attempt: i32, wanted: bool, unknown: impl Fn(bool) -> Outcome) -> Outcome {
        let mood = if attempt > 6 { 0 } else { self.rng.u8(0..10) };
        let charged = || Outcome::Charged {
            gateway_ref: "pi".into(),
        };
        let account = self.gateway.get_mut(&id).unwrap();
        if attempt > 1 || !wanted {
            match (mood, account.charged, account.declined) {
                (9, ..) => return unknown(false),
                (_, true, _) => return charged(),
                (_, _, true) => return Outcome::Declined { code: "no".into() },
                (..) => {}
            }
            // Whatever is still on its way has arrived before anybody looks again.
            if !wanted {
                self.land(id);
                return Outcome::NotCharged { look_again: SOON };
            }
        }
        match mood {
            9 => unknown(false),
            8 => {
                account.on_its_way = true;
                self.pending.push(Pending::ChargeLands(id));
                unknown(true)
            }
            7 => {
                account.charged = true;
                unknown(true)
            }
            6 if !account.on_its_way => {
                account.declined = true;
                Outcome::Declined { code: "no".into() }
            }
            _ => {
                (account.charged, account.on_its_way) = (true, false);
                charged()
            }
        }
    }

    pub(crate) fn land(&mut self, id: Uuid) {
        let account = self.gateway.get_mut(&id).unwrap();
        account.charged |= std::mem::take(&mut account.on_its_way) && !account.declined;
    }

    fn refund(&mut self, id: Uuid) -> Vec<Draft> {
        let payment = self.payments.payments.get_mut(&id).unwrap();
        payment.progress.refund_attempts += 1;
        let attempt = payment.progress.refund_attempts;
        // Refused, or given back without an answer.
        match if attempt > 4 { 0 } else { self.rng.u8(0..4) } {
            3 => self.payments.put_off_refund(id, attempt, "gateway_refuses", SOON),
            mood => {
                self.gateway.get_mut(&id).unwrap().refunded = true;
                if mood != 2 {
                    return self.payments.settle_refund(id, "re".into()).into_drafts().unwrap();
                }
            }
        }
        Vec::new()
    }
}
