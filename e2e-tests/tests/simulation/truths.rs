//! What must be true at every step, and once it is quiet.

use email::domain::{State as Mail, Template};
use inventory::domain::ReservationState;
use order::domain::State;
use uuid::Uuid;
use warehouse::domain::State as Parcel;

use crate::{SKU, World};

impl World<'_> {
    /// What must be true at every moment.
    pub(crate) fn check_the_step(&self) {
        let article = &self.stock.articles[SKU];
        assert!(
            (0..=article.on_hand).contains(&article.reserved),
            "oversold: {article:?}"
        );
        let once = ["OrderConfirmed", "OrderCompleted", "OrderCancelled", "OrderShipped"];
        for ((id, event), times) in &self.told {
            let returns = self.orders.orders[id].returns.len() as u32;
            let most = match *event {
                "PaymentRefunded" => returns.max(1),
                "OrderReturnRequested" | "InventoryRestocked" | "OrderRefunded" => returns,
                _ if once.contains(event) => 1,
                _ => u32::MAX,
            };
            assert!(*times <= most, "{event} of {id} was told {times} times");
        }
        assert!(
            self.gateway
                .values()
                .all(|account| account.charged || !account.refunded)
        );
    }

    /// What must be true of an order once it is quiet.
    pub(crate) fn check_the_end(&self, id: Uuid) {
        let (order, account) = (&self.orders.orders[&id], &self.gateway[&id]);
        let told = |event| self.told.get(&(id, event)).copied().unwrap_or(0);
        assert_eq!(told("OrderCompleted") + told("OrderCancelled"), 1, "{order:?}");
        assert_eq!(order.waits(), None, "somebody still owes something: {order:?}");
        let payment = self.payments.payments.get(&id);
        let paid = payment.map_or((0, 0), |payment| (payment.captured, payment.refunded));
        let booked = (
            i64::from(account.charged) * order.total,
            i64::from(account.refunded) * order.total + account.returned.values().sum::<i64>(),
        );
        assert_eq!(paid, booked, "payment and gateway disagree: {payment:?}");
        let moved = self
            .payments
            .transfers
            .iter()
            .filter(|transfer| transfer.order_id == id);
        assert_eq!(
            moved.map(|transfer| transfer.amount).sum::<i64>(),
            paid.0 + paid.1,
            "the ledger"
        );
        let held = self.stock.reservations.get(&id).map(|reservation| reservation.state);
        let parcel = self.warehouse.shipments.get(&id).map(|shipment| shipment.state);
        let mails: Vec<_> = self.mailroom.orders[&id]
            .notifications
            .iter()
            .map(|(mail, one)| (*mail, one.state))
            .collect();
        if matches!(order.state(), State::Completed | State::Refunded) {
            let back = self.check_returns(order);
            assert_eq!(order.state() == State::Refunded, back == order.total, "{order:?}");
            assert_eq!(
                (paid, held),
                ((order.total, back), Some(ReservationState::Committed)),
                "{order:?}"
            );
            assert_eq!(parcel, Some(Parcel::Delivered));
            assert!(mails.iter().all(|(_, state)| *state == Mail::Sent), "{mails:?}");
            // Confirmed and shipped; and each return expected, and paid back or rejected.
            assert_eq!(mails.len(), 2 + 2 * order.returns.len(), "{mails:?}");
        } else {
            assert_eq!(paid.0, paid.1, "what was taken went back: {payment:?}");
            assert!(
                !matches!(held, Some(ReservationState::Held | ReservationState::Committed)),
                "{held:?}"
            );
            assert!(
                matches!(parcel, None | Some(Parcel::Cancelled | Parcel::Failed)),
                "{parcel:?}"
            );
            assert!(
                mails.contains(&(Template::OrderCancelled.into(), Mail::Sent)),
                "{mails:?}"
            );
        }
        let sold: i64 = self.stock.movements.iter().map(|movement| movement.delta).sum();
        let article = &self.stock.articles[SKU];
        assert_eq!((article.on_hand, article.reserved), (self.pieces + sold, 0), "stock");
    }
}
