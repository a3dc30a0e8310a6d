//! The rules of the points: what was earned stays earned.

use std::collections::BTreeMap;

/// The accounts that a batch touches, by what the points were earned for: an order's id, or a sku.
#[derive(Debug, Default)]
pub struct Newcomer {
    /// At most one a subject.
    pub accounts: BTreeMap<String, Account>,
}

/// What was earned for one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The sum.
    pub points: i64,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

impl Newcomer {
    /// Adds points to the account of a subject, which is opened if there is none.
    pub fn reward(&mut self, subject: String, points: i64) {
        let account = self.accounts.entry(subject).or_default();
        account.points += points;
        account.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The points of every subject once these were rewarded.
    fn earned(rewards: &[(String, i64)]) -> BTreeMap<String, i64> {
        let mut newcomer = Newcomer::default();
        for (subject, points) in rewards {
            newcomer.reward(subject.clone(), *points);
        }
        let accounts = newcomer.accounts.into_iter();
        accounts.map(|(subject, account)| (subject, account.points)).collect()
    }

    #[test]
    fn only_what_was_rewarded_is_saved() {
        let mut newcomer = Newcomer::default();
        newcomer.accounts.insert("idle".into(), Account::default());
        newcomer.reward("busy".into(), 2);
        let changed = newcomer.accounts.iter().filter(|(_, account)| account.changed);
        assert_eq!(changed.map(|(subject, _)| subject).collect::<Vec<_>>(), ["busy"]);
    }

    proptest! {
        #[test]
        fn the_order_of_rewards_does_not_matter_and_none_is_lost(
            (rewards, shuffled) in prop::collection::vec(("[a-c]", 0..100_i64), 0..20)
                .prop_flat_map(|rewards| (Just(rewards.clone()), Just(rewards).prop_shuffle())),
        ) {
            let expected = earned(&rewards);
            prop_assert_eq!(&earned(&shuffled), &expected);
            let sum: i64 = rewards.iter().map(|(_, points)| points).sum();
            prop_assert_eq!(expected.values().sum::<i64>(), sum);
        }
    }
}
