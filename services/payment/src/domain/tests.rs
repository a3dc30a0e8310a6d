#![allow(clippy::unwrap_used)]
use super::*;
use events::Customer;
use proptest::prelude::*;

const SOON: Duration = Duration::from_secs(1);

fn reserved(order_id: Uuid, payment_method: &str) -> InventoryReserved {
    InventoryReserved {
        order_id,
        reservation_id: Uuid::now_v7(),
        lines: Vec::new(),
        amount: 2_500,
        currency: "EUR".into(),
        payment_method: payment_method.into(),
        customer: Customer {
            id: Uuid::now_v7(),
            email: "a@example.org".into(),
        },
        expires_at: chrono::DateTime::UNIX_EPOCH,
    }
}

/// What the gateway does with a call that could charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Charges,
    ChargesButIsNotHeard,
    ChargesLater,
    Declines,
    IsDown,
    CannotBeReached,
}

/// What happens around a payment.
#[derive(Debug, Clone, Copy)]
enum Step {
    Reserved,
    Cancelled,
    Attempt { mood: Mood, overdue: bool },
    OldAnswer,
    Notice,
}

/// One order's payment, the gateway, and everything that was ever told.
#[derive(Default)]
struct World {
    order_id: Uuid,
    payments: Payments,
    told: Vec<&'static str>,
    cancelled: bool,
    charged: bool,
    on_its_way: bool,
    declined: bool,
    notices: u32,
}

impl World {
    fn new() -> Self {
        Self {
            order_id: Uuid::now_v7(),
            ..Self::default()
        }
    }

    fn payment(&self) -> &Payment {
        &self.payments.payments[&self.order_id]
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reserved => {
                let told = self.payments.request(&reserved(self.order_id, "pm_card_visa")).unwrap();
                self.tell(told);
            }
            Step::Cancelled => {
                self.cancelled = true;
                let told = self.payments.undo(self.order_id);
                self.tell(told);
            }
            Step::Attempt { mood, overdue } => self.attempt(mood, overdue),
            Step::OldAnswer if self.charged => self.settle(
                1,
                Outcome::Charged {
                    gateway_ref: "pi".into(),
                },
            ),
            Step::OldAnswer => {}
            Step::Notice => {
                self.notices += 1;
                self.payments.notice(self.order_id, &format!("evt_{}", self.notices));
            }
        }
    }

    fn tell(&mut self, told: impl Emits) {
        self.told
            .extend(told.into_drafts().unwrap().iter().map(|draft| draft.event_type.name));
    }

    /// What the errand does: takes the payment, counts, and asks the gateway.
    fn attempt(&mut self, mood: Mood, overdue: bool) {
        let Some(payment) = self.payments.payments.get_mut(&self.order_id) else {
            return;
        };
        if payment.progress.due == Due::Never || payment.state == State::Refunding {
            return;
        }
        let pending = payment.state == State::Pending;
        let (wanted, last) = (pending && payment.undo == Undo::None && !overdue, pending && overdue);
        let doubt = payment.progress.doubt;
        payment.progress.attempts += 1;
        payment.progress.doubt |= wanted;
        let attempt = payment.progress.attempts;
        let unknown = |doubt| Outcome::Unknown {
            trouble: "gateway_unavailable",
            doubt,
            wait: SOON,
            last,
        };
        if attempt > 1 || !wanted {
            let known = match mood {
                Mood::CannotBeReached => Some(unknown(doubt)),
                _ if self.charged => Some(Outcome::Charged {
                    gateway_ref: "pi".into(),
                }),
                _ if self.declined => Some(Outcome::Declined { code: "no".into() }),
                _ if !wanted => Some(Outcome::NotCharged { look_again: SOON }),
                _ => None,
            };
            if let Some(outcome) = known {
                return self.settle(attempt, outcome);
            }
        }
        let outcome = self.call(mood, doubt, unknown);
        self.settle(attempt, outcome);
    }

    fn call(&mut self, mood: Mood, doubt: bool, unknown: impl Fn(bool) -> Outcome) -> Outcome {
        match mood {
            Mood::CannotBeReached | Mood::IsDown => unknown(doubt),
            _ if self.on_its_way => unknown(true),
            Mood::Charges => {
                self.charged = true;
                Outcome::Charged {
                    gateway_ref: "pi".into(),
                }
            }
            Mood::Declines => {
                self.declined = true;
                Outcome::Declined { code: "no".into() }
            }
            Mood::ChargesButIsNotHeard => {
                self.charged = true;
                unknown(true)
            }
            Mood::ChargesLater => {
                self.on_its_way = true;
                unknown(true)
            }
        }
    }

    /// A second look is so much later that what was on its way has arrived.
    fn settle(&mut self, attempt: i32, outcome: Outcome) {
        let looked = matches!(outcome, Outcome::NotCharged { .. });
        let told = self.payments.settle(self.order_id, attempt, outcome);
        self.tell(told);
        if looked && std::mem::take(&mut self.on_its_way) {
            self.charged = true;
        }
    }

    /// The gateway is well again; everything that is due is done.
    fn settle_down(&mut self, mood: Mood) {
        for _ in 0..4 {
            self.attempt(mood, true);
        }
        let refunded = self.payments.settle_refund(self.order_id, "re".into());
        self.tell(refunded);
    }

    fn count(&self, event: &str) -> usize {
        self.told.iter().filter(|told| **told == event).count()
    }
}

