//! A retry budget: however much fails at once, what is asked again is a tenth of what is asked for the first time,
//! beside a trickle that lets a quiet shop ask again at all.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many retries a first attempt pays for.
const SHARE: f64 = 0.1;
/// How many retries a second go beside that.
const TRICKLE: f64 = 10.0;
/// How many can be saved up.
const SAVINGS: f64 = 20.0;

/// What is left of the budget; it belongs to one replica and forgets with it.
#[derive(Debug, Default)]
pub(super) struct RetryBudget(Mutex<Option<Left>>);

#[derive(Debug, Clone, Copy)]
struct Left {
    retries: f64,
    as_of: Instant,
}

impl RetryBudget {
    /// Whether an attempt may be made; the first always may, and pays for others.
    pub(super) fn admit(&self, again: bool, now: Instant) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Left { retries, as_of } = left.unwrap_or(Left {
            retries: SAVINGS,
            as_of: now,
        });
        let earned = now.saturating_duration_since(as_of).as_secs_f64() * TRICKLE + if again { 0.0 } else { SHARE };
        let retries = (retries + earned).min(SAVINGS);
        let admitted = !again || retries >= 1.0;
        let spent = if again && admitted { 1.0 } else { 0.0 };
        *left = Some(Left {
            retries: retries - spent,
            as_of: now.max(as_of),
        });
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Row 27: When every call fails, retries are a tenth of the calls and a trickle, however many want to be made.
    #[test]
    fn retries_are_a_tenth_of_the_calls_however_many_fail() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        let (mut first, mut again) = (0, 0);
        for step in 0..60_000_u64 {
            let now = start + Duration::from_millis(step);
            first += i32::from(budget.admit(false, now));
            again += (0..5).filter(|_| budget.admit(true, now)).count() as i32;
        }
        assert_eq!(first, 60_000, "what was never asked is never held back");
        let allowed = SHARE * f64::from(first) + TRICKLE * 60.0 + SAVINGS;
        assert!(
            (allowed - 10.0..=allowed + 1.0).contains(&f64::from(again)),
            "{again} retries, {allowed} are allowed"
        );
    }

    #[test]
    fn a_quiet_shop_may_ask_again() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        assert!((0..20).all(|_| budget.admit(true, now)));
        assert!(!budget.admit(true, now));
        assert!(budget.admit(true, now + Duration::from_millis(150)));
    }
}
