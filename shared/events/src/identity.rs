//! Ids that follow from other ids, so that deciding twice names the same thing twice.

use uuid::{Builder, Uuid};

/// The id of the one `kind` of thing that belongs to `parent`: its payment, its shipment.
///
/// A UUIDv7 that keeps the parent's timestamp; its random bits are a hash (SHA-1, as in UUIDv5)
/// of parent and kind. A reaction that runs again, on another replica or after a crash, arrives
/// at the same id, so whatever is keyed by it (a charge at the gateway, say) happens once.
pub fn derive_id(parent: Uuid, kind: &str) -> Uuid {
    let hash = Uuid::new_v5(&parent, kind.as_bytes()).into_bytes();
    let mut random = [0; 10];
    random.copy_from_slice(&hash[..10]);
    let [a, b, c, d, e, f, ..] = parent.into_bytes();
    let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parent_and_kind_give_the_same_id() {
        let order = Uuid::now_v7();
        assert_eq!(derive_id(order, "payment"), derive_id(order, "payment"));
        assert_ne!(derive_id(order, "payment"), derive_id(order, "shipment"));
        assert_ne!(derive_id(order, "payment"), derive_id(Uuid::now_v7(), "payment"));
    }

    #[test]
    fn a_derived_id_is_a_version_7_id_of_its_parents_time() {
        let order = Uuid::now_v7();
        let derived = derive_id(order, "payment");
        assert_eq!(derived.get_version_num(), 7);
        assert_eq!(derived.as_bytes()[..6], order.as_bytes()[..6]);
    }
}
