//! Faults that happen inside a service, at a named place; only binaries built with `fault-points` know them.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Service, Shop};

impl Shop {
    /// Makes something happen when the service reaches the point: `abort`, `error` or `delay 500`.
    pub fn arm(&self, service: Service, point: &str, fault: &str) -> Result<()> {
        let known = messaging::fault_points::ALL.iter().any(|(name, _)| *name == point);
        ensure!(
            known || point == messaging::fault_points::POISONED,
            "there is no fault point {point}"
        );
        let folder = self.home.fault_points(service);
        fs::create_dir_all(&folder)?;
        // Written beside and moved in, so that it is never read half.
        let draft = folder.with_extension(point);
        fs::write(&draft, fault)?;
        fs::rename(&draft, folder.join(point)).with_context(|| format!("cannot arm {point}"))
    }

    /// Whether the point is still armed: not, once its fault has happened.
    pub fn is_armed(&self, service: Service, point: &str) -> bool {
        self.home.fault_points(service).join(point).exists()
    }

    /// Takes back what has not happened.
    pub fn disarm(&self, service: Service, point: &str) {
        let _ = fs::remove_file(self.home.fault_points(service).join(point));
    }
}
