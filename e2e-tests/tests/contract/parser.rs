//! The AsyncAPI project's own parser, from npm; kept in `target/asyncapi` for the next time.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Fails with what the parser objects to; says so and passes where there is no npm to get it from.
pub(crate) fn validate(root: &Path, document: &str) {
    let (script, cache) = (root.join("e2e-tests/asyncapi"), root.join("target/asyncapi"));
    fs::create_dir_all(&cache).unwrap();
    if let Err(reason) = install(&script, &cache) {
        eprintln!("skipped: the AsyncAPI parser cannot be had here ({reason})");
        return;
    }
    let path = cache.join("asyncapi.yaml");
    fs::write(&path, document).unwrap();
    let run = Command::new("node")
        .arg(cache.join("validate.mjs"))
        .arg(&path)
        .output()
        .unwrap();
    let (said, objections) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "docs/asyncapi.yaml is not valid:\n{objections}");
    println!("{said}");
}

fn install(script: &Path, cache: &Path) -> Result<(), String> {
    for file in ["package.json", "validate.mjs"] {
        fs::copy(script.join(file), cache.join(file)).unwrap();
    }
    let wanted = fs::read_to_string(script.join("package.json")).unwrap();
    let stamp = cache.join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let npm = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--loglevel=error",
        ])
        .current_dir(cache)
        .output();
    let output = npm.map_err(|error| format!("npm: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(reason.lines().next().unwrap_or("npm failed").to_owned());
    }
    fs::write(&stamp, wanted).map_err(|error| error.to_string())
}