fn moods() -> impl Strategy<Value = Mood> {
    prop_oneof![
        Just(Mood::Charges),
        Just(Mood::ChargesButIsNotHeard),
        Just(Mood::ChargesLater),
        Just(Mood::Declines),
        Just(Mood::IsDown),
        Just(Mood::CannotBeReached),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let attempt = (moods(), any::<bool>()).prop_map(|(mood, overdue)| Step::Attempt { mood, overdue });
    let step = prop_oneof![
        2 => Just(Step::Reserved),
        1 => Just(Step::Cancelled),
        4 => attempt,
        1 => Just(Step::OldAnswer),
        1 => Just(Step::Notice),
    ];
    proptest::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever happens in whatever order, however often: told once, never both ways, and no money is lost.
    #[test]
    fn every_story_ends_with_the_truth_told_once(story in steps(), last in moods()) {
        let mut world = World::new();
        story.into_iter().for_each(|step| world.step(step));
        let last = if last == Mood::CannotBeReached { Mood::IsDown } else { last };
        world.settle_down(last);
        if !world.payments.payments.contains_key(&world.order_id) {
            return Ok(());
        }
        let payment = world.payment().clone();
        let told = world.told.clone();

        for event in ["PaymentSucceeded", "PaymentDeclined", "PaymentTimedOut", "PaymentVoided", "PaymentRefunded"] {
            prop_assert!(world.count(event) <= 1, "{event} was told more than once: {told:?}");
        }
        let outcomes = world.count("PaymentSucceeded") + world.count("PaymentDeclined") + world.count("PaymentTimedOut");
        let undone = world.count("PaymentVoided") + world.count("PaymentRefunded");
        prop_assert!(outcomes + undone >= 1, "the order is never left without an answer");
        prop_assert!(outcomes <= 1 && undone <= 1, "{told:?}");
        prop_assert!(world.count("PaymentSucceeded") + world.count("PaymentVoided") <= 1, "{told:?}");
        if world.cancelled {
            prop_assert_eq!(undone, 1, "who asks for an undo is answered: {:?}", told);
        }

        prop_assert!(payment.progress.due == Due::Never && !payment.unresolved);
        prop_assert_eq!(payment.captured > 0, world.charged, "the books agree with the gateway's");
        let kept = payment.captured - payment.refunded;
        prop_assert_eq!(kept, if payment.state == State::Succeeded { payment.amount } else { 0 });
        prop_assert_eq!(kept > 0, world.count("PaymentSucceeded") == 1 && undone == 0);
        let sales: i64 = world.payments.transfers.iter().map(|transfer| match transfer.credited {
            Account::Sales => transfer.amount,
            Account::GatewayReceivable => -transfer.amount,
        }).sum();
        prop_assert_eq!(sales, kept);

        let kinds: BTreeSet<String> = payment.news.iter().map(|fact| format!("{:?}", std::mem::discriminant(fact))).collect();
        prop_assert_eq!(kinds.len(), payment.news.len(), "something happened twice: {:?}", payment.news);
        let folded = Payment::fold(world.order_id, &payment.news);
        let facts_only = Payment { progress: folded.progress.clone(), news: Vec::new(), ..payment };
        prop_assert_eq!(facts_only, folded);
    }

    /// Heard in any order and as often as it likes, before the gateway was asked: nothing is ever charged.
    #[test]
    fn any_order_of_requesting_and_undoing_ends_the_same(
        heard in Just(vec![Step::Reserved, Step::Reserved, Step::Cancelled, Step::Cancelled]).prop_shuffle(),
    ) {
        let mut world = World::new();
        heard.into_iter().for_each(|step| world.step(step));
        prop_assert_eq!(&world.told, &["PaymentVoided"]);
        prop_assert_eq!((world.payment().state, world.payment().progress.due), (State::Voided, Due::Never));
    }
}

#[test]
fn a_card_number_is_declined_unseen_and_not_kept() {
    for number in [
        "4242424242424242",
        "4242 4242 4242 4242",
        "pm_4242424242424242",
        "",
        "pm card",
        "9pm",
    ] {
        let mut payments = Payments::default();
        let order_id = Uuid::now_v7();
        let declined = payments.request(&reserved(order_id, number)).unwrap().unwrap();
        assert_eq!(
            (declined.code.as_str(), declined.attempts),
            ("invalid_payment_method", 0)
        );
        let payment = &payments.payments[&order_id];
        assert_eq!(
            (payment.payment_method.as_str(), payment.progress.due),
            ("", Due::Never)
        );
    }
}

#[test]
fn a_failed_shipment_is_paid_back_once_and_is_a_fault_before_the_payment() {
    let mut world = World::new();
    assert!(world.payments.pay_back(world.order_id).is_err());
    world.step(Step::Reserved);
    assert!(world.payments.pay_back(world.order_id).is_err());
    world.attempt(Mood::Charges, false);
    world.payments.pay_back(world.order_id).unwrap();
    world.payments.pay_back(world.order_id).unwrap();
    let refunded = world.payments.settle_refund(world.order_id, "re".into()).unwrap();
    assert_eq!((refunded.amount, refunded.cause), (2_500, RefundCause::ShippingFailed));
    world.payments.pay_back(world.order_id).unwrap();
    assert_eq!(world.payments.settle_refund(world.order_id, "re".into()), None);
    assert_eq!(world.payments.transfers.len(), 2);
}

#[test]
fn nobody_is_told_of_a_void_while_a_call_may_be_on_its_way() {
    let mut world = World::new();
    world.step(Step::Reserved);
    world.attempt(Mood::ChargesLater, false);
    world.step(Step::Cancelled);
    world.attempt(Mood::IsDown, false);
    assert!(
        world.told.is_empty(),
        "the look-up found nothing, but the call may still arrive"
    );
    world.attempt(Mood::IsDown, false);
    world.settle_down(Mood::IsDown);
    assert_eq!(world.told, ["PaymentRefunded"]);
}

#[test]
fn an_answer_that_tells_nothing_counts_only_from_the_latest_attempt() {
    let mut world = World::new();
    world.step(Step::Reserved);
    world.attempt(Mood::IsDown, false);
    world.attempt(Mood::IsDown, false);
    world.settle(1, Outcome::NotCharged { look_again: SOON });
    world.settle(
        1,
        Outcome::Unknown {
            trouble: "gateway_timeout",
            doubt: true,
            wait: SOON,
            last: true,
        },
    );
    assert!(world.told.is_empty());
    assert_eq!(
        (world.payment().state, world.payment().progress.doubt),
        (State::Pending, false)
    );
}

#[test]
fn a_charge_that_shows_up_after_everything_was_given_up_goes_back() {
    let mut world = World::new();
    world.step(Step::Reserved);
    world.attempt(Mood::ChargesButIsNotHeard, false);
    world.attempt(Mood::CannotBeReached, true);
    assert_eq!(world.told, ["PaymentTimedOut"]);
    assert!(world.payment().unresolved);
    world.settle_down(Mood::IsDown);
    assert_eq!(world.told, ["PaymentTimedOut", "PaymentRefunded"]);
    assert_eq!(world.payment().cause, Some(RefundCause::ChargedTooLate));
}

#[test]
fn a_notice_is_acted_on_once() {
    let mut world = World::new();
    world.step(Step::Reserved);
    world.attempt(Mood::IsDown, false);
    world.payments.notice(world.order_id, "evt");
    assert_eq!(world.payment().progress.due, Due::In(Duration::ZERO));
    world.attempt(Mood::IsDown, false);
    world.payments.notice(world.order_id, "evt");
    assert_eq!(world.payment().progress.due, Due::In(SOON));
    world.payments.known_notices = std::mem::take(&mut world.payments.new_notices);
    world.payments.notice(world.order_id, "evt");
    assert_eq!(world.payment().progress.due, Due::In(SOON));
}
