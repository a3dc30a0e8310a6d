//! What Kubernetes cannot read from `deploy/` is copied into `k8s/`, and stays a copy.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

#[test]
fn copies_for_kubernetes_are_fresh() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/generate");
    let checked = Command::new(script).arg("--check").output().unwrap();
    let (difference, said) = (
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr),
    );
    assert!(checked.status.success(), "{difference}{said}");
}
