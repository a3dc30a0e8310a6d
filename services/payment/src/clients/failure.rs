//! Calls to the gateway that told nothing.

use std::time::Duration;

/// A call that did not tell what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// In a word, for those who look.
    pub trouble: &'static str,
    /// Whether the gateway may be, or come to be, doing what was asked.
    pub doubt: bool,
    /// How long the gateway wants to be left alone.
    pub retry_after: Duration,
}

impl Failure {
    /// Nobody was asked, because nobody would have answered.
    pub const UNREACHABLE: Self = Self::new("gateway_unavailable", false);
    /// Nobody was asked again, because so much fails that asking would only be a burden; for outsiders it is the same.
    pub const HELD_BACK: Self = Self::UNREACHABLE;
    /// The gateway has not made up its mind.
    pub const UNDECIDED: Self = Self::new("gateway_undecided", true);

    /// The gateway did not answer in time.
    pub const TIMEOUT: Self = Self::new("gateway_timeout", true);

    /// The gateway will not do it, however often it is asked; nothing was done.
    pub const REFUSED: Self = Self::new("refund_refused", false);

    /// Whether asking again is pointless.
    pub fn is_for_good(&self) -> bool {
        self.trouble == Self::REFUSED.trouble
    }

    pub(super) const fn new(trouble: &'static str, doubt: bool) -> Self {
        Self {
            trouble,
            doubt,
            retry_after: Duration::ZERO,
        }
    }
}
